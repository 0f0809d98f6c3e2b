"""All cases, one module per file of cconv/ops."""

from ops_cases import activation, conv

MODULES = (
    activation,
    conv,
)

CASES = [case for module in MODULES for case in module.CASES]
