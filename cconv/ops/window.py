"""Sliding windows: the attributes that convolution and pooling share, their checks, and the output sizes.

Along one spatial axis, window `o` begins at o * stride - pads_begin and has `kernel` taps, `dilation` apart.
All functions here take spatial axes only, without batch and channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cconv.errors import ModelError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.ops.operator import Call

# Upper bound of attribute values. Kernels multiply two of them in 64 bits to compute an address; below this bound the
# product cannot overflow.
LARGEST = 2**31 - 1

AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Window:
    """A sliding window; each field has one entry per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Number of positions that a window covers, from its first tap to its last, along each axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))

    def output(self, sizes: Sequence[int], ceil_mode: bool = False) -> tuple[int, ...]:
        """Number of windows along each axis of a feature map of the given sizes; may be 0 or less.

        Args:
            ceil_mode: whether a last window that reaches past the padded end counts. It does not count if it would
                begin in the padding at the end, where it would see no input. ONNX 22 and PyTorch define this; earlier
                ONNX versions leave it open.
        """
        result = []
        for n, extent, stride, begin, end in zip(sizes, self.extent, self.stride, self.pads_begin, self.pads_end):
            room = n + begin + end - extent
            if ceil_mode:
                count = -(-room // stride) + 1
                if (count - 1) * stride >= n + begin:
                    count -= 1
            else:
                count = room // stride + 1
            result.append(count)
        return tuple(result)


def per_axis(call: Call, name: str, rank: int, least: int, default: int = 1) -> tuple[int, ...]:
    """Read the attribute `name`, which has one integer per spatial axis. If it is absent, all are `default`.

    Raises:
        ShapeError: the number of entries is not `rank`.
        ValueRangeError: an entry is less than `least` or greater than LARGEST.
    """
    values = call.attribute(name)
    if values is None:
        return (default,) * rank
    if len(values) != rank:
        raise call.error(ShapeError, f"{name} has {rank} entries for {rank} spatial axes", str(list(values)))
    if not all(least <= value <= LARGEST for value in values):
        raise call.error(ValueRangeError, f"{name} lies in {least}..{LARGEST}", str(list(values)))
    return tuple(int(value) for value in values)


def auto_pad_of(call: Call) -> str:
    """Read the attribute auto_pad. If it is not NOTSET, the attribute pads is ignored, as in onnxruntime.

    Raises:
        UnsupportedOpError: the value is not one of AUTO_PADS.
    """
    mode = call.attribute("auto_pad", "NOTSET") or "NOTSET"
    if mode not in AUTO_PADS:
        raise call.error(UnsupportedOpError, f"auto_pad is one of {', '.join(AUTO_PADS)}", repr(mode))
    return mode


def explicit_pads(call: Call, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Read the attribute pads as (pads at the beginning, pads at the end), each with one entry per spatial axis.

    Raises:
        ShapeError: the attribute does not have two entries per spatial axis.
        ValueRangeError: an entry is negative or greater than LARGEST.
    """
    values = call.attribute("pads")
    if values is None:
        return (0,) * rank, (0,) * rank
    if len(values) != 2 * rank:
        raise call.error(
            ShapeError,
            f"pads has {2 * rank} entries, before and after each of {rank} spatial axes",
            str(list(values)),
        )
    if not all(0 <= value <= LARGEST for value in values):
        raise call.error(
            ValueRangeError,
            f"pads lies in 0..{LARGEST}",
            str(list(values)),
            "Crop with Slice instead of negative pads.",
        )
    pads = tuple(int(value) for value in values)
    return pads[:rank], pads[rank:]


def split_pads(totals: Sequence[int], mode: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split each axis's total padding into (beginning, end). If the total is odd, the larger half is at the end for
    SAME_UPPER and at the beginning for SAME_LOWER."""
    small = tuple(total // 2 for total in totals)
    large = tuple(total - total // 2 for total in totals)
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def window_of(call: Call, sizes: Sequence[int], kernel_shape: Sequence[int]) -> Window:
    """The node's window over feature maps of these spatial sizes.

    Args:
        sizes: spatial sizes of the feature map.
        kernel_shape: the kernel's spatial sizes, from the weight (convolution) or the attribute (pooling). If the node
            has the attribute kernel_shape, it must be the same.

    Raises:
        ShapeError: strides, dilations, pads or kernel_shape have the wrong number of entries, or the attribute
            kernel_shape differs from the argument.
        ValueRangeError: an entry is greater than LARGEST, a pad is negative, or another entry is not positive.
        UnsupportedOpError: auto_pad is not one of AUTO_PADS.
    """
    rank = len(sizes)
    kernel = tuple(int(k) for k in kernel_shape)
    if len(kernel) != rank:
        raise call.error(ShapeError, f"the kernel has {rank} axes for {rank} spatial axes", f"kernel {list(kernel)}")
    if not all(1 <= k <= LARGEST for k in kernel):
        raise call.error(ValueRangeError, f"the kernel's sizes lie in 1..{LARGEST}", str(list(kernel)))
    stated = call.attribute("kernel_shape")
    if stated is not None and tuple(stated) != kernel:
        raise call.error(
            ShapeError,
            "kernel_shape is the shape of the weight's kernel",
            f"kernel_shape {list(stated)} and a kernel of {list(kernel)}",
        )
    stride = per_axis(call, "strides", rank, 1)
    dilation = per_axis(call, "dilations", rank, 1)
    mode = auto_pad_of(call)
    if mode == "NOTSET":
        begin, end = explicit_pads(call, rank)
    elif mode == "VALID":
        begin = end = (0,) * rank
    else:
        # SAME padding: pad so much that there are ceil(n / stride) windows.
        totals = []
        for n, k, s, d in zip(sizes, kernel, stride, dilation):
            count = -(-n // s)
            totals.append(max(0, (count - 1) * s + d * (k - 1) + 1 - n))
        begin, end = split_pads(totals, mode)
    return Window(kernel, stride, dilation, begin, end)


def kernel_of(call: Call) -> tuple[int, ...]:
    """Read the attribute kernel_shape, which pooling requires.

    Raises:
        ModelError: the attribute is missing.
    """
    kernel = call.attribute("kernel_shape")
    if kernel is None:
        raise call.error(ModelError, "the attribute kernel_shape is required", "no such attribute")
    return tuple(int(k) for k in kernel)


def output_sizes(call: Call, window: Window, sizes: Sequence[int], ceil_mode: bool = False) -> tuple[int, ...]:
    """Compute `window.output(sizes, ceil_mode)` and check that there is at least one window along each axis.

    Raises:
        ShapeError: no window fits along some axis.
    """
    result = window.output(sizes, ceil_mode)
    if min(result, default=1) < 1:
        raise call.error(
            ShapeError,
            "the kernel, dilations counted, fits into the padded feature map",
            f"spatial sizes {tuple(sizes)}, pads {window.pads_begin} before and {window.pads_end} after, "
            f"kernel {window.kernel} with dilations {window.dilation}",
            "Use larger inputs or a smaller kernel.",
        )
    return result


def require_pads_below_kernel(call: Call, window: Window) -> None:
    """Check that no pooling window lies in the padding alone, where it would have no maximum and no average.

    Raises:
        ValueRangeError: a pad is at least as large as the dilated kernel.
    """
    for extent, begin, end in zip(window.extent, window.pads_begin, window.pads_end):
        if max(begin, end) >= extent:
            raise call.error(
                ValueRangeError,
                "pads are smaller than the kernel, dilations counted",
                f"pads {window.pads_begin} before and {window.pads_end} after, kernel {window.kernel} with "
                f"dilations {window.dilation}",
            )
