"""Cast and CastLike: convert a tensor to another dtype.

A plan has only one floating-point dtype. So a cast between two of ONNX's floating-point dtypes does nothing: a model
that computes parts in float16 is computed in float32 throughout.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

import numpy as np

from cconv.errors import DTypeError, ModelError
from cconv.ops.elementwise import cast, is_real
from cconv.ops.folding import evaluate
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor

# ONNX's number of each dtype that a tensor can have in a plan. 16 is bfloat16, which NumPy does not have: float32 here.
DTYPES = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    12: np.uint32,
    13: np.uint64,
    16: np.float32,
}


class Cast(Operator):
    """Convert the input to the dtype given by the attribute `to`. A gradient passes only from float to float."""

    type = "Cast"
    per_example = True
    differentiable: ClassVar[tuple[int, ...] | None] = (0,)

    def target(self, call: Call) -> np.dtype:
        number = call.attribute("to")
        if number is None:
            raise call.error(ModelError, "names the dtype", "no attribute 'to'")
        if number not in DTYPES:
            raise call.error(
                DTypeError, "casts to bool, integers of 8 to 64 bits and floats of 16 to 64", f"to={number}"
            )
        return np.dtype(DTYPES[number])

    def shapes(self, call: Call) -> list[Spec]:
        spec, dtype = call.spec(0), self.target(call)
        if spec.dtype not in DTYPES.values():
            raise call.error(DTypeError, "the input holds bools, integers or floats", str(spec.dtype))
        return [Spec(spec.shape, dtype)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [cast(lower, call.input(0), call.results[0].dtype)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        dx = grads[0] if is_real(call.results[0].dtype) else None
        return [dx, *[None] * (len(call.specs) - 1)]


class CastLike(Cast):
    """Convert the first input to the dtype of the second."""

    type = "CastLike"
    since = 15
    inputs = (2, 2)

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        return 0 in moving

    def fold(self, call: Call) -> list[np.ndarray] | None:
        from onnx import helper

        value, to = call.constants[0], helper.np_dtype_to_tensor_dtype(call.results[0].dtype)
        return None if value is None else evaluate("Cast", call.opset, {"to": to}, [value], 1)

    def target(self, call: Call) -> np.dtype:
        call.read_by_shape_rule.add(1)  # Only the dtype of input 1 matters, so no tensor is needed for it.
        dtype = call.spec(1).dtype
        if dtype not in DTYPES.values():
            raise call.error(DTypeError, "casts to bools, integers or floats", str(dtype))
        return dtype


OPERATORS: list[Operator] = [Cast(), CastLike()]
