"""What the tests of the convolution kernels share: geometries, and the three passes by the float64 reference."""

import numpy as np

from cconv.kernels import reference
from cconv.kernels.conv.geometry import ConvGeometry, three_axes
from cconv.kernels.schedule.algorithms import MODULES
from harness import nans, run_step


def geometry(n, c, k, groups, sizes, kernel, stride=1, dilation=1, pad=0, pad_end=None):
    """ConvGeometry from per-axis tuples, or one number for all axes."""
    rank = len(sizes)
    stride, dilation, pad = ((v,) * rank if isinstance(v, int) else v for v in (stride, dilation, pad))
    pad_end = pad if pad_end is None else pad_end
    output = tuple(
        (i + p + q - d * (m - 1) - 1) // s + 1
        for i, p, q, d, m, s in zip(sizes, pad, pad_end, dilation, kernel, stride)
    )
    return ConvGeometry(
        n, c, k, groups, three_axes(sizes, 1), three_axes(output, 1), three_axes(kernel, 1),
        three_axes(stride, 1), three_axes(dilation, 1), three_axes(pad, 0),
    )  # fmt: skip


def algorithms_of(modules):
    """Names of the convolution algorithms among kernel modules, in their order."""
    names = {f"cconv.kernels.conv.{module}": name for name, module in MODULES.items()}
    found = [names.get(module, module.rpartition(".")[2]) for module in modules]
    return [name for name in found if name in MODULES]


def channels_last(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def packed_weights(build, kernels, g, role, w, threads=1):
    """w as the gather of an algorithm reads it: packed by a step of its own, or as it is."""
    size = kernels.packed_size(build, g, role)
    if not size:
        return w
    packed = nans(size, w.dtype)
    assert run_step(kernels.Pack(build, g, role), w, packed, threads=threads) == 0
    return packed


def reference_passes(g, x, w, b, dy):
    """y, dx, dw in float64, channels first, with three spatial axes."""
    ends = [
        (o - 1) * s + d * (k - 1) + 1 - i - p
        for o, s, d, k, i, p in zip(g.output, g.stride, g.dilation, g.kernel, g.input, g.pad)
    ]
    # An end may be negative: then no window reaches the last elements, and there is nothing to pad.
    pads = [*g.pad, *(max(0, end) for end in ends)]
    options = {"strides": g.stride, "pads": pads, "dilations": g.dilation, "group": g.groups}
    return (
        reference.conv(x, w, b, **options),
        reference.conv_input_gradient(dy, w, g.input, **options),
        reference.conv_weight_gradient(dy, x, g.kernel, **options),
    )
