"""The float64 reference against PyTorch, and against the formula in plain Python loops."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from cconv.kernels import reference


@dataclass(frozen=True)
class Conv:
    """A convolution; c channels go in, m come out, pads are all begins, then all ends."""

    n: int
    c: int
    m: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int = 1
    output_padding: tuple[int, ...] = ()

    @property
    def options(self):
        return {name: getattr(self, name) for name in ("strides", "pads", "dilations", "group")}


CONVS = [
    Conv(2, 3, 4, (9,), (3,), (1,), (1, 1), (1,)),
    Conv(1, 4, 6, (11,), (4,), (3,), (0, 2), (2,), 2),
    Conv(2, 3, 5, (7, 6), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    Conv(2, 4, 4, (8, 5), (3, 2), (2, 1), (2, 0, 1, 3), (1, 2), 2),
    Conv(1, 5, 5, (6, 7), (3, 3), (2, 2), (1, 0, 0, 2), (1, 1), 5),
    Conv(1, 3, 6, (5, 5), (1, 1), (2, 3), (0, 0, 0, 0), (1, 1), 3),
    Conv(2, 2, 3, (5, 4, 6), (2, 3, 2), (1, 2, 2), (1, 0, 2, 0, 1, 1), (1, 1, 2)),
]

# The largest output_padding is beyond the stride, which dilation allows.
TRANSPOSED = [
    Conv(2, 3, 4, (5,), (3,), (2,), (1, 0), (1,), 1, (1,)),
    Conv(2, 4, 6, (4, 3), (3, 2), (2, 3), (1, 1, 0, 2), (1, 2), 2, (1, 2)),
    Conv(1, 4, 4, (3, 4), (3, 3), (1, 2), (1, 1, 1, 1), (3, 1), 4, (2, 1)),
    Conv(1, 2, 3, (3, 2, 3), (2, 2, 3), (2, 1, 2), (0, 1, 0, 1, 0, 1), (1, 1, 1), 1, (1, 0, 1)),
]


def close(found, expected):
    """Equal up to the rounding of float64 sums of some dozen products of size 1."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def data(case: Conv, transposed=False):
    rng = np.random.default_rng(3)
    shape = (case.c, case.m // case.group) if transposed else (case.m, case.c // case.group)
    return (
        rng.standard_normal((case.n, case.c, *case.size)),
        rng.standard_normal((*shape, *case.kernel)),
        rng.standard_normal(case.m),
        rng,
    )


def brute_force(case: Conv, x, w, b):
    """One multiplication at a time."""
    sizes = [
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, before, after, k, s, d in zip(
            case.size, case.pads, case.pads[len(case.size):], case.kernel, case.strides, case.dilations
        )
    ]  # fmt: skip
    y = np.zeros((case.n, case.m, *sizes))
    per_group = case.c // case.group
    for n, m, *out in itertools.product(*map(range, y.shape)):
        y[n, m, *out] = b[m]
        for c, *tap in itertools.product(*map(range, w.shape[1:])):
            channel = m // (case.m // case.group) * per_group + c
            axes = zip(out, case.strides, tap, case.dilations, case.pads)
            at = [o * s + t * d - p for o, s, t, d, p in axes]
            if all(0 <= i < size for i, size in zip(at, case.size)):
                y[n, m, *out] += w[m, c, *tap] * x[n, channel, *at]
    return y


def adjoint(function, shape, dy):
    """sum(dy * df) for a linear f, one element of its argument at a time."""
    result = np.zeros(shape)
    for index in np.ndindex(*shape):
        one = np.zeros(shape)
        one[index] = 1
        result[index] = np.sum(dy * function(one))
    return result


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv_equals_brute_force(case):
    x, w, b, _ = data(case)
    close(reference.conv(x, w, b, **case.options), brute_force(case, x, w, b))


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv_gradients_are_adjoints(case):
    x, w, b, rng = data(case)
    y = reference.conv(x, w, b, **case.options)
    dy = rng.standard_normal(y.shape)
    dx = reference.conv_input_gradient(dy, w, case.size, **case.options)
    dw = reference.conv_weight_gradient(dy, x, case.kernel, **case.options)
    close(dx, adjoint(lambda x: reference.conv(x, w, **case.options), x.shape, dy))
    close(dw, adjoint(lambda w: reference.conv(x, w, **case.options), w.shape, dy))
    close(reference.conv_bias_gradient(dy), [dy[:, m].sum() for m in range(case.m)])


def torch_conv(case, transposed=False):
    torch = pytest.importorskip("torch")
    x, w, b, rng = data(case, transposed)
    tx, tw, tb = (torch.tensor(v, requires_grad=True) for v in (x, w, b))
    rank = len(case.size)
    if transposed:
        # PyTorch has no asymmetric pads: full output, then cropped. output_padding widens the end.
        full = getattr(torch.nn.functional, f"conv_transpose{rank}d")(
            tx, tw, tb, case.strides, 0, 0, case.group, case.dilations
        )
        after = [extra - pad for extra, pad in zip(case.output_padding, case.pads[rank:])]
        # F.pad lists the last axis first; where it widens, the bias alone must be there.
        sides = [v for i in reversed(range(rank)) for v in (-case.pads[i], after[i])]
        shape = [-1] + [1] * rank
        y = torch.nn.functional.pad(full - tb.reshape(shape), sides) + tb.reshape(shape)
    else:
        sides = [v for i in reversed(range(rank)) for v in (case.pads[i], case.pads[rank + i])]
        y = getattr(torch.nn.functional, f"conv{rank}d")(
            torch.nn.functional.pad(tx, sides), tw, tb, case.strides, 0, case.dilations, case.group
        )
    dy = rng.standard_normal(tuple(y.shape))
    y.backward(torch.tensor(dy))
    return (x, w, b), dy, [y.detach().numpy(), *(t.grad.numpy() for t in (tx, tw, tb))]


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_conv_equals_torch(case):
    (x, w, b), dy, (y, dx, dw, db) = torch_conv(case)
    close(reference.conv(x, w, b, **case.options), y)
    close(reference.conv_input_gradient(dy, w, case.size, **case.options), dx)
    close(reference.conv_weight_gradient(dy, x, case.kernel, **case.options), dw)
    close(reference.conv_bias_gradient(dy), db)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_equals_torch(case):
    (x, w, b), dy, (y, dx, dw, db) = torch_conv(case, transposed=True)
    found = reference.conv_transpose(x, w, b, **case.options, output_padding=case.output_padding)
    close(found, y)
    close(reference.conv_transpose_input_gradient(dy, w, case.size, **case.options), dx)
    close(reference.conv_transpose_weight_gradient(dy, x, case.kernel, **case.options), dw)
    close(reference.conv_bias_gradient(dy), db)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_equals_brute_force(case):
    x, w, b, _ = data(case, transposed=True)
    found = reference.conv_transpose(x, w, b, **case.options, output_padding=case.output_padding)
    rank, per_group = len(case.size), case.c // case.group
    expected = np.zeros(found.shape) + b.reshape(-1, *[1] * rank)
    for n, c, *at in itertools.product(*map(range, x.shape)):
        for m, *tap in itertools.product(*map(range, w.shape[1:])):
            axes = zip(at, case.strides, tap, case.dilations, case.pads)
            out = [i * s + t * d - p for i, s, t, d, p in axes]
            if all(0 <= o < size for o, size in zip(out, found.shape[2:])):
                expected[n, c // per_group * w.shape[1] + m, *out] += x[n, c, *at] * w[c, m, *tap]
    close(found, expected)
