"""What is promised about models nobody vouches for, beyond test_load.py; and what tools/fuzz.py has found."""

import ast
import importlib
import math
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import helper, numpy_helper

import cconv
import cconv.plan
from cconv.errors import CconvError, DTypeError, ModelError, ShapeError, UnsafeModelError, ValueRangeError
from cconv.files import atomic_write
from cconv.model import load
from cconv.ops.tensor import Spec
from graph import models

SOURCES = sorted(Path(cconv.__file__).parent.rglob("*.py"))


# Nothing runs that came out of a file.


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_no_code_comes_from_a_file(path):
    """No pickle, no eval, no NumPy file with objects, no class or module that a file names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            bare = isinstance(node.func, ast.Name)
            assert not (bare and called in ("eval", "exec", "__import__", "compile")), f"{path}:{node.lineno}"
            owner = getattr(getattr(node.func, "value", None), "id", "")
            if owner == "np" and called == "load":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                assert isinstance(given["allow_pickle"], ast.Constant) and given["allow_pickle"].value is False
    assert not imported & {"pickle", "marshal", "shelve", "dill", "joblib"}, path


def test_loading_asks_none_of_onnxs_c_code_that_walks_graphs(monkeypatch, tmp_path):
    """The checker, shape inference and the version converter have crashed on crafted models."""

    def never(*args, **kwargs):
        pytest.fail("called")

    for module, names in (
        (onnx.checker, ["check_model", "check_graph", "check_node", "check_tensor"]),
        (onnx.shape_inference, ["infer_shapes", "infer_shapes_path"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, never)
    version_converter = importlib.import_module("onnx.version_converter")

    monkeypatch.setattr(version_converter, "convert_version", never)
    for proto in (models.rich(), models.linear()):
        model = load(proto.SerializeToString())
        model.summary()
        model.save(tmp_path / "net.onnx")
    model.run(np.zeros((2, 4), np.float32))


# Nothing is read or written but what was named.


def external(tmp_path, entries) -> bytes:
    w = np.arange(12, dtype=np.float32).reshape(4, 3)
    (tmp_path / "w.bin").write_bytes(w.tobytes())
    proto = models.linear()
    tensor = models.external("w.bin", w)
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer[0].CopyFrom(tensor)
    return proto.SerializeToString()


def test_keys_of_external_data_that_are_not_known_set_nothing(tmp_path):
    """They have been made attributes of Python objects elsewhere."""
    odd = [("__class__", "os"), ("base", "/"), ("basepath", "/etc"), ("checksum", "0" * 40), ("nbytes", "9" * 15)]
    model = load(external(tmp_path, odd), base=tmp_path)
    assert model.weights["w"][3, 2] == 11


def test_a_location_given_twice_is_judged_by_the_one_that_is_read(tmp_path):
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    with pytest.raises(UnsafeModelError, match="own folder"):
        load(external(inside, [("location", "../secret.bin")]), base=inside)


def test_saving_writes_the_named_file_its_data_and_no_other(tmp_path):
    """External data goes to a file of data beside the named one; nothing is written to what was read."""
    model = load(external(tmp_path, []), base=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    out = tmp_path / "out"
    out.mkdir()
    model.save(out / "net.onnx")
    assert sorted(path.name for path in out.iterdir()) == ["net.onnx", "w.bin"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    model.save(tmp_path / "net.onnx")  # here "w.bin" is taken
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"w.bin", "net.onnx", "net.onnx.data"}


def test_a_file_is_on_the_disk_before_it_takes_the_others_place(tmp_path, monkeypatch):
    """fsync of the file, rename within its folder, fsync of the folder."""
    done = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor):
        done.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def renamed(source, target):
        done.append(("rename", Path(source)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renamed)
    target = tmp_path / "net.onnx"
    atomic_write(target, b"data")
    (first, temporary), (second, source), (third, folder) = done
    assert (first, second, third) == ("fsync", "rename", "fsync")
    assert temporary == source != target
    assert temporary.parent == folder == target.parent
    assert target.read_bytes() == b"data"


# What the fuzzer has found.


def one(op_type, inputs, arrays=(), outputs=("y",), opset=17, **attributes):
    """A model of one node; x is its first input."""
    names = ["x", *dict(arrays)]
    return models.model(
        [helper.make_node(op_type, names, list(outputs), name="node", **attributes)],
        [models.value("x", inputs)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(arrays).items()],
        opset=opset,
    )


def test_an_attribute_of_another_type_is_refused():
    proto = one("Concat", [2, 3], axis=[0])
    with pytest.raises(ModelError, match=r"node 'node' \(Concat\): attribute 'axis' is of type INT; found INTS"):
        load(proto).run(np.zeros((2, 3), np.float32))


def test_an_attribute_that_stands_for_one_of_a_function_is_refused_outside_of_one():
    proto = one("Concat", [2, 3], axis=0)
    proto.graph.node[0].attribute[0].ref_attr_name = "other"
    with pytest.raises(ModelError, match="stand for others within functions only; found 'axis'"):
        load(proto).run(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("version", [-1, 2**31, 2**63 - 1])
def test_a_version_of_another_domain_that_onnx_cannot_keep_is_refused(version):
    proto = models.linear()
    proto.opset_import.add(domain="com.example", version=version)
    with pytest.raises(UnsafeModelError, match=f"versions lie in 0..2147483647; found {version} of 'com.example'"):
        load(proto)


@pytest.mark.parametrize("kind, field", [("TENSOR", "t"), ("GRAPH", "g"), ("TYPE_PROTO", "tp")])
def test_an_attribute_without_a_value_of_its_type_is_refused(kind, field):
    proto = models.linear()
    proto.graph.node[0].attribute.add(name="odd", type=getattr(onnx.AttributeProto, kind))
    with pytest.raises(UnsafeModelError, match=f"'odd': has a value of its type; found none in '{field}'"):
        load(proto)


@pytest.mark.parametrize("size", [11, 2**31, 2**62, 2**63 - 1])
def test_a_window_wider_than_the_channels_takes_no_longer(size):
    """LRN walked through all of it: 2^62 steps."""
    x = np.random.default_rng(0).standard_normal((2, 5, 3, 3)).astype(np.float32)
    found = load(one("LRN", [2, 5, 3, 3], size=size, alpha=float(min(size, 2**40)), beta=0.5)).run(x)
    total = np.sum(np.square(x, dtype=np.float64), axis=1, keepdims=True) * min(size, 2**40) / size
    assert np.allclose(found, x / np.sqrt(1 + total), rtol=1e-5)


def test_an_output_that_the_operator_does_not_have_is_refused():
    proto = one("Relu", [2, 3], outputs=("y", "more"))
    with pytest.raises(ModelError, match=r"node 'node' \(Relu\): gives at most 1 outputs; found 2"):
        load(proto).run(np.zeros((2, 3), np.float32))


def test_long_axes_beside_one_of_size_0_are_refused():
    proto = models.linear()
    proto.graph.initializer[0].dims[:] = [0, 2**30, 2**30, 2**30]
    proto.graph.initializer[0].raw_data = b""
    with pytest.raises(UnsafeModelError, match=r"Limits.tensor_elements"):
        load(proto)
    shape = models.model(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"], name="node")],
        [],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.array([0, 2**31, 2**31, 4]), "shape")],
    )
    with pytest.raises(UnsafeModelError, match=r"Limits.output_elements"):
        load(shape).run({})
    assert "ConstantOfShape" in load(shape).summary()


def test_a_ratio_that_is_not_one_number_is_refused():
    proto = one("Dropout", [2, 3], {"ratio": np.array([0.5, 0.5], np.float32)})
    with pytest.raises(ShapeError, match="the ratio is one number"):
        load(proto).run(np.zeros((2, 3), np.float32))


def test_a_value_to_pad_with_that_is_not_one_number_is_refused():
    proto = one("Pad", [2, 3], {"pads": np.array([0, 1, 0, 0]), "value": np.zeros(2, np.float32)})
    with pytest.raises(ShapeError, match="the value is one number"):
        load(proto).run(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("op_type, inputs", [("ReduceSum", [2, 3]), ("Reshape", [2, 3]), ("Tile", [2, 3])])
def test_sizes_that_are_no_whole_numbers_are_refused(op_type, inputs):
    proto = one(op_type, inputs, {"sizes": np.array([np.nan, 1], np.float32)})
    with pytest.raises(DTypeError, match=r"input 1 \(.*\) holds whole numbers"):
        load(proto).run(np.zeros(inputs, np.float32))


@pytest.mark.parametrize("op_type", ["GatherElements", "ScatterElements"])
def test_known_indices_far_outside_are_refused_and_not_looked_for(op_type):
    """onnx's evaluator, which folds what is known, counts down to an index in steps of the axis."""
    arrays = {"indices": np.full((1, 4), 2**60)} | ({"updates": np.ones((1, 4))} if "Scatter" in op_type else {})
    proto = one(op_type, [3, 4], arrays)
    x = np.arange(12.0).reshape(3, 4)
    del proto.graph.input[:]
    proto.graph.initializer.append(numpy_helper.from_array(x, "x"))
    with pytest.raises(ValueRangeError, match=r"indices lie in -3\.\.2"):
        load(proto).run({})


def test_a_required_input_that_is_left_out_is_named():
    proto = one("LayerNormalization", [2, 3], {"scale": np.ones(3, np.float32)})
    proto.graph.node[0].input[1] = ""
    with pytest.raises(ModelError, match=r"'node' \(LayerNormalization\): input 1 is required"):
        load(proto).run(np.zeros((2, 3), np.float32))


def test_a_subgraph_that_stands_for_another_is_refused():
    proto = models.rich()
    node = proto.functions[0].node.add(op_type="If", input=["a"], output=["c"])
    node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH, ref_attr_name="branch")
    with pytest.raises(UnsafeModelError, match="a subgraph stands for itself"):
        load(proto)


def test_sizes_that_are_not_finite_are_refused():
    nothing = np.zeros(0, np.float32)
    given = {"roi": nothing, "scales": nothing, "sizes": np.array([1, 1, np.nan, 4])}
    with pytest.raises(ValueRangeError, match=r"'node' \(Resize\): the sizes are whole numbers"):
        load(one("Resize", [1, 1, 2, 2], given)).run(np.zeros((1, 1, 2, 2), np.float32))


def test_packed_numbers_that_stand_for_nothing_are_refused():
    """Six bits a number, and what is left of the last byte not 0: where they are read first."""
    # onnx_ir knows this dtype from version 1 on.
    rule = (
        "has values that can be read" if 28 in [int(kind) for kind in onnx_ir.DataType] else "a dtype that ONNX knows"
    )
    six = onnx.TensorProto(name="odd", data_type=28, dims=[1], raw_data=b"\xff")
    proto = models.linear()
    proto.graph.initializer.append(six)
    with pytest.raises(CconvError, match=f"initializer 'odd': .*{rule}"):
        load(proto)
    proto = models.linear()
    proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=six))
    with pytest.raises(CconvError, match=f"attribute 'value'.*{rule}"):
        load(proto).run(np.zeros((2, 4), np.float32))


def test_a_graph_that_onnx_ir_cannot_copy_is_refused(monkeypatch):
    """Functions are inlined in a copy; whatever its making raises is told as what it is."""

    def clone(self):
        raise RuntimeError("while cloning") from ValueError("an outer value")

    monkeypatch.setattr(onnx_ir.Model, "clone", clone)
    with pytest.raises(ModelError, match="its functions can be inlined; found an outer value"):
        _ = load(models.rich()).nodes


def test_models_for_several_devices_are_refused():
    """Not every version of onnx_ir keeps these fields, so saving might lose them."""
    proto = models.linear()
    proto.ir_version = 11
    proto.graph.node[0].device_configurations.add()
    with pytest.raises(UnsafeModelError, match=r"node 'gemm'.*runs on one device; found 1 device configurations"):
        load(proto)
    proto = models.linear()
    proto.ir_version = 11
    proto.configuration.add(name="two", num_devices=2)
    with pytest.raises(UnsafeModelError, match="runs on one device; found 1 device configurations"):
        load(proto)


def test_what_onnx_ir_cannot_write_is_a_model_error(tmp_path, monkeypatch):
    def to_proto(model):
        raise RuntimeError("Cannot serialize")

    model = load(models.linear())
    monkeypatch.setattr(onnx_ir, "to_proto", to_proto)
    with pytest.raises(ModelError, match="can be written as ONNX; found Cannot serialize"):
        model.save(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_sizes_are_counted_without_overflow():
    """A product that wraps to what is there, modulo 2^64."""
    proto = models.linear()
    tensor = proto.graph.initializer[0]
    tensor.dims[:] = [2**33 + 3, 2**31 * 2, 2**32 // 4]
    assert math.prod(tensor.dims) > 2**64
    with pytest.raises(UnsafeModelError, match="elements"):
        load(proto)


def test_no_samples_are_normalised():
    ones = np.ones(2, np.float32)
    proto = one("InstanceNormalization", [0, 2, 3], {"s": ones, "b": ones})
    assert load(proto).run(np.zeros((0, 2, 3), np.float32)).shape == (0, 2, 3)


@pytest.mark.parametrize("shape", [(2**40, 2**40), (2, -1)])
def test_shapes_that_cannot_be_counted_are_refused(shape):
    trainer = cconv.Trainer(load(models.linear()))
    with pytest.raises(ShapeError, match=rf"sizes are not below 0, .*; found \({shape[0]}, {shape[1]}\)"):
        trainer.plan_bytes(dict.fromkeys(trainer.model.input_names, shape))


def test_a_triangle_is_not_made_before_its_size_is_checked():
    proto = one("Trilu", [2**20, 2**20], {"k": np.array(0)})
    assert "1048576" in load(proto).summary()


@pytest.mark.parametrize(
    ("op_type", "count"), [("Cast", 0), ("Identity", 0), ("Add", 1), ("MatMul", 1), ("Gemm", 1), ("Conv", 1)]
)
def test_a_diagnosis_of_a_node_without_its_inputs(op_type, count):
    proto = one(op_type, [2, 3])
    del proto.graph.node[0].input[count:]
    assert not cconv.doctor(load(proto)).trainable


def test_a_diagnosis_of_a_node_without_outputs():
    proto = one("Relu", [1, 2, 3])
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((2, 2, 1), np.float32), "w"))
    proto.graph.node.append(helper.make_node("Conv", ["x", "w"], []))
    assert not cconv.doctor(load(proto)).trainable


def test_the_largest_of_nothing():
    assert load(one("Hardmax", [3, 0, 5], axis=1)).run(np.zeros((3, 0, 5), np.float32)).shape == (3, 0, 5)


def test_a_diagonal_that_is_no_number_is_refused():
    with pytest.raises(DTypeError, match=r"input 1 \(k\) is one integer; found float64"):
        load(one("Trilu", [3, 4], {"k": np.array(np.nan)})).run(np.zeros((3, 4), np.float32))


def test_more_elements_than_can_be_counted():
    proto = one("Size", [2**63 - 1, 3])
    with pytest.raises(ShapeError, match="elements are counted up to 9223372036854775807"):
        load(proto).nodes[0].call({"x": Spec((2**63 - 1, 3), np.dtype(np.float32))}, {})


def test_a_scale_beyond_float32_is_refused():
    proto = one("Upsample", [1, 1, 2, 2], opset=7, scales=[1.0, 1.0, 3e38, 1.0])
    with pytest.raises(ValueRangeError, match="a size times its scale is a number of float32; found 2 times"):
        load(proto).run(np.zeros((1, 1, 2, 2), np.float32))
