"""sum_to and channel_sums on tensors of both layouts."""

import numpy as np
import pytest

from cconv.ops.reduce import channel_sums, sum_to
from cconv.ops.tensor import Layout
from cconv.plan.plan_builder import PlanBuilder


def evaluate(x, layout, operation):
    """operation(builder, tensor holding x) -> (its value in ONNX's axes, its layout)."""
    builder = PlanBuilder(np.float64)
    source = builder.as_layout(builder.external(x, "x"), layout)
    result = operation(builder, source)
    builder.pin(result)
    memory = builder.finish(2)
    memory.program.run()
    return memory.view(result).reshape(result.memory_shape).transpose(np.argsort(result.order)), result.layout


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 4, 5),
        (1, 3, 1, 1),
        (2, 1, 4, 1),
        (3, 1, 1),
        (3, 4, 5),
        (4, 5),
        (5,),
        (1,),
        (),
        (1, 1, 1, 1),
        (2, 3, 4, 1),
    ],
)
def test_sum_to(layout, shape):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    found, where = evaluate(x, layout, lambda builder, tensor: sum_to(builder, tensor, shape))
    padded = (1,) * (4 - len(shape)) + shape
    axes = tuple(i for i in range(4) if padded[i] == 1 != x.shape[i])
    assert np.array_equal(found, x.sum(axis=axes, keepdims=True).reshape(shape))
    assert where is (layout if len(shape) == 4 else Layout.ROW_MAJOR)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("shape", [(2, 3), (2, 17, 5), (3, 1, 4), (2, 3, 4, 5)])
def test_channel_sums(layout, shape):
    x = np.arange(float(np.prod(shape))).reshape(shape)
    found, _ = evaluate(x, layout, channel_sums)
    assert np.array_equal(found, x.sum(axis=tuple(i for i in range(x.ndim) if i != 1)))
