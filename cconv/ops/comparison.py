"""Comparisons and logic: operators whose output is a bool. They have no gradient."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from cconv.errors import DTypeError
from cconv.kernels.move.copy import Fill
from cconv.ops.elementwise import BOOL, broadcast_shape, cast, is_real, is_whole, typed, wide
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor


class Comparison(Operator):
    """z = x op y for two inputs of numbers of the same dtype. Equal also compares bools. False if x or y is NaN.

    Args:
        type: ONNX's name of the operator.
        kind: name of the loop in kernels/elementwise/typed.h, without the dtype at its end.
        since: oldest opset that has the operator.
        swapped: whether the loop is called with (y, x): x > y is computed as y < x.
    """

    inputs = (2, 2)
    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def __init__(self, type: str, kind: str, since: int = 7, swapped: bool = False) -> None:
        self.type = type
        self.kind = kind
        self.since = since
        self.swapped = swapped

    def shapes(self, call: Call) -> list[Spec]:
        a, b = call.spec(0).dtype, call.spec(1).dtype
        known = (is_whole(a) or (a == BOOL and self.kind == "equal")) and a == b
        if not known and not (is_real(a) and is_real(b)):
            raise call.error(DTypeError, "compares two inputs of one dtype", f"{a} and {b}")
        return [Spec(broadcast_shape(call), BOOL)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, y = (call.input(int(i != self.swapped)) for i in (0, 1))
        if is_real(x.dtype):
            return [typed(lower, f"{self.kind}_real", [x, y], BOOL)]
        dtype = wide(x.dtype) if is_whole(x.dtype) else BOOL
        return [typed(lower, f"{self.kind}_{dtype}", [cast(lower, x, dtype), cast(lower, y, dtype)], BOOL)]


class Logic(Operator):
    """z = x op y, or z = not x, on bools."""

    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def __init__(self, type: str, count: int = 2) -> None:
        self.type = type
        self.inputs = (count, count)

    def shapes(self, call: Call) -> list[Spec]:
        for i in range(len(call.specs)):
            if call.spec(i).dtype != BOOL:
                raise call.error(DTypeError, "takes bools", f"{call.spec(i).dtype} as input {i}")
        return [Spec(broadcast_shape(call), BOOL)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return self.broadcasts_per_example(call, moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        operands = [call.input(i) for i in range(len(call.specs))]
        return [typed(lower, f"{self.type.lower()}_bool", operands, BOOL)]


class IsNaN(Operator):
    """True for each element that is NaN."""

    type = "IsNaN"
    since = 9
    per_example = True
    differentiable: ClassVar[tuple[int, ...] | None] = ()

    def loop(self, call: Call) -> str | None:
        """Name of the loop in kernels/elementwise/typed.h; None: the output is False everywhere."""
        return "isnan_real"

    def shapes(self, call: Call) -> list[Spec]:
        spec = call.spec(0)
        if not is_real(spec.dtype):
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        return [Spec(spec.shape, BOOL)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x, loop = call.input(0), self.loop(call)
        if loop is not None:
            return [typed(lower, loop, [x], BOOL)]
        y = lower.tensor(x.shape, x.layout, BOOL)
        lower.emit(Fill(lower.build, y.size, b"\0"), writes=[y])
        return [y]


class IsInf(IsNaN):
    """True for each infinite element. The attributes detect_positive and detect_negative select the signs."""

    type = "IsInf"
    since = 10

    def loop(self, call: Call) -> str | None:
        signs = bool(call.attribute("detect_positive", 1)), bool(call.attribute("detect_negative", 1))
        return {
            (True, True): "isinf_real",
            (True, False): "isinf_positive_real",
            (False, True): "isinf_negative_real",
        }.get(signs)


OPERATORS: list[Operator] = [
    Comparison("Equal", "equal"),
    Comparison("Less", "less"),
    Comparison("LessOrEqual", "less_equal", since=12),
    Comparison("Greater", "less", swapped=True),
    Comparison("GreaterOrEqual", "less_equal", since=12, swapped=True),
    Logic("And"),
    Logic("Or"),
    Logic("Xor"),
    Logic("Not", count=1),
    IsNaN(),
    IsInf(),
]
