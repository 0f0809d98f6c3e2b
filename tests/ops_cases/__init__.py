"""All cases, one module per file of cconv/ops."""

from ops_cases import (
    activation,
    arithmetic,
    batchnorm,
    cast,
    concat,
    conv,
    depth_space,
    dropout,
    matmul,
    pad,
    pool,
    shape,
    shape_arithmetic,
    softmax,
    strided,
    unary,
)

MODULES = (
    activation,
    arithmetic,
    batchnorm,
    cast,
    concat,
    conv,
    depth_space,
    dropout,
    matmul,
    pad,
    pool,
    shape,
    shape_arithmetic,
    softmax,
    strided,
    unary,
)

CASES = [case for module in MODULES for case in module.CASES]
