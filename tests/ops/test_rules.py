"""What the shape rules of elementwise and shape operators refuse, and what costs no step."""

import numpy as np
import pytest

from cconv.errors import DTypeError, ModelError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.ops.shape import transposed
from cconv.ops.tensor import Layout
from cconv.plan.plan_builder import PlanBuilder
from harness import feeds_of, forward, model_of, node_model
from ops_cases.case import Case


def ints(*values):
    return np.array(values, dtype=np.int64)


WHOLE = np.arange(6)

REFUSED = [
    (Case("Add", [(2, 3), (4,)]), ShapeError, "aligned at the last.*\\(2, 3\\) and \\(4,\\)"),
    (Case("Add", [WHOLE, (6,)]), DTypeError, "one dtype.*int64 and float32"),
    (Case("Div", [WHOLE, WHOLE], constant_inputs=(0, 1)), ValueRangeError, "the divisor of integers is not 0"),
    (Case("MatMul", [WHOLE, WHOLE]), DTypeError, "known before the model runs.*int64 and int64"),
    (Case("Gemm", [(2, 3), np.eye(3, dtype=np.int32)]), DTypeError, "float32 and int32"),
    (Case("Conv", [np.ones((1, 1, 3), np.int8), (1, 1, 3)]), DTypeError, "input 0 .*int8"),
    (Case("ConvTranspose", [(1, 1, 3), np.ones((1, 1, 3), np.int64)]), DTypeError, "input 1 .*int64"),
    (Case("Relu", [WHOLE]), DTypeError, "floating-point.*int64"),
    (Case("Clip", [(3,), np.zeros(2, np.float32)], constant_inputs=(1,)), ShapeError, "scalar.*\\(2,\\)"),
    (Case("Clip", [(3,), np.array(1)]), DTypeError, "dtype of input 0; found int64"),
    (Case("Reshape", [(2, 3), ints(4, -1)], constant_inputs=(1,)), ShapeError, "as many elements"),
    (Case("Reshape", [(2, 3), ints(-1, -1)], constant_inputs=(1,)), ShapeError, "at most one -1"),
    (Case("Reshape", [(2, 3), ints(2, 3, 0)], constant_inputs=(1,)), ShapeError, "an axis that the input has"),
    (Case("Reshape", [(2, 3), ints(3, 2)]), UnsupportedOpError, "the new shape"),
    (Case("Flatten", [(2, 3)], {"axis": 3}), ShapeError, "-2..2; found axis 3"),
    (Case("Squeeze", [(2, 1), ints(0)], constant_inputs=(1,)), ShapeError, "only axes of size 1"),
    (Case("Squeeze", [(1, 1), ints(0, -2)], constant_inputs=(1,)), ShapeError, "named once"),
    (Case("Unsqueeze", [(2,)], opset=11), ModelError, "names the axes"),
    (Case("Transpose", [(2, 3)], {"perm": [0, 0]}), ShapeError, "each axis of the input once"),
    (Case("Concat", [(2, 3), (3, 3)], {"axis": 1}), ShapeError, "except along axis 1"),
    (Case("Concat", [(2,), WHOLE], {"axis": 0}), DTypeError, "float32 as input 0 and int64 as input 1"),
    (Case("Concat", [(2,), (2,)]), ModelError, "names the axis"),
    (Case("Constant", [], {"value_string": "text"}), UnsupportedOpError, "value_ints; found value_string"),
    (Case("Pad", [(2, 3), ints(0, 1)], constant_inputs=(1,)), ShapeError, "one begin, then one end"),
    (Case("Pad", [(2,), ints(-2, -1)], constant_inputs=(1,)), ShapeError, "crop at most the whole axis"),
    (
        Case("Pad", [(2,), ints(2, 0)], {"mode": "reflect"}, constant_inputs=(1,)),
        ShapeError,
        "less than the size",
    ),
    (
        Case("Pad", [(0,), ints(1, 0)], {"mode": "edge"}, constant_inputs=(1,)),
        ShapeError,
        "at least one element after cropping",
    ),
    (
        Case("Pad", [(2,), ints(1, 0)], {"mode": "wrap"}, constant_inputs=(1,), opset=18),
        UnsupportedOpError,
        "'wrap'",
    ),
    (Case("Softmax", [(2, 3)], {"axis": 2}), ShapeError, "-2..1; found axis 2"),
    (Case("Dropout", [(3,), np.array(1, np.float32)], constant_inputs=(1,)), ValueRangeError, "ratio < 1"),
]


@pytest.mark.parametrize("case, error, message", REFUSED, ids=[case.id for case, _, _ in REFUSED])
def test_refused_with_the_reason(case, error, message):
    with pytest.raises(error, match=message) as caught:
        forward(model_of(node_model(case)), feeds_of(case))
    assert "'node'" in str(caught.value)


def test_a_network_from_tensorflow_is_not_transposed():
    """(N, H, W, C) -> (N, C, H, W) is the channels-last layout that convolutions want."""
    builder = PlanBuilder(np.float32)
    x = builder.tensor((2, 5, 6, 3))
    y = transposed(builder, x, [0, 3, 1, 2])
    assert (y.buffer, y.shape, y.layout) == (x.buffer, (2, 3, 5, 6), Layout.CHANNELS_LAST)
    back = transposed(builder, y, [0, 2, 3, 1])
    assert (back.buffer, back.shape, back.layout) == (x.buffer, x.shape, Layout.ROW_MAJOR)
    assert builder.emissions == []
