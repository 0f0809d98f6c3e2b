"""Which weights are trained, and what each BatchNormalization does while they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from cconv.arguments import closest
from cconv.errors import TrainingError, ValueRangeError, explain
from cconv.graph.nodes import Node, unsupported, with_subgraphs
from cconv.ops.batchnorm import BatchNormalization

Trainable = str | Iterable[str] | Callable[[str], bool] | None

MODES = ("batch", "frozen", "statistics")


def reached_weights(
    nodes: Sequence[Node],
    outputs: Iterable[str],
    weights: Collection[str],
    modes: Mapping[str, str],
    settings: bool = False,
) -> list[str]:
    """The weights that are reachable from `outputs` by a gradient, in the order of `weights`.

    With `settings` those are among them that only set an operator's behaviour; see Operator.settings.
    Scale and bias of a BatchNormalization in the mode "statistics" stay as they are and are not among them.

    Raises:
        UnsupportedOpError: the gradient would pass operators that cconv does not have; the error names them all.
    """
    carrying = set(outputs)
    missing = []
    for node in reversed(nodes):
        if carrying.isdisjoint(node.outputs):
            continue
        operator = node.operator
        if not node.supported:
            missing.append(node)
        for i, name in enumerate(node.inputs):
            fixed = i > 0 and modes.get(node.name) == "statistics"
            if name and not fixed and (operator is None or operator.leads_to(i, settings)):
                carrying.add(name)
    if missing:
        raise unsupported(missing[::-1])
    return [name for name in weights if name in carrying]


def ends(nodes: Sequence[Node], weights: Iterable[str]) -> list[str]:
    """The nodes at which the gradient on its way to `weights` ends, as errors name them."""
    after = set(weights)
    found = []
    for node in nodes:
        operator = node.operator
        used = [i for i, name in enumerate(node.inputs) if name in after]
        if any(operator is None or operator.leads_to(i, settings=True) for i in used):
            after.update(node.outputs)
        elif used:
            found.append(f"node '{node.name}' ({node.op_type})")
    return found


def select_weights(
    wish: Trainable,
    reached: Sequence[str],
    weights: Collection[str],
    named: Sequence[str] = (),
    nodes: Sequence[Node] = (),
    cure: str = "",
) -> tuple[str, ...]:
    """The weights to train, out of those `reached`, in their order; behind them those `named`.

    Args:
        named: weights that are trained only where their name is given, or a pattern that matches no others.
        nodes: the model's, for errors that say where the gradient ends.
        wish: None for all; a name, a glob pattern, or several; or a function that says yes to a name. What is
            a weight's name is no pattern.
        weights: all weights of the model, to tell a frozen name from a mistyped one.
        cure: what to do if no weight is reachable from the loss.

    Raises:
        TrainingError: an entry matches nothing that can be trained, or nothing is left to train.
    """
    if wish is None:
        chosen = set(reached)
    elif callable(wish):
        chosen = {name for name in reached if wish(name)}
    else:
        chosen = set()
        for entry in (wish,) if isinstance(wish, str) else wish:
            found = [entry] if entry in named else matches(entry, reached) or matches(entry, named)
            if not found:
                raise TrainingError(_unmatched(entry, reached, weights, nodes))
            chosen.update(found)
    if not chosen:
        what = "none" if reached else f"no weight that is reachable from the loss{_ending(nodes, weights)}"
        if named and not reached:
            what = "only bounds, values of padding and scales of quantisation, which are trained if they are named"
        if reached or named:
            cure = f"The model's: {', '.join(repr(name) for name in [*reached, *named][:5])}."
        raise TrainingError(explain("trainable", "names at least one weight", what, cure))
    return tuple(name for name in [*reached, *named] if name in chosen)


def matches(pattern: str, names: Collection[str]) -> list[str]:
    """The name itself if it is one, else all that the glob pattern matches."""
    return [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]


def _ending(nodes: Sequence[Node], weights: Iterable[str]) -> str:
    found = ends(nodes, weights)
    return f"; the gradient ends at {', '.join(found[:3])}" if found else ""


def _unmatched(entry: str, reached: Sequence[str], weights: Collection[str], nodes: Sequence[Node]) -> str:
    if known := matches(entry, weights):
        return explain(
            f"trainable entry {entry!r}",
            "names weights that are reachable from the loss",
            f"{known[0]!r}, which is not (running statistics, a shape, or the loss does not depend on it)"
            + _ending(nodes, known[:1]),
            closest(entry, reached),
        )
    return explain(f"trainable entry {entry!r}", "is a weight's name or a pattern", "no match", closest(entry, reached))


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
