"""The backward pass: from the outputs' gradients to those of the weights. Each node's operator emits its own gradient;
this file contains no operator's name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from cconv.errors import UnsupportedOpError, explain
from cconv.graph.nodes import Node
from cconv.ops.operator import Call
from cconv.ops.tensor import Tensor
from cconv.plan.plan_builder import PlanBuilder


@dataclass
class Lowered:
    """A node, its call, and its place in the plan."""

    node: Node
    call: Call


def mark_needed_gradients(node: Node, call: Call, reached: Collection[str]) -> bool:
    """Fill call.gradients_needed from the values whose gradient is needed; returns whether the node passes any on."""
    operator = node.operator
    assert operator is not None
    allowed = operator.differentiable
    call.gradients_needed = [
        name in reached
        and (allowed is None or i in allowed)
        and (spec := call.specs[i]) is not None
        and (np.issubdtype(spec.dtype, np.floating) or i in operator.straight_through)
        for i, name in enumerate(node.inputs)
    ]
    return any(call.gradients_needed)


def backward(builder: PlanBuilder, lowered: list[Lowered], grads: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """Emit the backward pass.

    Args:
        lowered: the forward pass, in order.
        grads: gradient of each output value; extended in place by every value that one reaches.

    Returns:
        `grads`, the sum over all uses of each value.

    Raises:
        UnsupportedOpError: the way to a wanted gradient leads through an operator without one.
    """
    for item in reversed(lowered):
        node, call = item.node, item.call
        incoming = [grads.get(name) for name in node.outputs]
        if not any(call.gradients_needed) or all(grad is None for grad in incoming):
            continue
        builder.label = f"{node.name}:gradient"
        operator = node.operator
        assert operator is not None
        try:
            results = operator.gradient(builder, call, incoming)
        except NotImplementedError as error:
            if isinstance(error, UnsupportedOpError):
                raise
            raise UnsupportedOpError(
                explain(
                    call.place,
                    "training needs the gradient of every operator between the weights and the loss",
                    f"{node.op_type}, which has none here",
                    "Freeze the weights before it (trainable=...).",
                )
            ) from error
        assert len(results) == len(node.inputs), f"{call.place}: {len(results)} gradients of {len(node.inputs)} inputs"
        for name, wanted, grad in zip(node.inputs, call.gradients_needed, results):
            if not wanted or grad is None:
                continue
            if name in grads:
                known = (*results, *grads.values())
                alone = sum(t is not None and t.buffer is grad.buffer for t in known) == 1
                grad = builder.accumulate(grads[name], grad, alone)
            grads[name] = grad
    return grads
