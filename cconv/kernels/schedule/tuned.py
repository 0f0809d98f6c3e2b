"""Tables of tuned algorithm choices: JSON files that tools/tune.py writes and the variable CCONV_SCHEDULE names.

    {"schema": 1, "cconv": "0.1.0", "build": "avx512", "processor": "...", "threads": 2, "date": "2026-01-31",
    "choices": [
    {"role": "forward", "geometry": {"batch": 16, "channels": 64, "outputs": 64, "groups": 1, ...},
     "algorithms": {"fast": "conv_winograd", "direct": "conv_direct"},
     "ms": {"conv_direct": 10.6, "conv_winograd": 3.6}},
    ...]}

A choice applies to the measured batch size and to similar ones (BATCH_FACTOR): the speed of an algorithm depends on the
number of pixels, and the last batch or an evaluation rarely has a very different size. A choice does not apply to other
geometries.

Algorithms have no parameters today. If an algorithm gets one, it becomes another field of a choice, and SCHEMA is
incremented. algorithms.py maps the names to kernel modules.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cconv.errors import ScheduleError, explain
from cconv.kernels.conv.geometry import ConvGeometry

SCHEMA = 1

# A choice applies to batch sizes up to this many times larger or smaller than the measured one.
BATCH_FACTOR = 4


@dataclass(frozen=True)
class Choice:
    """The fastest measured algorithms for one pass of one geometry.

    Attributes:
        role: "forward", "input_gradient" or "weight_gradient".
        geometry: sizes of the convolution, with the measured batch size.
        algorithms: for each precision, "fast" and "direct", the name of an algorithm.
        ms: milliseconds that each algorithm took; only for information.
    """

    role: str
    geometry: ConvGeometry
    algorithms: Mapping[str, str]
    ms: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """Tuned choices, and the conditions under which they were measured.

    Attributes:
        cconv: version of cconv that was measured.
        build: name of the build that was measured, such as "avx512".
        processor: name of the processor.
        threads: number of threads.
        date: date of the measurement, as YYYY-MM-DD.
        choices: the choices, at most one per role and geometry (including the batch size).
        path: the file that the table was read from.
    """

    cconv: str
    build: str
    processor: str
    threads: int
    date: str
    choices: Sequence[Choice]
    path: str = ""
    _batches: dict[tuple[str, ConvGeometry], dict[int, Choice]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for choice in self.choices:
            batches = self._batches.setdefault(_key(choice.role, choice.geometry), {})
            if batches.setdefault(choice.geometry.batch, choice) is not choice:
                raise self.error("must have one choice for a pass", f"two for the {choice.role} of {choice.geometry}")

    def find(self, geometry: ConvGeometry, role: str) -> Choice | None:
        """The choice for this pass at the nearest batch size within BATCH_FACTOR. None if there is none.

        The nearest has the smallest ratio of the two sizes. If two are equally near, the smaller size is used.
        """
        batch, batches = geometry.batch, self._batches.get(_key(role, geometry), {})
        near = [n for n in batches if n <= BATCH_FACTOR * batch and batch <= BATCH_FACTOR * n]
        nearest = min(near, key=lambda n: (max(n, batch) / min(n, batch), n), default=None)
        return None if nearest is None else batches[nearest]

    @property
    def place(self) -> str:
        return f"schedule '{self.path}'"

    def error(self, rule: str, found: str) -> ScheduleError:
        """A ScheduleError that names the file, the broken rule, the value found, and a remedy."""
        fix = "Create the table again with tools/tune.py, or unset CCONV_SCHEDULE."
        return ScheduleError(explain(self.place, rule, found, fix))


def _key(role: str, geometry: ConvGeometry) -> tuple[str, ConvGeometry]:
    return role, dataclasses.replace(geometry, batch=1)


HEAD = {"cconv": str, "build": str, "processor": str, "threads": int, "date": str}


def to_json(table: Table) -> str:
    """The JSON text of a table, with one line per choice."""
    head = json.dumps({"schema": SCHEMA, **{name: getattr(table, name) for name in HEAD}})
    lines = ",\n".join(json.dumps(dataclasses.asdict(choice)) for choice in table.choices)
    return f'{head[:-1]}, "choices": [\n{lines}\n]}}\n'


def read(path: str | os.PathLike[str]) -> Table:
    """Read the table in a file.

    Raises:
        ScheduleError: the file cannot be read, is damaged, or has another schema.
    """
    place = Table("", "", "", 0, "", (), os.fspath(path))
    try:
        fields = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise place.error("must be a file that can be read", str(error.strerror)) from error
    except (ValueError, RecursionError) as error:
        raise place.error("must be JSON", str(error)) from error
    schema = fields.get("schema") if isinstance(fields, dict) else None
    if schema != SCHEMA:
        raise place.error(f"must have schema {SCHEMA}, which this version of cconv reads", f"schema {schema!r}")
    try:
        fields = _object("the table", fields, {"schema": int, **HEAD, "choices": list})
        del fields["schema"]
        choices = [_choice(f"choice {i}", value) for i, value in enumerate(fields.pop("choices"))]
    except _Damaged as error:
        raise place.error(*error.args) from error
    return Table(**fields, choices=choices, path=place.path)


class _Damaged(Exception):
    """Raised for a value that is not valid in a table. Its arguments: the rule, the value found."""


def _object(place: str, value: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Check that a JSON value is an object with exactly the fields in `kinds`, of these types. Returns a copy."""
    if not isinstance(value, dict) or set(value) != set(kinds):
        found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise _Damaged(f"{place} must have the fields {', '.join(kinds)}", found)
    for name, kind in kinds.items():
        if type(value[name]) is not kind:  # not isinstance: True is an int, too
            raise _Damaged(f"{name} of {place} must be of type {kind.__name__}", repr(value[name]))
    return dict(value)


def _choice(place: str, value: Any) -> Choice:
    fields = _object(place, value, {"role": str, "geometry": dict, "algorithms": dict, "ms": dict})
    if not all(type(name) is str for name in fields["algorithms"].values()):
        raise _Damaged(f"algorithms of {place} must be names", repr(fields["algorithms"]))
    if not all(type(ms) in (int, float) for ms in fields["ms"].values()):
        raise _Damaged(f"ms of {place} must be numbers", repr(fields["ms"]))
    return Choice(**{**fields, "geometry": _geometry(f"the geometry of {place}", fields["geometry"])})


def _geometry(place: str, value: Any) -> ConvGeometry:
    """Convert a JSON object to a ConvGeometry. Sizes along the axes are lists of three integers."""
    numbers = ("batch", "channels", "outputs", "groups")
    axes = ("input", "output", "kernel", "stride", "dilation", "pad")
    fields = _object(place, value, {**dict.fromkeys(numbers, int), **dict.fromkeys(axes, list)})
    for name in axes:
        if len(fields[name]) != 3 or not all(type(n) is int for n in fields[name]):
            raise _Damaged(f"{name} of {place} must be three integers", repr(fields[name]))
        fields[name] = tuple(fields[name])
    try:
        geometry = ConvGeometry(**fields)
    except ValueError as error:
        raise _Damaged(f"{place} must be a valid convolution", str(error)) from error
    if min(geometry.batch, geometry.channels, geometry.outputs) < 1:
        raise _Damaged(f"{place} must have a batch, channels and outputs of at least 1", repr(fields))
    return geometry
