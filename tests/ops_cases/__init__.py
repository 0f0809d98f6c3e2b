"""All cases, one module per file of cconv/ops."""

from ops_cases import activation, batchnorm, pool

MODULES = (
    activation,
    batchnorm,
    pool,
)

CASES = [case for module in MODULES for case in module.CASES]
