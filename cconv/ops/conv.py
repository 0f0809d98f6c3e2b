"""Conv and ConvTranspose.

A transposed convolution computes the same function as the input gradient of a convolution with the same weights. So
both operators use the same three passes, and one class for the geometry:

                      y = Conv(x, w)                     y = ConvTranspose(x, w)
    forward           forward(x, w)                      input_gradient(dy=x, w)
    gradient of x     input_gradient(dy, w)              forward(x=dy, w)
    gradient of w     weight_gradient(x, dy)             weight_gradient(x=dy, dy=x)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cconv.errors import ShapeError, ValueRangeError
from cconv.kernels.conv.geometry import ConvGeometry, three_axes
from cconv.kernels.schedule.algorithms import algorithm, implementation
from cconv.ops.elementwise import require_real
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import channel_sums
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.ops.window import auto_pad_of, output_sizes, per_axis, split_pads, window_of


def gather(
    lower: Lowering,
    geometry: ConvGeometry,
    role: str,
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shape: Sequence[int],
    residual: Tensor | None = None,
    clamp: tuple[float, float] | None = None,
) -> Tensor:
    """Emit the steps of one pass of a convolution, forward or input gradient. Returns the result.

    Args:
        role: "forward" or "input_gradient".
        source: input of the pass: x for "forward", dy for "input_gradient".
        shape: the result's shape in ONNX's order of axes.
        residual: a tensor of the result's shape that is added to the result, or None.
        clamp: (low, high) to which the result is then clamped, or None.
    """
    kernels = implementation(algorithm(geometry, role, lower.precision, lower.build))
    if size := kernels.packed_size(lower.build, geometry, role):
        packed = lower.tensor((size,), name="packed weights")
        lower.derive(kernels.Pack(lower.build, geometry, role), reads=[weight], writes=[packed])
        weight = packed
    target = lower.tensor(shape, Layout.CHANNELS_LAST)
    step = kernels.Gather(lower.build, geometry, role, bias is not None, residual is not None, clamp)
    source = lower.as_layout(source, Layout.CHANNELS_LAST)
    if residual is not None:
        residual = lower.as_layout(residual, Layout.CHANNELS_LAST)
    workspace = lower.tensor((step.workspace,), name="workspace") if step.workspace else None
    lower.emit(step, reads=[source, weight, bias, residual], writes=[target, workspace])
    return target


def weight_gradient(lower: Lowering, geometry: ConvGeometry, x: Tensor, dy: Tensor, shape: Sequence[int]) -> Tensor:
    """Emit the step of the weight gradient. Returns dw (row-major), of ONNX's weight shape `shape`."""
    name = algorithm(geometry, "weight_gradient", lower.precision, lower.build)
    step = implementation(name).WeightGradient(lower.build, geometry)
    partial = lower.tensor((step.partial_size,), name="partial sums")
    target = lower.tensor(shape)
    x = lower.as_layout(x, Layout.CHANNELS_LAST)
    dy = lower.as_layout(dy, Layout.CHANNELS_LAST)
    lower.emit(step, reads=[x, dy], writes=[partial, target])
    return target


def group_of(call: Call) -> int:
    group = call.attribute("group", 1)
    if group < 1:
        raise call.error(ValueRangeError, "group is at least 1", str(group))
    return int(group)


class Convolution(Operator):
    """Base class of Conv and ConvTranspose.

    Attributes:
        role: pass that computes this operator's output: "forward" or "input_gradient".
        transposed_role: pass that computes the gradient of its input x: the other of the two.
    """

    inputs = (2, 3)
    per_example = True
    role: str
    transposed_role: str

    def geometry(self, call: Call) -> ConvGeometry:
        raise NotImplementedError

    def weight_axes(self, call: Call) -> tuple[int, int, int, int]:
        """Sizes of w viewed as (groups, repeats, channels, inner), where groups * channels are the output channels.

        They are (1, 1, K, C/group * taps) for Conv and (group, C/group, K/group, taps) for ConvTranspose.
        norm.FoldConvolution, which scales the weights of each output channel, needs this view.
        """
        raise NotImplementedError

    def require_reals(self, call: Call) -> None:
        for i in range(len(call.specs)):
            if call.has(i):
                require_real(call, i)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [self.convolve(lower, call, call.input(1), call.input(2) if call.has(2) else None)]

    def convolve(
        self,
        lower: Lowering,
        call: Call,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None = None,
        clamp: tuple[float, float] | None = None,
    ) -> Tensor:
        """Emit the forward pass with the given weights and bias. For residual and clamp see `gather`."""
        geometry, shape = self.geometry(call), call.results[0].shape
        return gather(lower, geometry, self.role, call.input(0), weight, bias, shape, residual, clamp)

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        geometry = self.geometry(call)
        x, w, dy = call.input(0), call.input(1), grads[0]
        assert dy is not None
        dy = lower.as_layout(dy, Layout.CHANNELS_LAST)
        dx = dw = db = None
        if call.needs_gradient(0):
            dx = gather(lower, geometry, self.transposed_role, dy, w, None, x.shape)
        if call.needs_gradient(1):
            dw = self.weight_gradient(lower, geometry, lower.recompute_or_keep(x, geometry.flops), dy, w.shape)
        if call.needs_gradient(2):
            db = channel_sums(lower, dy)
        return [dx, dw, db][: len(call.specs)]

    def weight_gradient(
        self, lower: Lowering, geometry: ConvGeometry, x: Tensor, dy: Tensor, shape: Sequence[int]
    ) -> Tensor:
        """Emit the step of the gradient of w.

        Args:
            x: this operator's input.
            dy: gradient of this operator's output.
            shape: w's shape.
        """
        raise NotImplementedError

    def flops(self, call: Call) -> int:
        return self.geometry(call).flops


class Conv(Convolution):
    """y = x * w + b over 1, 2 or 3 spatial axes.

    x (N, C, spatial), w (K, C/group, kernel), b (K,), y (N, K, spatial').
    """

    type = "Conv"
    role, transposed_role = "forward", "input_gradient"

    def shapes(self, call: Call) -> list[Spec]:
        self.require_reals(call)
        x = self.require_rank(call, 0, 3, 5, "(N, C, 1 to 3 spatial axes)")
        w = self.require_rank(call, 1, len(x.shape), len(x.shape), "(K, C/group, kernel), as many as x")
        group = group_of(call)
        channels, outputs = x.shape[1], w.shape[0]
        if w.shape[1] * group != channels:
            raise call.error(
                ShapeError,
                f"x has group * {w.shape[1]} channels, as w {w.shape} says",
                f"x {x.shape} and group {group}, so {channels} instead of {w.shape[1] * group}",
            )
        if outputs % group:
            raise call.error(ShapeError, "group divides the outputs", f"w {w.shape} and group {group}")
        if call.has(2) and call.spec(2).shape != (outputs,):
            raise call.error(ShapeError, f"b has shape ({outputs},)", str(call.spec(2).shape))
        window = window_of(call, x.shape[2:], w.shape[2:])
        sizes = output_sizes(call, window, x.shape[2:])
        return [Spec((x.shape[0], outputs, *sizes), x.dtype)]

    def geometry(self, call: Call) -> ConvGeometry:
        x, w, y = call.spec(0).shape, call.spec(1).shape, call.results[0].shape
        window = window_of(call, x[2:], w[2:])
        return ConvGeometry(
            batch=x[0],
            channels=x[1],
            outputs=y[1],
            groups=group_of(call),
            input=three_axes(x[2:], 1),
            output=three_axes(y[2:], 1),
            kernel=three_axes(window.kernel, 1),
            stride=three_axes(window.stride, 1),
            dilation=three_axes(window.dilation, 1),
            pad=three_axes(window.pads_begin, 0),
        )

    def weight_axes(self, call: Call) -> tuple[int, int, int, int]:
        outputs, *inner = call.spec(1).shape
        return 1, 1, outputs, math.prod(inner)

    def weight_gradient(
        self, lower: Lowering, geometry: ConvGeometry, x: Tensor, dy: Tensor, shape: Sequence[int]
    ) -> Tensor:
        return weight_gradient(lower, geometry, x, dy, shape)


class ConvTranspose(Convolution):
    """The transpose of Conv's linear map from x to y, plus a bias.

    x (N, C, spatial), w (C, K/group, kernel), b (K,), y (N, K, spatial'). Without output_shape, along each axis
    spatial' = stride * (spatial - 1) + output_padding + dilation * (kernel - 1) + 1 - pads.
    """

    type = "ConvTranspose"
    role, transposed_role = "input_gradient", "forward"

    def shapes(self, call: Call) -> list[Spec]:
        self.require_reals(call)
        x = self.require_rank(call, 0, 3, 5, "(N, C, 1 to 3 spatial axes)")
        w = self.require_rank(call, 1, len(x.shape), len(x.shape), "(C, K/group, kernel), as many as x")
        group = group_of(call)
        channels, outputs = x.shape[1], w.shape[1] * group
        if w.shape[0] != channels or channels % group:
            raise call.error(
                ShapeError,
                "w's first axis is x's channels, and group divides it",
                f"x {x.shape}, w {w.shape}, group {group}",
            )
        if call.has(2) and call.spec(2).shape != (outputs,):
            raise call.error(ShapeError, f"b has shape ({outputs},)", str(call.spec(2).shape))
        sizes, _ = self.sizes(call)
        return [Spec((x.shape[0], outputs, *sizes), x.dtype)]

    def sizes(self, call: Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(output sizes, pads at the beginning), each with one entry per spatial axis.

        Raises:
            ShapeError: an output size is less than 1.
        """
        spatial, kernel = call.spec(0).shape[2:], call.spec(1).shape[2:]
        rank = len(spatial)
        # The window belongs to the convolution from y to x. window_of would compute SAME pads from x's sizes, but here
        # they follow from the output sizes, below. So auto_pad is replaced by VALID.
        mode = auto_pad_of(call)
        plain = Call(call.name, call.op_type, call.opset, attributes=dict(call.attributes, auto_pad="VALID"))
        window = window_of(plain if mode != "NOTSET" else call, spatial, kernel)
        extra = per_axis(call, "output_padding", rank, 0, default=0)
        full = [
            s * (n - 1) + o + extent
            for n, s, o, extent in zip(spatial, window.stride, extra, window.extent)
        ]  # fmt: skip
        stated = call.attribute("output_shape")
        if stated is not None or mode in ("SAME_UPPER", "SAME_LOWER"):
            if stated is None:
                sizes = tuple(n * s for n, s in zip(spatial, window.stride))
            else:
                sizes = per_axis(call, "output_shape", rank, 1)
            totals = [max(0, total - size) for total, size in zip(full, sizes)]
            begin, _ = split_pads(totals, mode)
        else:
            begin = window.pads_begin
            sizes = tuple(t - b - e for t, b, e in zip(full, begin, window.pads_end))
        if min(sizes) < 1:
            raise call.error(
                ShapeError,
                "the output has at least one element along each axis",
                f"x {spatial}, kernel {kernel}, pads {window.pads_begin} and {window.pads_end}: output {sizes}",
            )
        return sizes, begin

    def geometry(self, call: Call) -> ConvGeometry:
        """Geometry of the convolution from y to x whose transpose this operator is."""
        x, w, y = call.spec(0).shape, call.spec(1).shape, call.results[0].shape
        _, begin = self.sizes(call)
        rank = len(x) - 2
        return ConvGeometry(
            batch=x[0],
            channels=y[1],
            outputs=x[1],
            groups=group_of(call),
            input=three_axes(y[2:], 1),
            output=three_axes(x[2:], 1),
            kernel=three_axes(w[2:], 1),
            stride=three_axes(per_axis(call, "strides", rank, 1), 1),
            dilation=three_axes(per_axis(call, "dilations", rank, 1), 1),
            pad=three_axes(begin, 0),
        )

    def weight_axes(self, call: Call) -> tuple[int, int, int, int]:
        channels, outputs, *inner = call.spec(1).shape
        group = group_of(call)
        return group, channels // group, outputs, math.prod(inner)

    def weight_gradient(
        self, lower: Lowering, geometry: ConvGeometry, x: Tensor, dy: Tensor, shape: Sequence[int]
    ) -> Tensor:
        return weight_gradient(lower, geometry, dy, x, shape)


OPERATORS = [Conv(), ConvTranspose()]
