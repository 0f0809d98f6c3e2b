"""Find weights that are not float32, and convert floating-point ones to float32."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern, Done, Options
from cconv.concerns.edit import counted, listed, plain
from cconv.concerns.finding import ERROR, WARNING, Finding
from cconv.graph.at_save import AtSave, keys_of, retype
from cconv.model import Model

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_FLOATS = (*_HALF, ir.DataType.DOUBLE)
_QUANTISED = ("DequantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger", "QLinearMatMul")

# Relative tolerance when a float16 network is compared with its float32 version. Each layer of the float16 network
# rounds its result to 11 bits, a relative error of 5e-4; in a deep network these errors add up.
_HALF_TOLERANCE = 2e-2


def find(case: Case) -> Iterator[Finding]:
    severity = WARNING if any(case.model.weights[name].size > 1 for name in case.model.parameters) else ERROR
    for dtype in _FLOATS:
        names = _initializers(case.model, dtype)
        if not names and not any(value.dtype == dtype for value in case.model.ir.graph.inputs):
            continue
        fix = "Convert them to float32" + (" for training and back at save. *" if dtype in _HALF else ". *")
        yield Finding(
            severity,
            listed(names) or "inputs",
            f"{counted(len(names), 'weight')} of type {dtype.name.lower()}. cconv trains only float32 weights and "
            "leaves these unchanged.",
            fix,
            automatic=True,
        )
    quantised = [
        node for node in case.model.ir.graph if plain(node, *_QUANTISED) and any(_stored(v) for v in node.inputs)
    ]
    if quantised:
        yield Finding(
            severity,
            listed(node.name or node.op_type for node in quantised),
            f"Quantised weights in {counted(len(quantised), 'node')}. Integer weights cannot be trained by gradients.",
            "Fine-tune the network from before quantisation, then quantise it again.",
        )


def repair(model: Model, options: Options) -> Done | None:
    for dtype in _FLOATS:
        if not _initializers(model, dtype) and not any(value.dtype == dtype for value in model.ir.graph.inputs):
            continue
        count = len(_initializers(model, dtype))
        # Values that are float32 already are recorded, so that they stay float32 when the others are converted back.
        keep = keys_of(model.ir, ir.DataType.FLOAT)
        retype(model.ir, dtype, ir.DataType.FLOAT, set())
        half = dtype in _HALF
        if half:
            model.at_save = (*model.at_save, AtSave("dtype", {"source": "FLOAT", "target": dtype.name, "kept": keep}))
        model.edited()
        return Done(
            f"{counted(count, 'weight')} converted from {dtype.name.lower()} to float32",
            undone=half,
            tolerance=_HALF_TOLERANCE if half else None,
        )
    return None


def _initializers(model: Model, dtype: ir.DataType) -> list[str]:
    return [
        name
        for name, value in model.ir.graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype == dtype
    ]


def _stored(value: ir.Value | None) -> bool:
    """Whether a value is an initializer of integers with at most 8 bits each and has more than one element."""
    tensor = value.const_value if value is not None and value.is_initializer() else None
    return tensor is not None and tensor.dtype.is_integer() and tensor.dtype.bitwidth <= 8 and tensor.size > 1


CONCERNS = [Concern("dtype", find, repair)]
