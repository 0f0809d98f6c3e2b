"""Model: weights that are the graph's memory, round trips field by field, run, summary."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cconv.errors import DTypeError, ModelError, OutputError, ShapeError, ValueRangeError
from cconv.model import Model, load
from graph import models


def as_dict(proto: onnx.ModelProto) -> dict:
    """All fields of a message, tensors by value (a weight may be stored as raw_data or as float_data)."""

    def convert(message):
        if isinstance(message, TensorProto):
            array = numpy_helper.to_array(message)
            return (message.name, message.doc_string, str(array.dtype), array.shape, array.tobytes())
        result = {}
        for field, found in message.ListFields():
            if field.type != field.TYPE_MESSAGE:
                result[field.name] = found if isinstance(found, (str, bytes, int, float)) else list(found)
            elif hasattr(found, "ListFields"):
                result[field.name] = convert(found)
            else:
                result[field.name] = [convert(part) for part in found]
        return result

    return convert(proto)


@pytest.mark.parametrize("make", [models.rich, models.linear, models.relu])
def test_round_trip_field_by_field(make, tmp_path):
    proto = make()
    model = load(proto)
    assert as_dict(model.proto()) == as_dict(proto)
    model.save(tmp_path / "a.onnx")
    again = load(tmp_path / "a.onnx")
    assert as_dict(again.proto()) == as_dict(proto)
    again.save(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_writing_to_a_weight_changes_that_and_nothing_else(tmp_path):
    proto = models.rich()
    model = load(proto)
    model.weights["w"][0, 0] += 1
    model.weights["scale"] = np.full((2, 1, 1), 3.0)
    before, after = as_dict(proto), as_dict(model.proto())
    w = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    w[0, 0] += 1
    assert after["graph"]["initializer"][0][4] == w.tobytes()
    assert after["graph"]["initializer"][1][4] == np.full(2, 3.0, np.float32).tobytes()
    for part in (before, after):
        del part["graph"]["initializer"][:2]
    assert before == after


def test_weights_are_the_initializers_memory():
    model = load(models.linear())
    for name, array in model.weights.items():
        assert array is model.ir.graph.initializers[name].const_value.raw
        assert array.flags.writeable and array.flags.c_contiguous and array.ctypes.data % 64 == 0
    with pytest.raises(ShapeError, match="weight 'w'"):
        model.weights["w"] = np.zeros(3)
    with pytest.raises(DTypeError, match="weight 'w'"):
        model.weights["w"] = np.zeros((4, 3), complex)
    with pytest.raises(KeyError, match="the model has w, b"):
        model.weights["v"]


def test_initializers_of_other_dtypes_are_constants():
    model = load(models.rich())
    assert list(model.weights) == ["w", "scale"]
    assert model.constants["shape"].tolist() == [0, -1]
    assert model.parameters == ["w", "scale"]


def test_copy_is_independent():
    model = load(models.rich())
    other = model.copy()
    assert as_dict(other.proto()) == as_dict(model.proto())
    other.weights["w"][...] = 0
    other.ir.graph.name = "other"
    assert model.weights["w"].any() and model.ir.graph.name == "rich"


def test_edited_reads_new_nodes_and_weights():
    model = load(models.relu())
    x = -np.ones((2, 4), np.float32)
    assert not model.run(x).any()
    kept = model.nodes
    graph = model.ir.graph
    relu = graph[0]
    array = np.arange(4, dtype=np.float32)
    value = ir.Value(name="new", const_value=ir.Tensor(array, name="new"))
    graph.initializers["new"] = value
    again = ir.node("Relu", [relu.outputs[0]], name="again")
    again.outputs[0].name = "z"
    graph.append(again)
    graph.outputs[0] = again.outputs[0]
    assert model.nodes is kept
    model.edited()
    assert [node.name for node in model.nodes] == ["relu", "again"]
    assert model.weights["new"].tolist() == [0, 1, 2, 3]
    assert model.weights["new"] is not array
    assert model.output_names == ["z"]
    assert not model.run(x).any()
    live = model.weights["new"]
    model.edited()
    assert model.weights["new"] is live


def test_initializers_among_the_inputs_are_not_asked_for():
    proto = models.linear()
    proto.ir_version = 3
    proto.graph.input.extend([models.value("w", [4, 3]), models.value("b", [3])])
    model = load(proto)
    assert model.input_names == ["x"]
    assert list(model.input_specs) == ["x"]
    assert as_dict(model.proto()) == as_dict(proto)


def test_input_specs():
    proto = models.rich()
    proto.graph.input.append(models.value("count", [-1, 3], TensorProto.INT64))
    specs = load(proto).input_specs
    assert specs["x"] == (("N", 1, 5, None), np.dtype(np.float32))
    assert specs["flag"] == ((), np.dtype(bool))
    assert specs["count"] == ((None, 3), np.dtype(np.int64))


def test_a_failed_save_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "net.onnx"
    model = load(models.linear())
    model.save(path)
    before = path.read_bytes()
    with pytest.raises(OutputError):
        model.save(tmp_path / "no" / "net.onnx")
    model.weights["w"][...] = 1
    model.ir.doc_string = "\ud800"  # cannot be encoded
    with pytest.raises(ModelError, match="can be written as ONNX"):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saved_files_run_in_onnxruntime(tmp_path):
    model = load(models.linear())
    model.weights["b"][...] = [1, 2, 3]
    model.save(tmp_path / "net.onnx")
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.zeros((1, 4), np.float32)})
    assert y.tolist() == [[1, 2, 3]]


# run


def test_run_returns_new_arrays_for_any_batch():
    model = load(models.relu())
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((n, 4)).astype(np.float32) for n in (3, 1, 3, 7, 2, 5, 4, 6, 3)]
    results = [model.run(x) for x in batches]
    for x, y in zip(batches, results):
        assert np.array_equal(y, np.maximum(x, 0))
    assert np.array_equal(model.run({"x": batches[0][:, ::-1]}, threads=2), results[0][:, ::-1])


def test_several_inputs_and_outputs():
    nodes = [helper.make_node("Relu", ["a"], ["p"]), helper.make_node("Relu", ["b"], ["q"])]
    proto = models.model(
        nodes,
        [models.value("a", ["N", 2]), models.value("b", ["N", "M"])],
        [models.value("p", ["N", 2]), models.value("q", ["N", "M"])],
    )
    model = load(proto)
    a, b = -np.ones((3, 2), np.float32), np.ones((3, 5), np.float32)
    found = model.run({"b": b, "a": a})
    assert list(found) == ["p", "q"]
    assert not found["p"].any() and np.array_equal(found["q"], b)
    with pytest.raises(ValueRangeError, match=r"takes a dict of arrays by name; found ndarray.*'a', 'b'"):
        model.run(a)
    with pytest.raises(ValueRangeError, match="the names are 'a', 'b'; found 'a', 'c'"):
        model.run({"a": a, "c": b})
    with pytest.raises(ShapeError, match="input 'b': axis 'N' has the size 3 that it has in 'a'; found 4"):
        model.run({"a": a, "b": np.ones((4, 5), np.float32)})


@pytest.mark.parametrize(
    "x, error, says",
    [
        (np.zeros((2, 4)), DTypeError, r"input 'x': is float32; found float64. Convert it: x.astype"),
        (np.zeros((2, 5), np.float32), ShapeError, r"has shape \(N, 4\); found shape \(2, 5\)"),
        (np.zeros(4, np.float32), ShapeError, r"has shape \(N, 4\); found shape \(4,\)"),
    ],
)
def test_wrong_inputs(x, error, says):
    model = load(models.relu())
    with pytest.raises(error, match=says):
        model.run(x)
    assert model.run(np.ones((1, 4), np.float32)).all()


def test_of_nothing_comes_nothing():
    assert load(models.linear()).run(np.zeros((0, 4), np.float32)).shape == (0, 3)


def test_summary_of_a_graph():
    text = load(models.relu(("N", 3, 4, 4))).summary()
    assert "net: x (N, 3, 4, 4) -> y" in text
    (line,) = [line for line in text.splitlines() if line.startswith("relu")]
    assert line.split(maxsplit=2) == ["relu", "Relu", "(N, 3, 4, 4)"]


def test_summary_where_shapes_are_open():
    model = load(models.relu(("N", 3, "H", "W")))
    assert "Give its shape" in model.summary()
    assert "(N, 3, 8, 9)" in model.summary({"x": (1, 3, 8, 9)})
    with pytest.raises(ValueRangeError, match="its names are inputs"):
        model.summary({"z": (1,)})


def test_repr():
    assert repr(load(models.linear())) == "Model('net': x(N, 4) -> y; 2 nodes, 15 parameters)"
    assert "'w': float32 (4, 3)" in repr(load(models.linear()).weights)


def test_an_initializer_without_a_value_is_refused():
    graph = ir.from_proto(models.linear())
    graph.graph.initializers["w"].const_value = None
    with pytest.raises(ModelError, match="initializer 'w'"):
        Model(graph)
