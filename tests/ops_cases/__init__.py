"""All cases, one module per file of cconv/ops."""

from ops_cases import activation, arithmetic, concat, conv, dropout, pad, shape, softmax

MODULES = (
    activation,
    arithmetic,
    concat,
    conv,
    dropout,
    pad,
    shape,
    softmax,
)

CASES = [case for module in MODULES for case in module.CASES]
