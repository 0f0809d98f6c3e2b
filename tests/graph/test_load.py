"""load: what it takes, and that each crafted model of SAFETY's kind is refused by a message that says why."""

import gzip
import io
import os
import pickle
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cconv.errors import CconvError, ModelError, UnsafeModelError, UnsupportedOpError
from cconv.graph.limits import Limits
from cconv.model import load
from graph import models


def test_sources_give_the_same_model(tmp_path):
    proto = models.linear()
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    for source in (proto, proto.SerializeToString(), path, str(path)):
        model = load(source)
        assert list(model.weights) == ["w", "b"]
        assert np.array_equal(model.weights["w"], numpy_helper.to_array(proto.graph.initializer[0]))
    assert len(proto.graph.initializer[0].raw_data) == 48  # a given message is left as it is


def test_other_sources_are_refused():
    with pytest.raises(TypeError, match="found int"):
        load(3)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.onnx"):
        load(tmp_path / "nothing.onnx")


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("data.pkl", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "an empty file"),
        (archive(), "zip archive, as PyTorch"),
        (pickle.dumps([1], protocol=2), "pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (gzip.compress(b"x" * 100), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b'ir_version: 8\nproducer_name: "x"\n', "text that begins with 'ir_version: 8"),
        (b"\x1c\0\0\0TFL3" + bytes(50), "TensorFlow Lite"),
        (bytes(range(256)) * 4, "not an ONNX message"),
        (models.linear().SerializeToString()[:-30], "not an ONNX message"),
        (onnx.TensorProto(name="w", dims=[1]).SerializeToString(), "binary form"),
    ],
)
def test_what_is_not_onnx_is_called_by_its_name(data, says, tmp_path):
    path = tmp_path / "some.onnx"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ModelError) as caught:
            load(source)
        assert says in str(caught.value)
    assert "some.onnx" in str(caught.value)


def test_folders_and_pipes(tmp_path):
    with pytest.raises(ModelError, match="a folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeModelError, match="pipe"):
        load(tmp_path / "pipe")


def test_damage_gives_a_cconv_error_or_a_model():
    """Cut off, or with one byte changed: no other exception, no crash."""
    data = models.rich().SerializeToString()
    rng = np.random.default_rng(0)
    outcomes = {"model": 0, "error": 0}
    for i in range(0, len(data), 5):
        changed = bytearray(data)
        changed[i] ^= int(rng.integers(1, 256))
        for damaged in (data[:i], bytes(changed)):
            try:
                load(damaged).proto()
                outcomes["model"] += 1
            except CconvError:
                outcomes["error"] += 1
    assert outcomes["error"] > 100 and outcomes["model"] > 10


# Crafted graphs: (what is done to models.linear(), what the message says).


def _set(path: str, new):
    def change(proto):
        target, last = proto, path.rsplit(".", 1)[-1]
        for part in path.split(".")[:-1]:
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        setattr(target, last, new)

    return change


def _dims(*dims):
    def change(proto):
        proto.graph.initializer[0].dims[:] = dims

    return change


def _typed(kind: int, field: str, values, dims):
    def change(proto):
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_type = kind
        tensor.dims[:] = dims
        getattr(tensor, field).extend(values)

    return change


def _node(op_type="Relu", inputs=("x",), outputs=("z",), at=None, **fields):
    def change(proto):
        node = helper.make_node(op_type, list(inputs), list(outputs), name="new", **fields)
        nodes = list(proto.graph.node)
        nodes.insert(len(nodes) if at is None else at, node)
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)

    return change


def _swap(proto):
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _cycle(proto):
    proto.graph.node[0].input[0] = "y"


def _twice_attribute(proto):
    proto.graph.node[0].attribute.extend([helper.make_attribute("alpha", 1.0), helper.make_attribute("alpha", 2.0)])


def _shadow(proto):
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["h"])], "inner", [], [models.value("h", None)])
    _node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)(proto)


def _deep(proto):
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["leaf"])], "leaf", [], [models.value("leaf", None)])
    for i in range(9):
        node = helper.make_node("If", ["x"], [f"o{i}"], then_branch=graph)
        graph = helper.make_graph([node], f"level{i}", [], [models.value(f"o{i}", None)])
    proto.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=graph))


def _sparse(proto):
    proto.graph.sparse_initializer.add()


def _unknown_attribute(proto):
    proto.graph.node[0].attribute.add(name="odd")


def _constant(proto):
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "inside")
    tensor.dims[0] = 5
    _node("Constant", [], ["k"], value=tensor)(proto)


def _twice(field):
    def change(proto):
        entries = getattr(proto.graph, field)
        entries.append(entries[0])

    return change


def _opset_twice(proto):
    proto.opset_import.add(domain="ai.onnx", version=17)


CRAFTED = {
    "more dims than bytes": (_dims(4, 4), "initializer 'w'.*takes 64 bytes; found 48"),
    "dims that overflow": (_dims(2**31, 2**31), "at most .* elements"),
    "dims whose product is 0 mod 2^64": (_dims(2**32, 2**32), "at most .* elements"),
    "huge beside zero": (_dims(2**62, 0), "at most .* elements"),
    "negative dims": (_dims(-4, -3), "sizes >= 0"),
    "too many axes": (_dims(*[1] * 65), "at most 64 axes"),
    "unknown dtype": (_set("graph.initializer.0.data_type", 99), "dtype that ONNX knows; found number 99"),
    "no dtype": (_set("graph.initializer.0.data_type", 0), "has a dtype; found none"),
    "wrong width": (_set("graph.initializer.0.data_type", TensorProto.DOUBLE), "takes 96 bytes"),
    "text as bytes": (_set("graph.initializer.0.data_type", TensorProto.STRING), "text not as bytes"),
    "short typed data": (_typed(TensorProto.FLOAT, "float_data", [1.0] * 5, [2, 3]), "takes 6 values"),
    "typed data of another type": (_typed(TensorProto.INT64, "float_data", [1.0], [1]), "int64_data"),
    "short packed data": (_typed(TensorProto.INT4, "int32_data", [1], [5]), "takes 3 values"),
    "constant": (_constant, "node 'new'.*attribute 'value', tensor 'inside'.*takes 20 bytes"),
    "undefined input": (_node(inputs=["nowhere"]), "node 'new' .*no value 'nowhere'"),
    "not sorted": (_swap, "node 'relu' .*'h', which node 'gemm' computes later"),
    "cycle": (_cycle, "no cycles; found one among the nodes 'gemm', 'relu'"),
    "self cycle": (_node(inputs=["z"], outputs=["z"]), "no cycles; found one among the nodes 'new'"),
    "value defined twice": (_node(outputs=["h"]), "defined once; found 'h' twice"),
    "initializer as output": (_node(outputs=["w"]), "defined once; found 'w' twice"),
    "input as output": (_node(outputs=["x"]), "defined once; found 'x' twice"),
    "outer value redefined": (_shadow, "defined once; found 'h' twice"),
    "initializer twice": (_twice("initializer"), "initializer 'w': is defined once"),
    "input twice": (_twice("input"), "'x' twice"),
    "output twice": (_twice("output"), "output 'y': every output stands once"),
    "output of nothing": (_set("graph.output.0.name", "nobody"), "output 'nobody'"),
    "attribute twice": (_twice_attribute, "'alpha' twice"),
    "attribute of no type": (_unknown_attribute, "attribute 'odd': has a type"),
    "no operator": (_set("graph.node.0.op_type", ""), "names its operator"),
    "unknown domain": (_node(domain="com.example"), "'com.example'"),
    "unknown input dtype": (_set("graph.input.0.type.tensor_type.elem_type", 77), "value 'x'.*77"),
    "negative size": (_set("graph.input.0.type.tensor_type.shape.dim.1.dim_value", -4), "value 'x'.*-4"),
    "sparse": (_sparse, "sparse"),
    "domain twice": (_opset_twice, "'ai.onnx' twice"),
    "future ir": (_set("ir_version", 99), "ir_version.*99"),
    "ancient ir": (_set("ir_version", 2), "ir_version.*found 2"),
}


@pytest.mark.parametrize("change, says", CRAFTED.values(), ids=CRAFTED.keys())
def test_crafted_models_are_refused(change, says):
    proto = models.linear()
    load(proto)
    change(proto)
    with pytest.raises(UnsafeModelError, match=says):
        load(proto.SerializeToString())


@pytest.mark.parametrize("opset, says", [(6, "7"), (999, "Upgrade the package onnx")])
def test_opsets_that_are_not_known(opset, says):
    proto = models.relu()
    proto.opset_import[0].version = opset
    with pytest.raises(UnsupportedOpError, match=says):
        load(proto)


@pytest.mark.parametrize("opset", [7, 13, onnx.defs.onnx_opset_version()])
def test_opsets_that_are(opset):
    proto = models.relu()
    proto.opset_import[0].version = opset
    assert load(proto).nodes[0].opset == opset


def test_training_info_and_map_types_are_refused():
    proto = models.relu()
    proto.training_info.add()
    with pytest.raises(UnsafeModelError, match="training_info"):
        load(proto)
    proto = models.relu()
    proto.graph.input[0].type.map_type.key_type = TensorProto.INT64
    with pytest.raises(UnsafeModelError, match="map_type"):
        load(proto)


def test_unsupported_operators_load_and_are_named_together_when_run():
    proto = models.relu()
    _node("Det", ["x"], ["e"])(proto)
    _node("Unique", ["x"], ["z"])(proto)
    proto.graph.output.extend([models.value("e", None), models.value("z", None)])
    model = load(proto)
    with pytest.raises(UnsupportedOpError, match=r"Det at 'new'; Unique at 'new'"):
        model.run(np.zeros((1, 4), np.float32))
    assert "Det (not supported)" in model.summary()


# Limits.


def test_limits_refuse_and_can_be_raised():
    proto = models.linear()
    size = len(proto.SerializeToString())
    for limits, says in (
        (Limits(file_bytes=size - 1), "Limits.file_bytes"),
        (Limits(nodes=1), "Limits.nodes"),
        (Limits(tensor_elements=11), "Limits.tensor_elements"),
    ):
        with pytest.raises(UnsafeModelError, match=says):
            load(proto.SerializeToString(), limits=limits)
    load(proto.SerializeToString(), limits=Limits(file_bytes=size, nodes=2, tensor_elements=12))


def test_limits_of_a_run():
    x = np.zeros((10, 4), np.float32)
    for limits, says in (
        (Limits(output_elements=39), r"node 'relu' .Relu.*Limits.output_elements"),
        (Limits(arena_bytes=100), r"Limits.arena_bytes"),
    ):
        model = load(models.relu(), limits=limits)
        assert model.copy().limits == limits
        with pytest.raises(UnsafeModelError, match=says):
            model.run(x)
    assert load(models.relu(), limits=Limits(output_elements=40)).run(x).shape == (10, 4)


def test_nested_subgraphs():
    proto = models.linear()
    _deep(proto)
    load(proto, limits=Limits(depth=10))
    with pytest.raises(UnsafeModelError, match=r"Limits.depth"):
        load(proto, limits=Limits(depth=9))


def test_nesting_beyond_what_protobuf_takes_is_refused():
    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while size >= 128:
            length, size = length + bytes([size % 128 + 128]), size // 128
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    graph = b""
    for _ in range(2000):  # GraphProto.node, NodeProto.attribute, AttributeProto.g
        graph = field(1, field(5, field(6, graph)))
    proto = models.relu()
    proto.ClearField("graph")
    with pytest.raises(ModelError, match="not an ONNX message"):
        load(proto.SerializeToString() + field(7, graph))


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    path = tmp_path / "large.onnx"
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse: takes no space
    with pytest.raises(UnsafeModelError, match=r"Limits.file_bytes"):
        load(path)


# External data.

W = np.arange(12, dtype=np.float32).reshape(4, 3)


def _with_external(folder, tensor: onnx.TensorProto):
    proto = models.linear()
    proto.graph.initializer[0].CopyFrom(tensor)
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    """A model's folder with its data "w.bin", and a secret outside of it."""
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "w.bin").write_bytes(bytes(8) + W.tobytes())
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    return inside


def test_external_data_is_read(folder):
    path = _with_external(folder, models.external("w.bin", W, offset=8, length=48))
    model = load(path)
    assert np.array_equal(model.weights["w"], W)
    assert np.array_equal(load(path.read_bytes(), base=folder).weights["w"], W)
    model.weights["w"][...] = 0
    assert (folder / "w.bin").read_bytes()[8:] == W.tobytes()  # no map of the file
    saved = onnx.ModelProto.FromString(model.proto().SerializeToString())
    assert saved.graph.initializer[0].raw_data == bytes(48)


def test_external_constants_are_read(folder):
    array = np.array([3, 1, 2], np.int64)
    (folder / "c.bin").write_bytes(array.tobytes())
    proto = models.relu()
    proto.graph.initializer.append(models.external("c.bin", array))
    proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=models.external("c.bin", array)))
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    model = load(path)
    assert np.array_equal(model.constants["w"], array)
    assert np.array_equal(model.nodes[1].attributes["value"], array)


def test_a_link_within_the_folder_is_followed(folder):
    (folder / "blobs").mkdir()
    (folder / "w.bin").rename(folder / "blobs" / "1")
    (folder / "w.bin").symlink_to("blobs/1")
    assert np.array_equal(load(_with_external(folder, models.external("w.bin", W, 8, 48))).weights["w"], W)


@pytest.mark.parametrize(
    "location, says",
    [
        ("../secret.bin", "own folder"),
        ("sub/../../secret.bin", "there"),
        ("/etc/passwd", "relative"),
        ("", "relative"),
        ("w.bin\0x", "relative"),
        ("missing.bin", "no file"),
        (".", "regular file"),
    ],
)
def test_locations_outside_are_refused(folder, location, says):
    with pytest.raises(UnsafeModelError, match=says):
        load(_with_external(folder, models.external(location, W)))


def test_links_that_lead_outside_are_refused(folder):
    (folder / "link.bin").symlink_to("../secret.bin")
    (folder / "up").symlink_to("..")
    for location in ("link.bin", "up/secret.bin"):
        with pytest.raises(UnsafeModelError, match="links resolved"):
            load(_with_external(folder, models.external(location, W)))
    (folder / "loop").symlink_to("loop")
    with pytest.raises(UnsafeModelError, match="loop"):
        load(_with_external(folder, models.external("loop", W)))


def test_hard_links_are_refused(folder):
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    with pytest.raises(UnsafeModelError, match="one hard link"):
        load(_with_external(folder, models.external("hard.bin", W)))


def test_pipes_are_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(UnsafeModelError, match="regular file"):
        load(_with_external(folder, models.external("pipe", W)))


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"offset": 9}, "within the file"),
        ({"offset": 10**15}, "within the file"),
        ({"offset": -8}, "whole numbers"),
        ({"offset": "1e3"}, "whole numbers"),
        ({"length": 10**15}, "take 48 bytes; found a length"),
        ({"length": 44}, "take 48 bytes; found a length"),
        ({"dims": [2**31, 2**31]}, "elements"),
        ({"dims": [400, 300]}, "within the file"),
    ],
)
def test_offsets_and_lengths_that_do_not_fit_are_refused(folder, fields, says):
    with pytest.raises(UnsafeModelError, match=says):
        load(_with_external(folder, models.external("w.bin", W, **fields)))


def test_bytes_have_no_external_data_without_a_base(folder, monkeypatch):
    path = _with_external(folder, models.external("w.bin", W, 8, 48))
    monkeypatch.chdir(folder)
    with pytest.raises(UnsafeModelError, match="base=folder"):
        load(path.read_bytes())


def test_external_and_inner_data_together_are_refused(folder):
    tensor = models.external("w.bin", W, 8, 48)
    tensor.raw_data = W.tobytes()
    with pytest.raises(UnsafeModelError, match="stands alone"):
        load(_with_external(folder, tensor))


def test_external_bytes_have_a_limit(folder):
    path = _with_external(folder, models.external("w.bin", W, 8, 48))
    with pytest.raises(UnsafeModelError, match=r"Limits.external_bytes"):
        load(path, limits=Limits(external_bytes=47))
