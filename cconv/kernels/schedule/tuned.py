"""Tables of tuned choices: what tools/tune.py writes and CCONV_SCHEDULE names, a JSON file.

    {"schema": 1, "cconv": "0.1.0", "build": "avx512", "processor": "...", "threads": 2, "date": "2026-01-31",
    "choices": [
    {"role": "forward", "geometry": {"batch": 16, "channels": 64, "outputs": 64, "groups": 1, ...},
     "algorithms": {"fast": "conv_winograd", "direct": "conv_direct"},
     "ms": {"conv_direct": 10.6, "conv_winograd": 3.6}},
    ...]}

A choice holds for its own batch size and those near it: how well an algorithm does depends on how many pixels there
are, and a last batch or an evaluation is rarely far off. It says nothing of other geometries.

Algorithms have no parameters today. Once a measurement asks for one, it becomes another field of a choice, and SCHEMA
counts up. What the names mean, schedule.py knows.
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

# A choice holds for batches up to so many times larger or smaller than the measured one.
BATCH_FACTOR = 4


@dataclass(frozen=True)
class Choice:
    """The algorithms for one pass of one geometry.

    Attributes:
        role: "forward", "input_gradient" or "weight_gradient".
        algorithms: by precision, the name of a kernel module.
        ms: milliseconds that each algorithm took, for readers.
    """

    role: str
    geometry: ConvGeometry
    algorithms: Mapping[str, str]
    ms: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """Choices, and what they were measured with.

    Attributes:
        build, threads: of the kernels that were measured.
        date: in ISO's form.
        path: the file the table was read from.
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
        """The choice for this pass at the nearest batch size within BATCH_FACTOR; of two as near, the smaller one's."""
        batch, batches = geometry.batch, self._batches.get(_key(role, geometry), {})
        near = [n for n in batches if n <= BATCH_FACTOR * batch and batch <= BATCH_FACTOR * n]
        nearest = min(near, key=lambda n: (max(n, batch) / min(n, batch), n), default=None)
        return None if nearest is None else batches[nearest]

    @property
    def place(self) -> str:
        return f"schedule '{self.path}'"

    def error(self, rule: str, found: str) -> ScheduleError:
        """An error that names the file."""
        fix = "Make it anew with tools/tune.py, or unset CCONV_SCHEDULE."
        return ScheduleError(explain(self.place, rule, found, fix))


def _key(role: str, geometry: ConvGeometry) -> tuple[str, ConvGeometry]:
    return role, dataclasses.replace(geometry, batch=1)


HEAD = {"cconv": str, "build": str, "processor": str, "threads": int, "date": str}


def to_json(table: Table) -> str:
    """The text of a file, a line for each choice."""
    head = json.dumps({"schema": SCHEMA, **{name: getattr(table, name) for name in HEAD}})
    lines = ",\n".join(json.dumps(dataclasses.asdict(choice)) for choice in table.choices)
    return f'{head[:-1]}, "choices": [\n{lines}\n]}}\n'


def read(path: str | os.PathLike[str]) -> Table:
    """The table in a file.

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
    """Values that are not a table's: the rule, what was found."""


def _object(place: str, value: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """`value` as an object with exactly these fields."""
    if not isinstance(value, dict) or set(value) != set(kinds):
        found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
        raise _Damaged(f"{place} has the fields {', '.join(kinds)}", found)
    for name, kind in kinds.items():
        if type(value[name]) is not kind:  # True is an int, too
            raise _Damaged(f"{name} of {place} is of type {kind.__name__}", repr(value[name]))
    return dict(value)


def _choice(place: str, value: Any) -> Choice:
    fields = _object(place, value, {"role": str, "geometry": dict, "algorithms": dict, "ms": dict})
    if not all(type(name) is str for name in fields["algorithms"].values()):
        raise _Damaged(f"algorithms of {place} are names", repr(fields["algorithms"]))
    if not all(type(ms) in (int, float) for ms in fields["ms"].values()):
        raise _Damaged(f"ms of {place} are numbers", repr(fields["ms"]))
    return Choice(**{**fields, "geometry": _geometry(f"the geometry of {place}", fields["geometry"])})


def _geometry(place: str, value: Any) -> ConvGeometry:
    """A geometry out of its fields, axes as lists of three."""
    numbers = ("batch", "channels", "outputs", "groups")
    axes = ("input", "output", "kernel", "stride", "dilation", "pad")
    fields = _object(place, value, {**dict.fromkeys(numbers, int), **dict.fromkeys(axes, list)})
    for name in axes:
        if len(fields[name]) != 3 or not all(type(n) is int for n in fields[name]):
            raise _Damaged(f"{name} of {place} is three whole numbers", repr(fields[name]))
        fields[name] = tuple(fields[name])
    try:
        geometry = ConvGeometry(**fields)
    except ValueError as error:
        raise _Damaged(f"{place} is a convolution's", str(error)) from error
    if min(geometry.batch, geometry.channels, geometry.outputs) < 1:
        raise _Damaged(f"{place} has a batch, channels and outputs", repr(fields))
    return geometry
