"""The registry: losses, optimizers, schedules, metrics and callbacks by name.

`Trainer` takes names from it, checkpoints store names and options, the command line lists names. Each kind has a
package (losses/, optim/, ...) whose `__init__` imports one file for each entry; a public class there with an attribute
`name` is an entry. So an entry is added by a file, a line in that `__init__`, and cases in tests/train/cases.

Nothing in a checkpoint is resolved to code: `restored` looks names up here and knows no others. A class of the user's
own is known once it is passed to `register`.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from cconv.arguments import closest
from cconv.errors import ValueRangeError, explain
from cconv.train import callbacks, losses, metrics, optim, schedules

PACKAGES: dict[str, ModuleType] = {
    "loss": losses,
    "optimizer": optim,
    "schedule": schedules,
    "metric": metrics,
    "callback": callbacks,
}


def _entries(package: ModuleType) -> dict[str, type]:
    public = [getattr(package, name) for name in package.__all__]
    # A package may re-export classes of another one: optim does so with the schedules.
    classes = [kind for kind in public if isinstance(kind, type) and kind.__module__.startswith(f"{package.__name__}.")]
    named = [(vars(kind).get("name"), kind) for kind in classes]
    return {name: kind for name, kind in named if isinstance(name, str)}


_registry: dict[str, dict[str, type]] = {kind: _entries(package) for kind, package in PACKAGES.items()}


def register(kind: str, entry: type) -> type:
    """Add a class of the user's own, so that a Trainer that uses it can be saved.

    Args:
        kind: "loss", "optimizer", "schedule", "metric" or "callback".
        entry: a dataclass with a class attribute `name`; its fields are numbers, bools, strings, None, other entries,
            or lists and dicts of them.

    Returns:
        The class.

    Raises:
        ValueRangeError: no such kind, no dataclass, no name, or a name that is taken.
    """
    if kind not in _registry:
        raise ValueRangeError(explain("register", f"kind is one of {', '.join(_registry)}", repr(kind)))
    name = vars(entry).get("name")
    if not dataclasses.is_dataclass(entry) or not isinstance(name, str):
        raise ValueRangeError(explain("register", "the class is a dataclass with an attribute `name`", repr(entry)))
    if _registry[kind].get(name, entry) is not entry:
        raise ValueRangeError(explain("register", f"the name of a {kind} is not taken", repr(name)))
    _registry[kind][name] = entry
    return entry


def names(kind: str) -> list[str]:
    """Names of all entries of a kind."""
    return list(_registry[kind])


def find(kind: str, name: str) -> type:
    """The entry of that name.

    Raises:
        ValueRangeError: no such entry.
    """
    known = _registry[kind]
    if name not in known:
        shown = ", ".join(repr(each) for each in known)
        raise ValueRangeError(explain(kind, f"is one of {shown}", repr(name), closest(name, known)))
    return known[name]


def made(kind: str, name: str) -> Any:
    """The entry of that name with its default options.

    Raises:
        ValueRangeError: no such entry, or one whose options have no defaults.
    """
    entry = find(kind, name)
    try:
        return entry()
    except TypeError:
        needed = [
            each.name
            for each in dataclasses.fields(entry)
            if each.default is each.default_factory is dataclasses.MISSING
        ]
        example = f"{entry.__name__}({', '.join(f'{option}=...' for option in needed)})"
        rule = f"{name!r} needs {', '.join(needed)}"
        raise ValueRangeError(explain(kind, rule, "a name alone", f"Give {example}.")) from None


def described(kind: str, item: Any, place: str) -> Any:
    """An entry as {"kind": ..., "name": ..., options...}, and whatever JSON can hold as it is.

    Raises:
        ValueRangeError: an object that is no entry of `kind`, or holds something that cannot be described.
    """
    if _registry[kind].get(vars(type(item)).get("name", "")) is not type(item):
        raise ValueRangeError(
            explain(
                place,
                f"is one of {', '.join(entry.__name__ for entry in _registry[kind].values())}, "
                "so that a checkpoint need not name code",
                f"a {type(item).__name__}",
                f"Register your own class: cconv.train.registry.register({kind!r}, {type(item).__name__}).",
            )
        )
    return _plain(item, place)


def _plain(item: Any, place: str) -> Any:
    kind = next((k for k, known in _registry.items() if type(item) in known.values()), None)
    if kind is not None:
        options = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
        return {"kind": kind, "name": type(item).name, **{key: _plain(value, place) for key, value in options.items()}}
    if item is None or isinstance(item, (bool, str)):
        return item
    if isinstance(item, (tuple, list)):
        return [_plain(value, place) for value in item]
    if isinstance(item, Mapping):
        return {"values": {str(key): _plain(value, place) for key, value in item.items()}}
    if isinstance(item, numbers.Real):  # NumPy's too, which JSON does not know
        return int(item) if isinstance(item, numbers.Integral) else float(item)
    known = ", ".join(entry.__name__ for entry in _registry["schedule"].values())
    raise ValueRangeError(
        explain(
            place,
            f"holds numbers, strings and registered objects (schedules: {known})",
            f"a {type(item).__name__}",
            "Register your own class: cconv.train.registry.register(kind, class).",
        )
    )


def restored(item: Any) -> Any:
    """The inverse of `described`.

    Raises:
        ValueRangeError: a name that is not known here, or options out of range.
        TypeError, KeyError: options that the entry does not have.
    """
    if isinstance(item, list):
        return tuple(restored(value) for value in item)
    if not isinstance(item, dict):
        return item
    if "values" in item:
        return {key: restored(value) for key, value in item["values"].items()}
    kind = item["kind"]
    if kind not in _registry:
        raise ValueRangeError(explain("record", f"a kind is one of {', '.join(_registry)}", repr(kind)))
    options = {key: restored(value) for key, value in item.items() if key not in ("kind", "name")}
    return find(kind, item["name"])(**options)
