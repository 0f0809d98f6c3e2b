"""Small ONNX models, valid and crafted, for the tests of the graph layer."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(name: str, shape, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, initializers=(), opset: int = 17, **fields) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "net", inputs, outputs, list(initializers))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **fields)
    proto.ir_version = 8
    return proto


def linear(rng=None) -> onnx.ModelProto:
    """relu(x w + b), x (N, 4), three outputs."""
    rng = rng or np.random.default_rng(0)
    w = numpy_helper.from_array(rng.standard_normal((4, 3)).astype(np.float32), "w")
    b = numpy_helper.from_array(rng.standard_normal(3).astype(np.float32), "b")
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="gemm"),
        helper.make_node("Relu", ["h"], ["y"], name="relu"),
    ]
    return model(nodes, [value("x", ["N", 4])], [value("y", ["N", 3])], [w, b])


def relu(shape=("N", 4)) -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    return model([node], [value("x", list(shape))], [value("y", list(shape))])


def rich() -> onnx.ModelProto:
    """A model that uses every field that should survive a round trip."""
    rng = np.random.default_rng(1)
    w = numpy_helper.from_array(rng.standard_normal((2, 1, 3, 3)).astype(np.float32), "w")
    w.doc_string = "the weight"
    shape = numpy_helper.from_array(np.array([0, -1]), "shape")
    as_floats = helper.make_tensor("scale", TensorProto.FLOAT, (2, 1, 1), [1.5, -0.5])
    inner = helper.make_graph(
        [helper.make_node("Relu", ["s"], ["inner"], name="then_relu")], "then", [], [value("inner", None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["s"], ["inner2"], name="else_neg")], "else", [], [value("inner2", None)]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["c", "scale"], ["s"], name="mul", doc_string="scales"),
        helper.make_node("If", ["flag"], ["i"], name="if", then_branch=inner, else_branch=other),
        helper.make_node("Double", ["i"], ["d"], name="double", domain="my.functions"),
        helper.make_node("Strange", ["d", "", "w"], ["t"], name="strange", domain="com.example", text="a", f=0.5),
        helper.make_node("Reshape", ["t", "shape"], ["y"], name="reshape"),
    ]
    entry = nodes[0].metadata_props.add()
    entry.key, entry.value = "origin", "layer1"
    function = helper.make_function(
        "my.functions",
        "Double",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"], name="add")],
        [helper.make_opsetid("", 21)],
    )
    graph = helper.make_graph(
        nodes,
        "rich",
        [value("x", ["N", 1, 5, None]), value("flag", [], TensorProto.BOOL)],
        [value("y", ["N", "features"])],
        [w, as_floats, shape],
        doc_string="a graph",
        value_info=[value("t", ["N", 2, 5, "W"]), value("c", ["N", 2, 5, "W"]), value("w", [2, 1, 3, 3])],
    )
    note = graph.quantization_annotation.add()
    note.tensor_name = "c"
    pair = note.quant_parameter_tensor_names.add()
    pair.key, pair.value = "SCALE_TENSOR", "scale"
    proto = helper.make_model(
        graph,
        functions=[function],
        producer_name="someone",
        producer_version="3",
        doc_string="a model",
        model_version=7,
        domain="net.example",
        opset_imports=[
            helper.make_opsetid("my.functions", 1),
            helper.make_opsetid("", 21),
            helper.make_opsetid("com.example", 2),
        ],
    )
    proto.ir_version = 10
    helper.set_model_props(proto, {"zeta": "1", "alpha": "2"})
    return proto


def external(location: str, array: np.ndarray, offset=None, length=None, dims=None) -> onnx.TensorProto:
    """An initializer "w" whose values lie in a file."""
    tensor = TensorProto(name="w", data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
    tensor.dims.extend(array.shape if dims is None else dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, entry in (("location", location), ("offset", offset), ("length", length)):
        if entry is not None:
            tensor.external_data.add(key=key, value=str(entry))
    return tensor
