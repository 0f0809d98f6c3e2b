"""Normalisations other than over the batch: what they refuse, and what onnxruntime has no case of."""

import numpy as np
import pytest

from cconv.errors import DTypeError, ModelError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.plan.plan import training_plan
from harness import Projection, directional_error, forward, model_of, node_model, projection_plan
from ops_cases.case import Case

WHOLE = np.arange(24).reshape(2, 3, 4)

REFUSED = [
    (Case("LayerNormalization", [(2, 3), (3,), (2,)], opset=17), ShapeError, r"input 2's sizes.*\(2,\)"),
    (Case("LayerNormalization", [(2, 3), (5, 2, 3)], opset=17), ShapeError, "input 1's sizes"),
    (Case("LayerNormalization", [(2, 3), (3,)], {"axis": 2}, opset=17), ShapeError, "found axis 2"),
    (Case("LayerNormalization", [(2, 0), (1,)], opset=17), ShapeError, r"at least one element.*\(2, 0\)"),
    (Case("LayerNormalization", [(2, 3), (3,)], {"epsilon": -1.0}, opset=17), ValueRangeError, "epsilon"),
    (Case("LayerNormalization", [(2, 3), (3,)], opset=16), UnsupportedOpError, "from opset 17"),
    (Case("LayerNormalization", [WHOLE, (4,)], opset=17), DTypeError, "input 0 holds floating-point.*int64"),
    (Case("RMSNormalization", [(2, 3), (2, 1, 3)], opset=23), ShapeError, "input 1's sizes"),
    (Case("GroupNormalization", [(2, 6, 4), (6,), (6,)], opset=21), ModelError, "no attribute 'num_groups'"),
    (Case("GroupNormalization", [(2, 6, 4), (6,), (6,)], {"num_groups": 4}, opset=21), ShapeError, "6 channels, 4"),
    (Case("GroupNormalization", [(2, 6, 4), (2,), (2,)], {"num_groups": 2}, opset=21), ShapeError, r"shape \(6,\)"),
    (Case("GroupNormalization", [(2, 6, 4), (6,), (6,)], {"num_groups": 2}, opset=18), ShapeError, r"shape \(2,\)"),
    (Case("GroupNormalization", [(6,), (6,), (6,)], {"num_groups": 2}, opset=21), ShapeError, "axes"),
    (Case("GroupNormalization", [WHOLE, (3,), (3,)], {"num_groups": 1}, opset=21), DTypeError, "int64"),
    (Case("InstanceNormalization", [(2, 3), (3,), (3,)]), ShapeError, r"\(N, C, ...\)"),
    (Case("InstanceNormalization", [(2, 3, 0), (3,), (3,)]), ShapeError, "not empty"),
    (Case("InstanceNormalization", [(2, 3, 4), (3,), (1,)]), ShapeError, r"\(bias\) has shape \(3,\)"),
    (Case("LRN", [(2, 3, 4)]), ModelError, "no attribute 'size'"),
    (Case("LRN", [(2, 3, 4)], {"size": 0}), ValueRangeError, "size is at least 1"),
    (Case("LRN", [(2, 3, 4)], {"size": 3, "bias": 0.0}), ValueRangeError, "bias greater than 0"),
    (Case("LRN", [WHOLE], {"size": 3}), DTypeError, "int64"),
    (Case("LpNormalization", [(2, 3)], {"p": 3}), ValueRangeError, "p is 1 or 2; found 3"),
    (Case("LpNormalization", [WHOLE]), DTypeError, "int64"),
    (Case("MeanVarianceNormalization", [(2, 3)]), ShapeError, "found axis 2"),
    (Case("MeanVarianceNormalization", [(2, 3)], {"axes": [0, -2]}), ShapeError, "named once"),
]


@pytest.mark.parametrize("case, error, message", REFUSED, ids=[case.id for case, _, _ in REFUSED])
def test_refused_with_the_reason(case, error, message):
    feeds = {f"x{i}": value for i, value in enumerate(case.arrays())}
    with pytest.raises(error, match=message) as caught:
        forward(model_of(node_model(case)), feeds)
    assert "'node'" in str(caught.value)


def gradient_error(case):
    model = model_of(node_model(case, dynamic=False))
    plan, weights = projection_plan(model, [f"x{i}" for i in range(len(case.inputs))])
    return max(directional_error(plan, weights, np.random.default_rng(1)).values())


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groups_of_a_vector(groups):
    """(N, C), as behind a Gemm: onnxruntime wants a spatial axis."""
    case = Case("GroupNormalization", [(5, 6), (6,), (6,)], {"num_groups": groups, "epsilon": 0.01}, opset=21)
    x, scale, bias = case.arrays()
    parts = x.reshape(5, groups, -1).astype(float)
    expected = (parts - parts.mean(axis=2, keepdims=True)) / np.sqrt(parts.var(axis=2, keepdims=True) + 0.01)
    expected = expected.reshape(5, 6) * scale + bias
    found = forward(model_of(node_model(case)), {"x0": x, "x1": scale, "x2": bias})["y0"]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert gradient_error(case) < 1e-6


def test_local_response_of_an_even_window():
    """One channel further up than down; onnxruntime has odd windows alone."""
    case = Case("LRN", [(2, 7, 3)], {"size": 4, "alpha": 0.8, "beta": 0.6, "bias": 1.5})
    (x,) = case.arrays()
    squares = np.pad(x.astype(float) ** 2, ((0, 0), (1, 2), (0, 0)))
    strength = 1.5 + 0.8 / 4 * sum(squares[:, k : k + 7] for k in range(4))
    assert np.allclose(forward(model_of(node_model(case)), {"x0": x})["y0"], x / strength**0.6, rtol=1e-5)
    assert gradient_error(case) < 1e-6


def test_rows_of_zeros_have_no_direction():
    x = np.array([[3, -4], [0, 0]], np.float32)
    for p, first in ((1, [3 / 7, -4 / 7]), (2, [0.6, -0.8])):
        case = Case("LpNormalization", [x], {"p": p})
        found = forward(model_of(node_model(case)), {"x0": x})["y0"]
        assert np.allclose(found, [first, [0, 0]])
        plan, _ = projection_plan(model_of(node_model(case, dynamic=False)), ["x0"])
        ((_, target),) = plan.targets.items()
        target[...] = 1
        plan.run(until="update")
        assert np.array_equal(plan.gradients["x0"][1], [0, 0])


def test_the_mean_of_a_row_passes_no_gradient_on():
    model = model_of(node_model(Case("LayerNormalization", [(2, 3), (3,)], opset=17, outputs=2), dynamic=False))
    weights = {name: array.astype(float) for name, array in model.weights.items()}
    with pytest.raises(UnsupportedOpError, match=r"'node'.*first output"):
        training_plan(model.nodes, {}, {"y1": Projection()}, weights, {}, ["x0"], dtype=float)
