"""Which weights are trained, and what each BatchNormalization does while they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from cconv.errors import TrainingError, ValueRangeError, explain
from cconv.graph.nodes import Node, unsupported, with_subgraphs
from cconv.ops.batchnorm import BatchNormalization
from cconv.train.options import closest

Trainable = str | Iterable[str] | Callable[[str], bool] | None

MODES = ("batch", "frozen", "statistics")


def reached_weights(
    nodes: Sequence[Node], outputs: Iterable[str], weights: Collection[str], modes: Mapping[str, str]
) -> list[str]:
    """The weights that a gradient from `outputs` can come to, in the order of `weights`.

    Scale and bias of a BatchNormalization in the mode "statistics" stay as they are and are not among them.

    Raises:
        UnsupportedOpError: one error that names all operators on the gradient's way that cconv does not have.
    """
    carrying = set(outputs)
    missing = []
    for node in reversed(nodes):
        if carrying.isdisjoint(node.outputs):
            continue
        operator = node.operator
        if not node.supported:
            missing.append(node)
        allowed = operator.differentiable if operator else None
        for i, name in enumerate(node.inputs):
            fixed = i > 0 and modes.get(node.name) == "statistics"
            if name and not fixed and (allowed is None or i in allowed):
                carrying.add(name)
    if missing:
        raise unsupported(missing[::-1])
    return [name for name in weights if name in carrying]


def trained_by_name(nodes: Sequence[Node]) -> set[str]:
    """Weights that are trained only where they are named: the scales of quantisation."""
    return {
        name
        for node in with_subgraphs(nodes)
        if node.operator
        for i, name in enumerate(node.inputs)
        if i in node.operator.trained_by_name
    }


def select_weights(
    wish: Trainable, reached: Sequence[str], weights: Collection[str], by_name: Collection[str] = ()
) -> tuple[str, ...]:
    """The weights to train, out of those `reached`, in their order.

    Args:
        wish: None for all but those `by_name`; a name, a glob pattern, or several; or a function that says yes to a
            name. What is a weight's name is no pattern.
        weights: all weights of the model, to tell a frozen name from a mistyped one.
        by_name: weights that are trained only where they are named.

    Raises:
        TrainingError: an entry matches nothing that can be trained, or nothing is left to train.
    """
    if wish is None:
        chosen = set(reached).difference(by_name)
    elif callable(wish):
        chosen = {name for name in reached if wish(name)}
    else:
        chosen = set()
        for entry in (wish,) if isinstance(wish, str) else wish:
            found = matches(entry, reached)
            if not found:
                raise TrainingError(_unmatched(entry, reached, weights))
            chosen.update(found)
    if not chosen:
        what = "no weight that a gradient of the loss comes to"
        if reached:
            what = "none" if wish is not None else "none beside scales of quantisation, which must be named"
        raise TrainingError(
            explain(
                "trainable",
                "names at least one weight",
                what,
                f"The model's: {', '.join(repr(name) for name in list(reached)[:5])}." if reached else "",
            )
        )
    return tuple(name for name in reached if name in chosen)


def matches(pattern: str, names: Collection[str]) -> list[str]:
    """The name itself if it is one, else all that the glob pattern matches."""
    return [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]


def _unmatched(entry: str, reached: Sequence[str], weights: Collection[str]) -> str:
    if known := matches(entry, weights):
        return explain(
            f"trainable entry {entry!r}",
            "names weights that a gradient of the loss comes to",
            f"{known[0]!r}, to which none comes (running statistics, a shape, or not on the way to the loss)",
            closest(entry, reached),
        )
    return explain(
        f"trainable entry {entry!r}", "is a weight's name or a pattern", "no match", closest(entry, reached)
    )


def batchnorm_modes(wish: str | Mapping[str, str], nodes: Sequence[Node]) -> dict[str, str]:
    """Mode of each BatchNormalization node that has running statistics, by name.

    Args:
        wish: one mode for all; or {node name or pattern: mode}, the first that matches counts, "batch" for
            what none matches.

    Raises:
        ValueRangeError: no such mode, or a pattern that matches no BatchNormalization.
    """
    kinds = ((node.name, node.operator) for node in with_subgraphs(nodes))
    names = [name for name, operator in kinds if isinstance(operator, BatchNormalization) and operator.averages]
    patterns = {"*": wish} if isinstance(wish, str) else dict(wish)
    result = dict.fromkeys(names, "batch")
    for pattern, mode in reversed(patterns.items()):
        if mode not in MODES:
            allowed = ", ".join(repr(name) for name in MODES)
            raise ValueRangeError(explain("batchnorm", f"a mode is one of {allowed}", repr(mode)))
        found = matches(pattern, names)
        if not found and not isinstance(wish, str):
            raise ValueRangeError(
                explain(
                    f"batchnorm entry {pattern!r}",
                    "is the name of a BatchNormalization node or a pattern",
                    "no match",
                    closest(pattern, names),
                )
            )
        result.update(dict.fromkeys(found, mode))
    return result
