"""All cases, one module per file of cconv/ops."""

from ops_cases import (
    activation,
    arithmetic,
    batchnorm,
    cast,
    comparison,
    concat,
    conv,
    depth_space,
    dropout,
    matmul,
    pad,
    pool,
    select,
    shape,
    shape_arithmetic,
    softmax,
    strided,
    unary,
    variadic,
)

MODULES = (
    activation,
    arithmetic,
    batchnorm,
    cast,
    comparison,
    concat,
    conv,
    depth_space,
    dropout,
    matmul,
    pad,
    pool,
    select,
    shape,
    shape_arithmetic,
    softmax,
    strided,
    unary,
    variadic,
)

CASES = [case for module in MODULES for case in module.CASES]
