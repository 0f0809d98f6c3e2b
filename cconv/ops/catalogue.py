"""The catalogue of all operators. Each file of operators has one line in the import and one in MODULES."""

from __future__ import annotations

from cconv.ops import (
    activation,
    arithmetic,
    batchnorm,
    bitwise,
    cast,
    comparison,
    concat,
    control,
    conv,
    depth_space,
    differentiate,
    dropout,
    einsum,
    gather,
    groupnorm,
    layernorm,
    lp_pool,
    lrn,
    matmul,
    normalization,
    pad,
    pool,
    quantize,
    reduction,
    resize,
    scatter,
    select,
    shape,
    shape_arithmetic,
    softmax,
    strided,
    unary,
    updates,
    variadic,
    where,
)
from cconv.ops.operator import Operator

MODULES = (
    activation,
    arithmetic,
    batchnorm,
    bitwise,
    cast,
    comparison,
    concat,
    control,
    conv,
    depth_space,
    differentiate,
    dropout,
    einsum,
    gather,
    groupnorm,
    layernorm,
    lp_pool,
    lrn,
    matmul,
    normalization,
    pad,
    pool,
    quantize,
    reduction,
    resize,
    scatter,
    select,
    shape,
    shape_arithmetic,
    softmax,
    strided,
    unary,
    updates,
    variadic,
    where,
)

CATALOGUE: dict[tuple[str, str], Operator] = {
    (operator.domain, operator.type): operator for module in MODULES for operator in module.OPERATORS
}


def find(domain: str, op_type: str) -> Operator | None:
    """The operator of an ONNX domain ("" is ai.onnx) and type; None if cconv does not have it."""
    return CATALOGUE.get((domain, op_type))
