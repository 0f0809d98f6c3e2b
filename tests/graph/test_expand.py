"""Operators that cconv has not and the standard defines by others."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

from cconv import load
from cconv.errors import ModelError, UnsafeModelError, UnsupportedOpError
from cconv.graph.limits import Limits
from cconv.graph.nodes import BEYOND, Node
from cconv.ops.catalogue import find
from harness import directional_error, projection_plan

KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
RNG = np.random.default_rng(0)


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model(op_type, arrays, weights=(), opset=22, outputs=1, **attributes):
    """One node; the arrays at the indices `weights` are initializers."""
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(arrays)]
    results = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, results, "node", **attributes)],
        "net",
        [
            helper.make_tensor_value_info(name, KINDS[array.dtype], array.shape)
            for i, (name, array) in enumerate(zip(names, arrays))
            if array is not None and i not in weights
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
        [numpy_helper.from_array(arrays[i], names[i]) for i in weights],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 10
    return proto


LABELS = np.array([0, 2, 1, 2])
CASES = [
    ("Shrink", [real(3, 4)], {"lambd": 0.5, "bias": 0.1}, 9),
    ("SoftmaxCrossEntropyLoss", [real(4, 3), LABELS], {}, 13),
    ("SoftmaxCrossEntropyLoss", [real(4, 3), LABELS, abs(real(3))], {"reduction": "sum", "ignore_index": 1}, 13),
    ("NegativeLogLikelihoodLoss", [real(4, 3, 2), np.tile(LABELS[:, None], 2)], {"reduction": "none"}, 13),
    ("CenterCropPad", [real(5, 4), np.array([3, 6])], {}, 18),
    ("Attention", [real(2, 3, 4, 8), real(2, 3, 6, 8), real(2, 3, 6, 8), real(4, 6)], {}, 23),
]


@pytest.mark.parametrize("op_type, arrays, attributes, opset", CASES, ids=[f"{c[0]}{len(c[2])}" for c in CASES])
def test_what_the_standard_defines_equals_onnxruntime(op_type, arrays, attributes, opset):
    proto = model(op_type, arrays, opset=opset, **attributes)
    assert find("", op_type) is None
    feeds = {f"x{i}": array for i, array in enumerate(arrays)}
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    loaded = load(proto)
    found = loaded.run(feeds)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
    assert loaded.proto().graph.node[0] == proto.graph.node[0], "the user's graph keeps its node"


@pytest.mark.parametrize(
    "op_type, arrays, weights, opset",
    [
        ("SoftmaxCrossEntropyLoss", [real(4, 3), LABELS], [0], 13),
        ("Attention", [real(1, 2, 3, 4), real(1, 2, 5, 4), real(1, 2, 5, 4)], [0, 1, 2], 23),
    ],
)
def test_the_gradient_goes_through(op_type, arrays, weights, opset):
    """float64, one direction per input; the difference quotient itself is good to about 1e-8."""
    loaded = load(model(op_type, arrays, range(len(arrays)), opset))
    names = [f"x{i}" for i in weights]
    errors = directional_error(*projection_plan(loaded, names), np.random.default_rng(1))
    assert set(errors) == set(names)
    assert max(errors.values()) < 1e-6, errors


def test_an_optional_output_that_is_not_asked_for():
    arrays = [real(4, 3), LABELS]
    loss = load(model("SoftmaxCrossEntropyLoss", arrays, opset=13)).run({"x0": arrays[0], "x1": arrays[1]})
    both = load(model("SoftmaxCrossEntropyLoss", arrays, opset=13, outputs=2)).run({"x0": arrays[0], "x1": arrays[1]})
    assert loss == both["y0"]
    np.testing.assert_allclose(np.exp(both["y1"]).sum(axis=1), 1, rtol=1e-6)


def test_what_is_supported():
    def node(op_type, domain="", opset=25, **attributes):
        return Node(0, "n", op_type, domain, opset, ("x",), ("y",), attributes)

    assert node("Shrink").supported and node("Relu").supported
    assert not node("Relu").has_definition or find("", "Relu")
    assert not node("Shrink", "com.example").supported
    assert not node("Attention", opset=22).supported, "it came with opset 23"
    assert not node("Scan").supported and not node("NoSuchOperator").supported


HEADS = {"q_num_heads": 2, "kv_num_heads": 2, "update_rule": "linear"}
DEFINED = {
    "Bernoulli": ([real(2, 2)], {}, "RandomUniformLike"),
    "LinearAttention": ([real(1, 3, 8)] * 3, HEADS, "Scan"),
}


@pytest.mark.parametrize("op_type", BEYOND)
def test_definitions_that_cconv_cannot_follow(op_type, monkeypatch):
    """Each of them uses an operator that cconv has not; else its line in BEYOND is to go."""
    arrays, attributes, needed = DEFINED[op_type]
    feeds = {f"x{i}": array for i, array in enumerate(arrays)}
    schema = defs.get_schema(op_type)
    proto = model(op_type, arrays, opset=schema.since_version, outputs=schema.min_output, **attributes)
    loaded = load(proto)
    with pytest.raises(UnsupportedOpError, match=rf"found 1 that it has not: {op_type} at 'node'"):
        loaded.run(feeds)
    assert not loaded.nodes[0].supported
    monkeypatch.setattr("cconv.graph.nodes.BEYOND", ())
    with pytest.raises(UnsupportedOpError, match=rf"found 1 that it has not: {needed} at 'node >"):
        load(proto).run(feeds)


def test_the_limit_of_nodes_holds_inside():
    arrays = [real(4, 3), LABELS]
    loaded = load(model("SoftmaxCrossEntropyLoss", arrays, opset=13), limits=Limits(nodes=3))
    with pytest.raises(UnsafeModelError, match=r"at most 3 nodes"):
        loaded.run({"x0": arrays[0], "x1": arrays[1]})


def test_what_the_definition_does_not_take():
    arrays = [real(4, 3), LABELS]
    for op_type, given, attributes, says in [
        ("SoftmaxCrossEntropyLoss", arrays[:1], {}, r"has 2 to 3 inputs; found 1"),
        ("RotaryEmbedding", [real(1, 2, 3, 4), real(3, 2)], {}, r"has 3 to 4 inputs; found 2"),
    ]:
        proto = model(op_type, given, opset=23, **attributes)
        with pytest.raises(ModelError, match=f"'node'.*{says}"):
            load(proto).run(dict(zip(["x0", "x1"], given)))


def test_the_summary_does_not_call_what_has_a_definition_unsupported():
    text = load(model("Shrink", [real(3, 4)], opset=9)).summary()
    assert "Shrink" in text and "not supported" not in text
