"""What reductions refuse, their ties, zeros and infinities."""

import numpy as np
import pytest

from cconv.errors import DTypeError, ShapeError, UnsupportedOpError
from cconv.ops.reduce import reduced, repeated, without
from cconv.ops.tensor import Layout
from cconv.plan.plan_builder import PlanBuilder
from harness import feeds_of, forward, model_of, node_model, projection_plan
from ops_cases.case import Case

WHOLE = np.arange(6).reshape(2, 3)


def ints(*values):
    return np.array(values, np.int64)


REFUSED = [
    (Case("ReduceSum", [(2, 3), ints(2)], constant_inputs=(1,)), ShapeError, "-2..1; found axis 2"),
    (Case("ReduceSum", [(2, 3), ints(0, -2)], constant_inputs=(1,)), ShapeError, "named once"),
    (Case("ReduceMax", [(2, 3)], {"axes": [0, 0]}, opset=11), ShapeError, "named once"),
    (Case("ReduceSum", [(2, 3), ints(0)]), UnsupportedOpError, "axes.*initializer"),
    (Case("ReduceSum", [WHOLE]), UnsupportedOpError, "integers.*int64.*Cast"),
    (Case("ReduceMax", [WHOLE]), UnsupportedOpError, "integers.*int64"),
    (Case("ReduceSum", [WHOLE > 2]), UnsupportedOpError, "bool"),
    (Case("ArgMax", [WHOLE]), DTypeError, "floating-point.*int64"),
    (Case("ArgMin", [(2, 3)], {"axis": 2}), ShapeError, "found axis 2"),
    (Case("ArgMax", [(2, 0)], {"axis": 1}), ShapeError, r"at least one element; found shape \(2, 0\)"),
]


@pytest.mark.parametrize("case, error, message", REFUSED, ids=[case.id for case, _, _ in REFUSED])
def test_refused_with_the_reason(case, error, message):
    with pytest.raises(error, match=message) as caught:
        forward(model_of(node_model(case)), feeds_of(case))
    assert "'node'" in str(caught.value)


# Operator, input, its gradient for dy = 1, 10, ... along the rows.
GRADIENTS = [
    ("ReduceMax", [[1, 3, 3], [2, 2, 2]], [[0, 0.5, 0.5], [10 / 3] * 3]),
    ("ReduceMin", [[1, 3, 1], [2, 5, 6]], [[0.5, 0, 0.5], [10, 0, 0]]),
    ("ReduceProd", [[2, 3, 4], [0, 3, 5], [0, 0, 7]], [[12, 8, 6], [150, 0, 0], [0, 0, 0]]),
    ("ReduceL1", [[0, -2, 3]], [[0, -1, 1]]),
    ("ReduceL2", [[3, 0, -4], [0, 0, 0]], [[0.6, 0, -0.8], [0, 0, 0]]),
]


@pytest.mark.parametrize("kind, x, expected", GRADIENTS, ids=[kind for kind, _, _ in GRADIENTS])
def test_gradients_at_ties_and_zeros(kind, x, expected):
    """As PyTorch has them (amax, amin, prod, norm)."""
    case = Case(kind, [np.array(x, np.float32)], {"axes": [1], "keepdims": 0}, opset=11)
    plan, _ = projection_plan(model_of(node_model(case, dynamic=False)), ["x0"])
    ((_, target),) = plan.targets.items()
    target[...] = 10.0 ** np.arange(len(x))
    plan.run(until="update")
    assert np.allclose(plan.gradients["x0"], expected, rtol=1e-15)


def test_log_sum_exp_of_infinities():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 3], [np.inf, 3], [np.nan, 3]], np.float32)
    found = forward(model_of(node_model(Case("ReduceLogSumExp", [x], {"axes": [1]}, opset=13))), {"x0": x})["y0"]
    assert np.array_equal(found[:, 0], [-np.inf, 3, np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize("kind", ["L1", "L2", "SumSquare", "LogSum", "LogSumExp"])
def test_without_axes_elements_are_still_worked_on(kind):
    """noop_with_empty_axes: ONNX's text since opset 18; the reduction is of single elements."""
    x = np.array([[0.5, 2.0], [3.0, 0.25]], np.float32)
    case = Case(f"Reduce{kind}", [x], {"noop_with_empty_axes": 1, "keepdims": 0}, opset=18)
    single = {"L1": np.abs, "L2": np.abs, "SumSquare": np.square, "LogSum": np.log, "LogSumExp": lambda x: x}
    assert np.allclose(forward(model_of(node_model(case)), {"x0": x})["y0"], single[kind](x), rtol=1e-6)


def test_layouts():
    """What is dropped, and what is repeated, in the layout that the rest has."""
    builder = PlanBuilder(np.float32)
    x = builder.tensor((2, 3, 4, 5), Layout.CHANNELS_LAST)
    assert reduced(builder, "sum", x, [2, 3]).layout is Layout.CHANNELS_LAST
    before = len(builder.emissions)
    for axes, layout in [([1], Layout.ROW_MAJOR), ([2], Layout.CHANNELS_LAST), ([2, 3], Layout.ROW_MAJOR)]:
        y = builder.tensor([1 if i in axes else n for i, n in enumerate(x.shape)], x.layout)
        z = without(builder, y, axes)
        assert (z.buffer, z.layout) == (y.buffer, layout)
    assert len(builder.emissions) == before
    y = builder.tensor((1, 3, 4, 5), x.layout)
    z = without(builder, y, [0])  # (C, H, W) lies as (H, W, C), which is none of the layouts
    assert z.buffer is not y.buffer and z.shape == (3, 4, 5) and z.layout is Layout.ROW_MAJOR
    assert repeated(builder, x, x.shape, Layout.ROW_MAJOR) is x
