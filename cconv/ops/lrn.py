"""LRN, local response normalisation across neighbouring channels (Krizhevsky et al., 2012).

    s = bias + alpha / size * (sum of x^2 over `size` neighbouring channels)        y = x * s^-beta

    dx = g - 2 * alpha * beta / size * x * (sum of g * x / s over the channels whose window contains x)
    with g = dy * s^-beta

LRN is rare, so it has no kernel of its own. It is composed of elementwise steps and window sums. The power costs most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cconv.errors import DTypeError, ModelError, ValueRangeError
from cconv.kernels.reduce.scan import WindowSum
from cconv.ops.elementwise import binary, is_real, scaled, unary
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor


class LRN(Operator):
    """LRN of x (N, C, ...). If size is even, the window has one more channel after the center than before it."""

    type = "LRN"
    per_example = True

    def size(self, call: Call) -> int:
        size = call.attribute("size")
        if size is None:
            raise call.error(ModelError, "names the number of channels to sum over", "no attribute 'size'")
        if size < 1:
            raise call.error(ValueRangeError, "size is at least 1", f"{size}")
        return int(size)

    def parameters(self, call: Call) -> tuple[float, float, float]:
        """(alpha / size, beta, bias)."""
        alpha, beta = call.attribute("alpha", 1e-4), call.attribute("beta", 0.75)
        return alpha / self.size(call), beta, call.attribute("bias", 1.0)

    def shapes(self, call: Call) -> list[Spec]:
        spec = self.require_rank(call, 0, 2, 8, "(N, C, ...)")
        if not is_real(spec.dtype):
            raise call.error(DTypeError, "works on floating-point numbers", str(spec.dtype))
        share, _, bias = self.parameters(call)
        if share < 0 or bias <= 0:
            raise call.error(ValueRangeError, "alpha is at least 0, and bias greater than 0", f"{share} and {bias}")
        return [spec]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        x = call.input(0)
        share, beta, bias = self.parameters(call)
        strength = unary(lower, "affine", self.window(lower, call, unary(lower, "square", x)), share, bias)
        factor = unary(lower, "power", strength, -beta)
        call.saved.update(strength=strength, factor=factor)
        return [binary(lower, "mul", x, factor)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        x, dy = call.input(0), grads[0]
        assert dy is not None
        share, beta, _ = self.parameters(call)
        g = binary(lower, "mul", call.saved["factor"], dy)
        terms = binary(lower, "div", binary(lower, "mul", g, x), call.saved["strength"])
        around = scaled(lower, self.window(lower, call, terms, backwards=True), 2 * share * beta)
        return [binary(lower, "sub", g, binary(lower, "mul", around, x))]

    def window(self, lower: Lowering, call: Call, x: Tensor, backwards: bool = False) -> Tensor:
        """Emit the sum of x over each channel's window, or with `backwards` over the channels whose window contains
        that channel."""
        size = self.size(call)
        extents = [(size - 1) // 2, size // 2]
        y = lower.tensor(x.shape, x.layout)
        place, sizes = x.order.index(1), x.memory_shape
        step = WindowSum(
            lower.build,
            math.prod(sizes[:place]),
            sizes[place],
            math.prod(sizes[place + 1 :]),
            *(extents[::-1] if backwards else extents),
        )
        lower.emit(step, reads=[x], writes=[y])
        return y


OPERATORS: list[Operator] = [LRN()]
