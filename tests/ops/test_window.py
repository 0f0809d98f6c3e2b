"""Sliding windows: sizes from attributes, and every attribute that must be refused."""

import numpy as np
import pytest

from cconv.errors import DTypeError, ModelError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.ops.catalogue import find
from cconv.ops.operator import Call
from cconv.ops.tensor import Spec
from cconv.ops.window import Window, kernel_of, output_sizes, require_pads_below_kernel, window_of


def call(**attributes) -> Call:
    return Call("pool1", "MaxPool", 22, attributes=attributes)


@pytest.mark.parametrize(
    "n, kernel, stride, dilation, begin, end, floor, ceil",
    [
        (7, 2, 2, 1, 0, 0, 3, 4),
        (8, 2, 2, 1, 0, 0, 4, 4),
        (7, 3, 2, 2, 1, 1, 3, 3),
        (7, 2, 5, 1, 1, 1, 2, 2),  # a third window would begin at 9, past the input
        (4, 1, 3, 1, 0, 2, 2, 2),  # a third window would begin at 6, in the padding at the end
        (1, 2, 4, 2, 0, 0, 0, 1),
    ],
)
def test_output_sizes(n, kernel, stride, dilation, begin, end, floor, ceil):
    window = Window((kernel,), (stride,), (dilation,), (begin,), (end,))
    assert window.output((n,)) == (floor,)
    assert window.output((n,), ceil_mode=True) == (ceil,)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 5, 6, 7])
def test_same_padding_makes_one_window_per_stride(n, stride, dilation):
    """ceil(n / stride) windows; an odd total puts the larger half after (UPPER) or before (LOWER)."""
    kernel = 4
    for mode, larger in (("SAME_UPPER", 1), ("SAME_LOWER", 0)):
        node = call(auto_pad=mode, strides=[stride], dilations=[dilation])
        window = window_of(node, (n,), (kernel,))
        pads = window.pads_begin[0], window.pads_end[0]
        assert window.output((n,)) == (-(-n // stride),)
        assert 0 <= pads[larger] - pads[1 - larger] <= 1
        if sum(pads):
            windows = -(-n // stride)
            assert sum(pads) == (windows - 1) * stride + dilation * (kernel - 1) + 1 - n


def test_attributes_default_to_ones_and_no_padding():
    assert window_of(call(), (5, 6), (3, 2)) == Window((3, 2), (1, 1), (1, 1), (0, 0), (0, 0))
    explicit = call(strides=[2, 1], dilations=[1, 3], pads=[1, 2, 3, 4])
    assert window_of(explicit, (5, 6), (3, 2)) == Window((3, 2), (2, 1), (1, 3), (1, 2), (3, 4))
    assert window_of(call(auto_pad="VALID", pads=[1, 1]), (5,), (3,)).pads_begin == (0,)


@pytest.mark.parametrize(
    "error, match, attributes",
    [
        (ShapeError, "strides has 2 entries", {"strides": [1]}),
        (ShapeError, "dilations has 2 entries", {"dilations": [1, 1, 1]}),
        (ShapeError, "pads has 4 entries", {"pads": [1, 1]}),
        (ValueRangeError, "strides lies in 1", {"strides": [0, 1]}),
        (ValueRangeError, "dilations lies in 1", {"dilations": [1, -1]}),
        (ValueRangeError, "strides lies in 1", {"strides": [1, 2**62]}),
        (ValueRangeError, "pads lies in 0", {"pads": [0, 0, -1, 0]}),
        (ValueRangeError, "pads lies in 0", {"pads": [2**40, 0, 0, 0]}),
        (ShapeError, "kernel_shape is the shape of the weight's kernel", {"kernel_shape": [3, 3]}),
        (UnsupportedOpError, "auto_pad is one of", {"auto_pad": "SAME"}),
    ],
)
def test_bad_attributes_are_refused(error, match, attributes):
    with pytest.raises(error, match=f"node 'pool1'.*{match}"):
        window_of(call(**attributes), (5, 5), (3, 2))


def test_bad_kernels_are_refused():
    with pytest.raises(ShapeError, match="the kernel has 2 axes"):
        window_of(call(), (5, 5), (3,))
    with pytest.raises(ValueRangeError, match="kernel's sizes"):
        window_of(call(), (5, 5), (3, 0))
    with pytest.raises(ModelError, match="kernel_shape is required"):
        kernel_of(call())
    with pytest.raises(ShapeError, match="fits into the padded feature map"):
        output_sizes(call(), Window((4,), (1,), (2,), (1,), (1,)), (4,))
    with pytest.raises(ValueRangeError, match="pads are smaller than the kernel"):
        require_pads_below_kernel(call(), Window((2,), (1,), (1,), (0,), (2,)))


def test_pooling_applies_the_checks():
    pool = find("", "MaxPool")
    node = call(kernel_shape=[2, 2], pads=[2, 0, 0, 0])
    node.specs = [Spec((1, 3, 5, 5), np.dtype(np.float32))]
    with pytest.raises(ValueRangeError, match="pads are smaller"):
        pool.shapes(node)
    node = call(kernel_shape=[2, 2])
    node.specs = [Spec((3, 5), np.dtype(np.float32))]
    with pytest.raises(ShapeError, match=r"input 0 has axes \(N, C"):
        pool.shapes(node)


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
def test_pooling_refuses_integers(name):
    """Kernels would read them as floats. (MaxPool takes those of 8 bits, as ONNX has it.)"""
    node = call(kernel_shape=[2, 2])
    node.specs = [Spec((1, 3, 5, 5), np.dtype(np.int32))]
    with pytest.raises(DTypeError, match=r"floating-point numbers.*; found int32"):
        find("", name).shapes(node)
