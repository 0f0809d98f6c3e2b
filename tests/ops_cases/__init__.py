"""All cases, one module per file of cconv/ops."""

from ops_cases import (
    activation,
    conv,
    matmul,
)

MODULES = (activation, conv, matmul)

CASES = [case for module in MODULES for case in module.CASES]
