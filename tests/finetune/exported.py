"""Networks as exporters write them, for the tests of doctor and repair, made with onnx.helper.

`residual` is a network with BatchNormalization; `fold` is what an exporter in eval mode makes of it, in the names of
PyTorch's first exporter (onnx::Conv_81), its second (stem.weight, stem.weight_bias), or names that tell nothing.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES = 8, 4
node = helper.make_node


def value(name: str, shape, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, arrays, opset=17, ir_version=9) -> onnx.ModelProto:
    """A message; arrays keep their dtype, outputs without a shape get the one that onnx infers."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializers)
    if ir_version < 4:
        graph.input.extend(value(t.name, list(t.dims), t.data_type) for t in initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = ir_version
    inferred = {info.name: info for info in onnx.shape_inference.infer_shapes(proto).graph.output}
    for info in proto.graph.output:
        if not info.type.tensor_type.HasField("shape"):
            info.CopyFrom(inferred[info.name])
    return proto


def images(count=24, seed=3, channels=3, side=SIDE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, channels, side, side)) * 1.5 + 0.4).astype(np.float32)


# Convolutions: name -> (input, channels in, channels out, kernel)
_LAYERS = {
    "stem": ("x", 3, 6, 3),
    "a1": ("stem.out", 6, 6, 3),
    "a2": ("a1.out", 6, 6, 3),
    "b1": ("a.out", 6, 8, 3),
    "b2": ("b1.out", 8, 8, 3),
    "skip": ("a.out", 6, 8, 1),
}
_WITHOUT_RELU = ("a2", "b2", "skip")


def residual(seed=0, batch="N") -> onnx.ModelProto:
    """x (N, 3, 8, 8) -> two residual blocks -> mean -> Gemm -> logits (N, 4), with BatchNormalization throughout."""
    rng = np.random.default_rng(seed)
    arrays, nodes = {}, []
    for name, (source, ci, co, k) in _LAYERS.items():
        arrays[f"{name}.weight"] = rng.standard_normal((co, ci, k, k)) * np.sqrt(2 / (ci * k * k))
        arrays[f"{name}.bn.scale"] = rng.uniform(0.5, 1.5, co)
        arrays[f"{name}.bn.bias"] = rng.standard_normal(co) / 3
        arrays[f"{name}.bn.mean"] = rng.standard_normal(co) / 3
        arrays[f"{name}.bn.var"] = rng.uniform(0.5, 2, co)
        if name == "b1":
            nodes.append(node("Add", ["a2.bn", "stem.out"], ["a.sum"], "a.add"))
            nodes.append(node("Relu", ["a.sum"], ["a.out"], "a.relu"))
        nodes.append(node("Conv", [source, f"{name}.weight"], [f"{name}.conv"], name, pads=[k // 2] * 4))
        parameters = [f"{name}.bn.{part}" for part in ("scale", "bias", "mean", "var")]
        nodes.append(node("BatchNormalization", [f"{name}.conv", *parameters], [f"{name}.bn"], f"{name}.norm"))
        if name not in _WITHOUT_RELU:
            nodes.append(node("Relu", [f"{name}.bn"], [f"{name}.out"], f"{name}.relu"))
    nodes += [
        node("Add", ["b2.bn", "skip.bn"], ["b.sum"], "b.add"),
        node("Relu", ["b.sum"], ["b.out"], "b.relu"),
        node("GlobalAveragePool", ["b.out"], ["pooled"], "pool"),
        node("Flatten", ["pooled"], ["features"], "flatten"),
        node("Gemm", ["features", "fc.weight", "fc.bias"], ["logits"], "fc", transB=1),
    ]
    arrays["fc.weight"], arrays["fc.bias"] = rng.standard_normal((CLASSES, 8)), np.zeros(CLASSES)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return model(nodes, [value("x", [batch, 3, SIDE, SIDE])], [value("logits", [batch, CLASSES])], arrays)


def fold(proto: onnx.ModelProto, names="pytorch") -> onnx.ModelProto:
    """The same network without BatchNormalization. names: "pytorch", "dynamo" or "plain"."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = proto.graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    makers = {output: each for each in graph.node for output in each.output}
    kept, number = [], 80
    for each in graph.node:
        if each.op_type != "BatchNormalization":
            kept.append(each)
            continue
        conv, (scale, bias, mean, var) = makers[each.input[0]], (arrays.pop(name) for name in each.input[1:])
        factor = scale / np.sqrt(var + 1e-5)
        weight = arrays.pop(conv.input[1]) * factor[:, None, None, None]
        number += 3
        new = {
            "pytorch": (f"onnx::Conv_{number}", f"onnx::Conv_{number + 1}"),
            "dynamo": (conv.input[1], f"{conv.input[1]}_bias"),
            "plain": (f"{conv.name}.w", f"{conv.name}.c"),
        }[names]
        arrays[new[0]], arrays[new[1]] = weight, bias - mean * factor
        conv.input[1:] = new
        conv.output[0] = each.output[0]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    return proto


def vgg(batch=1, softmax=True, seed=0) -> onnx.ModelProto:
    """Convolutions without normalisation, Reshape to a constant shape, two Gemms, Softmax."""
    rng = np.random.default_rng(seed)
    arrays = {
        "c1.weight": rng.standard_normal((5, 3, 3, 3)) / 4,
        "c1.bias": rng.standard_normal(5) / 4,
        "c2.weight": rng.standard_normal((6, 5, 3, 3)) / 6,
        "c2.bias": rng.standard_normal(6) / 4,
        "fc1.weight": rng.standard_normal((10, 24)) / 3,
        "fc1.bias": rng.standard_normal(10) / 4,
        "fc2.weight": rng.standard_normal((CLASSES, 10)) / 2,
        "fc2.bias": rng.standard_normal(CLASSES) / 4,
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    shape = numpy_helper.from_array(np.array([batch if isinstance(batch, int) else 0, 24]))
    nodes = [
        node("Conv", ["x", "c1.weight", "c1.bias"], ["c1"], "conv1", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "c2.weight", "c2.bias"], ["c2"], "conv2", pads=[1] * 4),
        node("Relu", ["c2"], ["r2"], "relu2"),
        node("MaxPool", ["r2"], ["p2"], "pool2", kernel_shape=[2, 2], strides=[2, 2]),
        node("Constant", [], ["shape"], "constant", value=shape),
        node("Reshape", ["p2", "shape"], ["flat"], "reshape"),
        node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["h"], "fc1", transB=1),
        node("Relu", ["h"], ["hr"], "relu3"),
        node("Gemm", ["hr", "fc2.weight", "fc2.bias"], ["scores"], "fc2", transB=1),
    ]
    if softmax:
        nodes.append(node("Softmax", ["scores"], ["y"], "softmax", axis=1))
    else:
        nodes[-1].output[0] = "y"
    return model(nodes, [value("x", [batch, 3, SIDE, SIDE])], [value("y", [batch, CLASSES])], arrays)


def half(proto: onnx.ModelProto, dtype=np.float16) -> onnx.ModelProto:
    """The same network in float16 (or float64), inputs and outputs included, with a Cast as exporters leave them."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for info in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = number
    first = proto.graph.node[0]
    cast = node("Cast", [first.input[0]], ["x.cast"], "cast", to=number)
    first.input[0] = "x.cast"
    proto.graph.node.insert(0, cast)
    return proto


def with_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its float32 initializers as Constant nodes."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    tensors = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    for tensor in reversed(tensors):
        name = tensor.name
        proto.graph.node.insert(0, node("Constant", [], [name], f"constant of {name}", value=tensor))
    return proto


def merged(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with equal initializers stored once; Identity nodes, first in the graph, give the others."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    seen: dict = {}
    kept = []
    for tensor in proto.graph.initializer:
        key = (tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        if key in seen:
            identity = node("Identity", [seen[key]], [tensor.name], f"Identity_{len(seen)}_{tensor.name}")
            proto.graph.node.insert(0, identity)
        else:
            seen[key] = tensor.name
            kept.append(tensor)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto
