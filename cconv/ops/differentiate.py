"""Gradient of ai.onnx.preview.training: an operator whose outputs are derivatives of another value of the graph.

They are computed by the same backward pass as training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cconv.errors import DTypeError, ModelError, UnsupportedOpError
from cconv.ops.elementwise import is_real
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor


class Gradient(Operator):
    """Gradients of the sum of y's elements with respect to each tensor that the attribute `xs` names.

    The node's inputs must be the tensors that the attributes xs and zs name. ONNX also allows other inputs, at which
    the graph is evaluated again; cconv does not support that. In the Call, y follows the inputs. There is no second
    derivative: this operator has no gradient itself.
    """

    type = "Gradient"
    domain = "ai.onnx.preview.training"
    since = 1
    inputs = (1, 1 << 30)
    pure = False

    def implicit_inputs(self, attributes: Mapping[str, Any], inputs: Sequence[str]) -> tuple[str, ...]:
        named = [*attributes.get("xs", []), *attributes.get("zs", [])]
        return (attributes.get("y", ""),) if named == list(inputs) else ()

    def independent(self, attributes: Mapping[str, Any]) -> int:
        return len(attributes.get("xs", []))

    def shapes(self, call: Call) -> list[Spec]:
        xs, zs = (list(call.attribute(name, [])) for name in ("xs", "zs"))
        if not xs or not call.attribute("y"):
            raise call.error(ModelError, "names xs and y", f"xs {xs}, y {call.attribute('y')!r}")
        if len(call.specs) != len(xs) + len(zs) + 1:
            found = f"{len(call.specs)} others"
            raise call.error(UnsupportedOpError, f"its inputs are the tensors that xs and zs name, {xs + zs}", found)
        for i in (*range(len(xs)), len(call.specs) - 1):
            if not is_real(call.spec(i).dtype):
                name = [*xs, *zs, call.attribute("y")][i]
                raise call.error(DTypeError, f"{name!r} holds floating-point numbers", f"{call.spec(i).dtype}")
        return [call.spec(i) for i in range(len(xs))]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return lower.differentiate(len(call.specs) - 1, range(len(call.results)))


OPERATORS: list[Operator] = [Gradient()]
