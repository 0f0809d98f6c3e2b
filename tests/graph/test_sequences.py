"""Pieces of a tensor by way of a sequence: what onnxruntime computes, gradients, and what stays unknown."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.errors import UnsupportedOpError

node = helper.make_node


def pieces(split, indices, axis=1, keepdims=None, shape=(2, 7, 3), stored=True):
    """A network that gives each of these pieces of x * w; `split` None, a size, or sizes."""
    attributes = {"axis": axis} | ({} if keepdims is None else {"keepdims": keepdims})
    nodes = [node("Mul", ["x", "w"], ["product"])]
    numbers = {f"i{k}": np.array(index, np.int64) for k, index in enumerate(indices)}
    if split is not None:
        numbers["split"] = np.array(split, np.int64)
    if not stored:
        nodes += [node("Constant", [], [name], value=numpy_helper.from_array(n)) for name, n in numbers.items()]
    nodes.append(node("SplitToSequence", ["product", *(["split"] if split is not None else [])], ["all"], **attributes))
    nodes += [node("SequenceAt", ["all", f"i{k}"], [f"y{k}"]) for k in range(len(indices))]
    w = np.arange(1, 1 + np.prod(shape[1:]), dtype=np.float32).reshape(shape[1:])
    arrays = {"w": w, **(numbers if stored else {})}
    graph = helper.make_graph(
        nodes,
        "pieces",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"y{k}", TensorProto.FLOAT, None) for k in range(len(indices))],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 9
    return proto


CASES = {
    "a size": (3, [0, 1]),
    "a size, the last piece smaller": (3, [2, 0]),
    "sizes": ([2, 4, 1], [0, 1, 2]),
    "sizes, from the end": ([2, 4, 1], [-1, -3]),
    "ones": (None, [0, 6]),
}


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("axis", [1, -2])
def test_pieces_are_onnxruntimes(case, axis, stored):
    split, indices = CASES[case]
    proto = pieces(split, indices, axis, stored=stored)
    x = np.random.default_rng(1).standard_normal((2, 7, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    model = cconv.load(proto)
    found = model.run(x)
    for name, wanted in zip(model.output_names, session.run(None, {"x": x})):
        np.testing.assert_array_equal(found[name], wanted)


def test_pieces_without_their_axis():
    proto = pieces(None, [5, 0], keepdims=0)
    x = np.ones((2, 7, 3), np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = cconv.load(proto).run(x)
    for k, wanted in enumerate(session.run(None, {"x": x})):
        assert wanted.shape == (2, 3)
        np.testing.assert_array_equal(found[f"y{k}"], wanted)


def test_gradients_go_to_the_pieces_that_are_used():
    model = cconv.load(pieces([2, 4, 1], [0, 2]))
    x = np.ones((2, 7, 3), np.float32)
    targets = {name: np.zeros_like(value) for name, value in model.run(x).items()}
    trainer = cconv.Trainer(model, loss=dict.fromkeys(targets, "mse"))
    _, gradients = trainer.gradients(x, targets)
    w = model.weights["w"]
    expected = np.zeros((7, 3))
    expected[0:2] = 2 * w[0:2] / 6  # mean over 2 x 2 x 3 elements, of both examples
    expected[6] = 2 * w[6] / 3
    np.testing.assert_allclose(gradients["w"], expected, rtol=1e-6)


def test_the_model_keeps_its_nodes(tmp_path):
    proto = pieces(3, [0])
    model = cconv.load(proto)
    model.run(np.ones((2, 7, 3), np.float32))
    model.save(tmp_path / "model.onnx")
    assert [each.op_type for each in onnx.load(tmp_path / "model.onnx").graph.node] == [
        each.op_type for each in proto.graph.node
    ]


@pytest.mark.parametrize("change", ["index", "split", "beyond", "from the end of an unknown number"])
def test_what_is_not_known_is_named(change):
    proto = pieces([2, 4, 1], [3 if change == "beyond" else 0])
    if change == "from the end of an unknown number":
        proto = pieces(3, [-1])
    elif change != "beyond":
        name, kind = {"index": ("i0", []), "split": ("split", [3])}[change]
        kept = [tensor for tensor in proto.graph.initializer if tensor.name != name]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, kind))
    model = cconv.load(proto)
    inputs = {name: np.zeros((2, 7, 3), np.float32) for name in model.input_names}
    inputs |= {"split": np.array([2, 4, 1])} if change == "split" else {}
    inputs |= {"i0": np.array(0)} if change == "index" else {}
    with pytest.raises(UnsupportedOpError, match="SplitToSequence"):
        model.run(inputs)
