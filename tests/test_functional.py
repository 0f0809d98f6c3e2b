"""Convolutions on NumPy arrays, against the reference."""

import numpy as np
import pytest

import cconv
from cconv.errors import DTypeError, ShapeError
from cconv.kernels import reference

OPTIONS = {"stride": 2, "padding": 1, "dilation": 1, "groups": 2}


def arrays(rank, dtype=np.float64):
    rng = np.random.default_rng(rank)
    x = rng.integers(-3, 4, (2, 4, *(7, 6, 5)[:rank])).astype(dtype)
    w = rng.integers(-3, 4, (6, 2, *(3,) * rank)).astype(dtype)
    return x, w, rng.integers(-3, 4, 6).astype(dtype)


def numbers(rank, transposed=False):
    common = {"strides": (2,) * rank, "pads": (1,) * 2 * rank, "dilations": (1,) * rank, "group": 2}
    return {**common, "output_padding": (1,) * rank} if transposed else common


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution_and_gradients(rank, dtype):
    x, w, b = arrays(rank, dtype)
    y = getattr(cconv, f"conv{rank}d")(x, w, b, **OPTIONS)
    assert y.dtype == dtype
    assert np.array_equal(y, reference.conv(x, w, b, **numbers(rank)))
    dx = getattr(cconv, f"conv{rank}d_input_gradient")(y, w, x.shape, **OPTIONS)
    assert np.array_equal(dx, reference.conv_input_gradient(y, w, x.shape[2:], **numbers(rank)))
    dw = getattr(cconv, f"conv{rank}d_weight_gradient")(y, x, w.shape[2:], **OPTIONS)
    assert np.array_equal(dw, reference.conv_weight_gradient(y, x, w.shape[2:], **numbers(rank)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolution_and_gradients(rank):
    torch = pytest.importorskip("torch")
    x, w, b = arrays(rank)
    w = np.ascontiguousarray(w[:4])
    b = b[:4]
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    expected = getattr(torch.nn.functional, f"conv_transpose{rank}d")(tx, tw, tb, 2, 1, 1, 2)
    dy = np.random.default_rng(0).integers(-3, 4, expected.shape).astype(np.float64)
    expected.backward(torch.tensor(dy))
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    name = f"conv_transpose{rank}d"
    assert np.array_equal(getattr(cconv, name)(x, w, b, **options), expected.detach().numpy())
    dx = getattr(cconv, f"{name}_input_gradient")(dy, w, x.shape, **options)
    assert np.array_equal(dx, tx.grad.numpy())
    dw = getattr(cconv, f"{name}_weight_gradient")(dy, x, w.shape[2:], **options)
    assert np.array_equal(dw, tw.grad.numpy())


def test_sizes_per_axis_and_strided_arrays():
    x, w, b = arrays(2)
    turned = np.asfortranarray(x)[:, :, ::-1]
    y = cconv.conv2d(turned, w, b, stride=(1, 2), padding=(0, 1), dilation=(2, 1), groups=2)
    options = {"strides": (1, 2), "pads": (0, 1, 0, 1), "dilations": (2, 1), "group": 2}
    assert np.array_equal(y, reference.conv(turned, w, b, **options))


@pytest.mark.parametrize(
    "call, kind, words",
    [
        (lambda x, w, b: cconv.conv2d(x, w), ShapeError, "conv2d.*group"),
        (lambda x, w, b: cconv.conv2d(x[0], w), ShapeError, "4 axes"),
        (lambda x, w, b: cconv.conv2d(x, w.astype("f4"), groups=2), DTypeError, "x float64, w float32"),
        (lambda x, w, b: cconv.conv2d(x.astype(int), w.astype(int)), DTypeError, "float32 or all float64"),
        (lambda x, w, b: cconv.conv2d(x, w, b[:3], groups=2), ShapeError, r"b has shape \(6,\)"),
        (lambda x, w, b: cconv.conv2d(x, w, stride=(1, 1, 1), groups=2), ShapeError, "strides has 2 entries"),
        (lambda x, w, b: cconv.conv2d_input_gradient(x, w, (2, 4, 9, 9), groups=2), ShapeError, "dy has the shape"),
        (lambda x, w, b: cconv.conv2d_weight_gradient(x, x, (3,)), ShapeError, "kernel_shape 2 sizes"),
    ],
)
def test_errors_say_what_was_wrong(call, kind, words):
    with pytest.raises(kind, match=words):
        call(*arrays(2))
