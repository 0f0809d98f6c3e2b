"""Find operators that cconv does not support, in the model's opset or at all, and operators without a gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern
from cconv.concerns.edit import counted, listed, naming
from cconv.concerns.finding import ERROR, INFO, WARNING, Finding
from cconv.graph.nodes import Node, with_subgraphs

# Operators without a gradient that need no report. Their outputs follow from shapes, attributes or constants, not from
# the values of weights.
_NOT_OF_VALUES = {"Shape", "Size", "Constant", "ConstantOfShape", "EyeLike", "Range", "If"}


def find_missing(case: Case) -> Iterator[Finding]:
    """Report operators that cconv does not support."""
    needed = {node.index for node in with_subgraphs(case.needed)}
    for kind, nodes in _by_type(node for node in with_subgraphs(case.model.nodes) if node.operator is None):
        where = listed(node.name for node in nodes)
        if not any(node.index in needed for node in nodes):
            yield Finding(INFO, where, f"cconv does not have {kind}. No output depends on it, so it is not run.")
            continue
        before = _weights_before(case, nodes)
        yield Finding(
            ERROR,
            where,
            f"cconv does not have {kind}, so the model cannot run here. "
            + (
                f"Trainable weights that it depends on: {len(before)}."
                if before
                else "It depends on no trainable weight."
            ),
            "Train an output that does not depend on it, or replace it by operators of docs/operators.md.",
        )


def find_too_old(case: Case) -> Iterator[Finding]:
    """Report operators in an opset that is older than the oldest version that cconv implements."""
    nodes = (node for node in case.needed if node.operator is not None and node.opset < node.operator.since)
    for kind, too_old in _by_type(nodes):
        since = max(node.operator.since for node in too_old if node.operator is not None)
        yield Finding(
            ERROR,
            listed(node.name for node in too_old),
            f"The model's opset is {too_old[0].opset}, but cconv supports {kind} only from opset {since} on.",
            "Export with a newer opset, or convert: onnx.version_converter.convert_version.",
        )


def find_without_gradient(case: Case) -> Iterator[Finding]:
    """Report nodes without a gradient, and the weights that no gradient reaches because of them."""
    needed = {node.index for node in case.needed}
    without_gradient = (
        node
        for node in case.model.nodes
        if node.index in needed
        and node.operator is not None
        and node.operator.differentiable == ()
        and node.op_type not in _NOT_OF_VALUES
    )
    for kind, nodes in _by_type(without_gradient):
        where = listed(node.name for node in nodes)
        before = _weights_before(case, nodes)
        lost = sorted(before - case.carrying)
        if lost:
            yield Finding(
                WARNING,
                where,
                f"{kind} has no gradient, so no gradient reaches {counted(len(lost), 'weight')} before it, which will "
                f"not be trained: {naming(lost)}.",
                "If the weights must be trained, replace the operator.",
            )
        elif before:
            yield Finding(INFO, where, f"{kind} has no gradient. Gradients reach the weights before it by other paths.")
        else:
            yield Finding(INFO, where, f"{kind} has no gradient. It depends on no trainable weight.")


def _weights_before(case: Case, nodes: Iterable[Node]) -> set[str]:
    return set().union(*(case.weights_before.get(name, ()) for node in nodes for name in node.inputs))


def _by_type(nodes: Iterable[Node]) -> Iterator[tuple[str, list[Node]]]:
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(f"{node.domain}::{node.op_type}" if node.domain else node.op_type, []).append(node)
    yield from sorted(groups.items())


CONCERNS = [
    Concern("operators", find_missing),
    Concern("opset", find_too_old),
    Concern("gradients", find_without_gradient),
]
