"""All cases, one module per file of cconv/ops."""

from ops_cases import (
    activation,
    batchnorm,
    conv,
    matmul,
    pool,
)

MODULES = (activation, batchnorm, conv, matmul, pool)

CASES = [case for module in MODULES for case in module.CASES]
