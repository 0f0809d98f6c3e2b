"""QuantizeLinear and DequantizeLinear of the versions that add dtypes alone, or attributes that change nothing here."""

from onnx import TensorProto

from ops_cases.case import Case
from ops_cases.quantize import of, quanta, scale, wide

CASES = [
    Case("QuantizeLinear", [(3, 4), scale(4), of("int16", [1, -2, 3, 0])], attributes, (1, 2), opset, gradient=(),
         fill=wide, judge="onnx" if opset > 25 else "onnxruntime")
    for opset, attributes in [
        (23, {"precision": TensorProto.FLOAT}),
        (24, {"output_dtype": TensorProto.INT16}),
        (25, {}),
        (28, {"axis": -1}),
    ]
]  # fmt: skip
CASES += [
    Case("DequantizeLinear", [quanta((3, 4), "int8"), scale(4), of("int8", [1, -2, 3, 0])], attributes, (1, 2), opset,
         judge="onnx" if opset > 25 else "onnxruntime")
    for opset, attributes in [
        (19, {}),
        (23, {"output_dtype": TensorProto.FLOAT}),
        (24, {}),
        (25, {}),
        (28, {"axis": -1}),
    ]
]  # fmt: skip
