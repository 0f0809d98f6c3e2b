"""All cases, one module per file of cconv/ops."""

from ops_cases import (
    activation,
    arithmetic,
    batchnorm,
    cast,
    concat,
    control,
    conv,
    depth_space,
    dropout,
    gather,
    matmul,
    pad,
    pool,
    resize,
    scatter,
    select,
    shape,
    shape_arithmetic,
    softmax,
    strided,
)

MODULES = (
    activation,
    arithmetic,
    batchnorm,
    cast,
    concat,
    control,
    conv,
    depth_space,
    dropout,
    gather,
    matmul,
    pad,
    pool,
    resize,
    scatter,
    select,
    shape,
    shape_arithmetic,
    softmax,
    strided,
)

CASES = [case for module in MODULES for case in module.CASES]
