"""BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitShift: bit operations on integers. They have no gradient."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ModelError
from cconv.ops.elementwise import broadcast_shape, is_whole, whole
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor


class Bitwise(Operator):
    """z = x op y, or z = not x, on each bit of integers.

    Args:
        type: ONNX's name of the operator.
        kind: name of the loop in kernels/elementwise/typed.h, without the dtype at its end.
        count: number of inputs.
    """

    since = 18
    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def __init__(self, type: str, kind: str, count: int = 2) -> None:
        self.type = type
        self.kind = kind
        self.inputs = (count, count)

    def shapes(self, call: Call) -> list[Spec]:
        dtypes = [call.spec(i).dtype for i in range(len(call.specs))]
        if not is_whole(dtypes[0]) or len(set(dtypes)) > 1:
            raise call.error(DTypeError, "takes integers of one dtype", " and ".join(map(str, dtypes)))
        return [Spec(broadcast_shape(call), dtypes[0])]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def function(self, call: Call) -> str:
        return self.kind

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [whole(lower, self.function(call), [call.input(i) for i in range(len(call.specs))])]


class BitShift(Bitwise):
    """Shift x by y bits in the direction given by the attribute. Signed integers are allowed from opset 28 on.

    A left shift fills with zeros, a right shift with copies of the sign bit (zeros if unsigned). If y is negative or at
    least the number of bits of x, all bits of the result are fill bits.
    """

    since = 11

    def __init__(self) -> None:
        super().__init__("BitShift", "shift")

    def shapes(self, call: Call) -> list[Spec]:
        self.function(call)
        specs = super().shapes(call)
        if call.opset < 28 and not np.issubdtype(specs[0].dtype, np.unsignedinteger):
            raise call.error(DTypeError, "shifts integers without a sign up to opset 27", f"{specs[0].dtype}")
        return specs

    def function(self, call: Call) -> str:
        direction = call.attribute("direction")
        if direction not in ("LEFT", "RIGHT"):
            raise call.error(ModelError, "direction is LEFT or RIGHT", repr(direction))
        return f"shift_{direction.lower()}"


OPERATORS: list[Operator] = [
    Bitwise("BitwiseAnd", "and"),
    Bitwise("BitwiseOr", "or"),
    Bitwise("BitwiseXor", "xor"),
    Bitwise("BitwiseNot", "not", count=1),
    BitShift(),
]
