"""Operators that cconv does not have, in this opset or at all, and operators that have no gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern
from cconv.concerns.edit import counted, listed, naming
from cconv.concerns.finding import ERROR, INFO, WARNING, Finding
from cconv.graph.nodes import Node, with_subgraphs

# Their outputs follow from shapes, attributes or constants, whatever the weights are.
_NOT_OF_VALUES = {"Shape", "Size", "Constant", "ConstantOfShape", "EyeLike", "Range", "If"}


def find_missing(case: Case) -> Iterator[Finding]:
    """Operators that are not in the catalogue."""
    needed = {node.index for node in with_subgraphs(case.needed)}
    for kind, nodes in _by_type(node for node in with_subgraphs(case.model.nodes) if node.operator is None):
        where = listed(node.name for node in nodes)
        if not any(node.index in needed for node in nodes):
            yield Finding(INFO, where, f"cconv does not have {kind}; no output follows from it, so it is left out.")
            continue
        before = _weights_before(case, nodes)
        yield Finding(
            ERROR,
            where,
            f"cconv does not have {kind}, so the model cannot run here. "
            + (
                f"{counted(len(before), 'trainable weight')} before it."
                if before
                else "It is not on the way to a trainable weight."
            ),
            "Train up to an output before it, or write it with the operators in docs/operators.md.",
        )


def find_too_old(case: Case) -> Iterator[Finding]:
    """Operators in an opset older than what is implemented."""
    nodes = (node for node in case.needed if node.operator is not None and node.opset < node.operator.since)
    for kind, found in _by_type(nodes):
        since = max(node.operator.since for node in found if node.operator is not None)
        yield Finding(
            ERROR,
            listed(node.name for node in found),
            f"The model's opset is {found[0].opset}; cconv has {kind} from opset {since} on.",
            "Export with a newer opset, or convert: onnx.version_converter.convert_version.",
        )


def find_without_gradient(case: Case) -> Iterator[Finding]:
    """Nodes where the gradient ends, and the weights that it does not come to because of them."""
    needed = {node.index for node in case.needed}
    ends = (
        node
        for node in case.model.nodes
        if node.index in needed
        and node.operator is not None
        and node.operator.differentiable == ()
        and node.op_type not in _NOT_OF_VALUES
    )
    for kind, nodes in _by_type(ends):
        where = listed(node.name for node in nodes)
        before = _weights_before(case, nodes)
        lost = sorted(before - case.carrying)
        if lost:
            yield Finding(
                WARNING,
                where,
                f"{kind} has no gradient, and is on the only way to {counted(len(lost), 'weight')} before it: "
                f"{naming(lost)} stay as they are.",
                "Nothing, if they may stay; else replace the operator.",
            )
        elif before:
            yield Finding(INFO, where, f"{kind} has no gradient; the weights before it are trained by other ways.")
        else:
            yield Finding(INFO, where, f"{kind} has no gradient; it is not on the way to a trainable weight.")


def _weights_before(case: Case, nodes: Iterable[Node]) -> set[str]:
    return set().union(*(case.weights_before.get(name, ()) for node in nodes for name in node.inputs))


def _by_type(nodes: Iterable[Node]) -> Iterator[tuple[str, list[Node]]]:
    found: dict[str, list[Node]] = {}
    for node in nodes:
        found.setdefault(f"{node.domain}::{node.op_type}" if node.domain else node.op_type, []).append(node)
    yield from sorted(found.items())


CONCERNS = [
    Concern("operators", find_missing),
    Concern("opset", find_too_old),
    Concern("gradients", find_without_gradient),
]
