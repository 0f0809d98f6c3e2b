"""ConvGeometry: the sizes of one convolution, computed once and handed to every kernel.

All feature maps have three spatial axes: depth, height, width. 1-D and 2-D maps have leading axes of size 1. With
x (N, C, D, H, W), weights (K, C/groups, kD, kH, kW) and y (N, K, oD, oH, oW), along each axis

    y[o] = sum over taps t of  x[o * stride + t * dilation - pad] * w[t]        (x is 0 outside)

Both gradients are convolutions again:

    dx[i] = sum over taps t, and o with o * stride + t * dilation - pad = i, of  dy[o] * w[t]
    dw[t] = sum over o of  x[o * stride + t * dilation - pad] * dy[o]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

Axes = tuple[int, int, int]


@dataclass(frozen=True)
class ConvGeometry:
    """Sizes of y = conv(x, w).

    Attributes:
        batch: N, number of images.
        channels, outputs: C and K, numbers of input and output channels of all groups together.
        groups: number of groups; divides `channels` and `outputs`.
        input, output, kernel: sizes along depth, height, width.
        stride, dilation: along each axis, at least 1.
        pad: zeros before the first element of each axis. The number of zeros after the last follows from `output`.
    """

    batch: int
    channels: int
    outputs: int
    groups: int
    input: Axes
    output: Axes
    kernel: Axes
    stride: Axes
    dilation: Axes
    pad: Axes

    def __post_init__(self) -> None:
        if self.groups < 1 or self.channels % self.groups or self.outputs % self.groups:
            raise ValueError(f"groups {self.groups} must divide {self.channels} and {self.outputs} channels")
        if min(self.kernel + self.stride + self.dilation) < 1 or min(self.input + self.output + self.pad) < 0:
            raise ValueError(f"sizes out of range: {self}")

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved with one kernel of its own."""
        return self.groups == self.channels == self.outputs > 1

    @property
    def flops(self) -> int:
        """Floating-point operations of one pass, two per multiply-add. Taps in the zero padding are counted, too."""
        pixels = self.batch * math.prod(self.output)
        return 2 * pixels * self.outputs * (self.channels // self.groups) * self.taps


def three_axes(sizes: tuple[int, ...], fill: int) -> Axes:
    """Extend 1 to 3 spatial sizes to (depth, height, width): leading axes that are missing get the value `fill`."""
    padded = (fill,) * (3 - len(sizes)) + tuple(int(n) for n in sizes)
    return (padded[0], padded[1], padded[2])


@dataclass(frozen=True)
class AxisWalk:
    """One axis of a gather: out[o * out_step + out_start] = sum over taps of in[o * step - pad + offset].

    Attributes:
        input: size of the axis that is read. Elements outside count as zero.
        output: number of outputs o.
        step: input elements between the windows of neighbouring outputs.
        pad: zeros before the first input element.
        offsets: offset of each tap in input elements, ascending from 0.
        kernel: for each offset, the index of its tap in the kernel.
        out_step, out_start: output o is stored at position o * out_step + out_start of the target.
    """

    input: int
    output: int
    step: int
    pad: int
    offsets: tuple[int, ...]
    kernel: tuple[int, ...]
    out_step: int = 1
    out_start: int = 0

    @property
    def span(self) -> int:
        """Input elements from the first tap to the last, both included."""
        return self.offsets[-1] + 1 if self.offsets else 0


Part = tuple[AxisWalk, AxisWalk, AxisWalk]


def forward_part(g: ConvGeometry) -> Part:
    """The forward pass as one gather (AxisWalks along depth, height, width) from x to y."""
    d, h, w = (
        AxisWalk(
            input=g.input[a],
            output=g.output[a],
            step=g.stride[a],
            pad=g.pad[a],
            offsets=tuple(t * g.dilation[a] for t in range(g.kernel[a])),
            kernel=tuple(range(g.kernel[a])),
        )
        for a in range(3)
    )
    return d, h, w


def input_gradient_parts(g: ConvGeometry) -> list[Part]:
    """The input gradient as gathers from dy to dx, one per residue of the input's position modulo the stride.

    dx[i] sums dy[o] * w[t] over all o and t with o * stride = i + pad - t * dilation. For i = stride * j + r, tap t
    contributes only if r + pad - t * dilation is divisible by the stride; then o = j + (r + pad - t * dilation) /
    stride. So each residue r is a convolution of stride 1 over the taps that contribute.
    """
    return [
        (d, h, w) for d in _residues(g, 0) for h in _residues(g, 1) for w in _residues(g, 2)
    ]  # fmt: skip


def _residues(g: ConvGeometry, a: int) -> list[AxisWalk]:
    walks = []
    for r in range(min(g.stride[a], g.input[a])):
        taps = sorted(
            ((r + g.pad[a] - t * g.dilation[a]) // g.stride[a], t)
            for t in range(g.kernel[a])
            if (r + g.pad[a] - t * g.dilation[a]) % g.stride[a] == 0
        )
        first = taps[0][0] if taps else 0
        walks.append(
            AxisWalk(
                input=g.output[a],
                output=-(-(g.input[a] - r) // g.stride[a]),
                step=1,
                pad=-first,
                offsets=tuple(o - first for o, _ in taps),
                kernel=tuple(t for _, t in taps),
                out_step=g.stride[a],
                out_start=r,
            )
        )
    return walks


def is_pointwise(part: Part) -> bool:
    """Whether every output pixel reads only the input pixel at its own position: one tap, stride 1, no padding.

    All pixels of all images can then be treated as one long row.
    """
    return all(
        walk.offsets == (0,) and walk.step == 1 and walk.pad == 0 and walk.input == walk.output
        and walk.out_step == 1
        for walk in part
    )  # fmt: skip


def one_row(g: ConvGeometry) -> ConvGeometry:
    """Reshape a pointwise convolution (see is_pointwise) to one image with a single row of all pixels.

    Blocks of pixels then need not end where rows and images end. Any other geometry is returned unchanged.
    """
    if not is_pointwise(forward_part(g)):
        return g
    row = (1, 1, g.batch * math.prod(g.input))
    return replace(g, batch=1, input=row, output=row)


def abreast(g: ConvGeometry, m: int) -> ConvGeometry:
    """Merge m neighbouring output pixels of a row into one pixel of m * K channels, ordered (pixel, output channel).

    Returns the geometry of the longer kernel that computes the merged pixels; see abreast.pyx. g has one group and no
    dilation along the row, and m divides the output's width.
    """
    depth, height, width = g.output
    kernel_z, kernel_y, kernel_x = g.kernel
    stride_z, stride_y, stride_x = g.stride
    return replace(
        g,
        outputs=m * g.outputs,
        output=(depth, height, width // m),
        kernel=(kernel_z, kernel_y, kernel_x + (m - 1) * stride_x),
        stride=(stride_z, stride_y, m * stride_x),
    )
