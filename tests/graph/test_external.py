"""Models whose weights lie in files of their own: kept so when saved, whole or not at all, and free of the 2 GiB."""

import os
import resource
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.errors import ModelError, OutputError, UnsafeModelError
from cconv.graph import data_files, save
from cconv.model import load
from graph import models
from graph.test_model import as_dict

RNG = np.random.default_rng(0)
ARRAYS = {
    "a": RNG.standard_normal((4, 3)).astype(np.float32),
    "b": RNG.standard_normal(3).astype(np.float32),
    "c": RNG.standard_normal((3, 3)).astype(np.float32),
}
SHAPE = np.array([-1, 3])


def two_layers() -> onnx.ModelProto:
    """Reshape(x a + b) c; "shape" is a constant."""
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"], name="first"),
        helper.make_node("Reshape", ["h", "shape"], ["r"], name="reshape"),
        helper.make_node("MatMul", ["r", "c"], ["y"], name="second"),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in {**ARRAYS, "shape": SHAPE}.items()]
    return models.model(nodes, [models.value("x", ["N", 4])], [models.value("y", ["N", 3])], initializers)


def outside(folder: Path, places: dict[str, tuple], name="net.onnx", **whole) -> Path:
    """The model with some of its initializers in files: name -> (location, offset or None, length or None)."""
    proto = two_layers()
    for tensor in proto.graph.initializer:
        if tensor.name not in places:
            continue
        location, offset, length = places[tensor.name]
        array = numpy_helper.to_array(tensor)
        path = folder / location
        path.parent.mkdir(exist_ok=True)
        data = bytearray(path.read_bytes()) if path.exists() else bytearray()
        begin = offset or 0
        data.extend(bytes(max(0, begin + array.nbytes - len(data))))
        data[begin : begin + array.nbytes] = array.tobytes()
        path.write_bytes(data)
        tensor.CopyFrom(models.external(location, array, offset, length))
        tensor.name = {4 * 3 * 4: "a", 3 * 4: "b", 9 * 4: "c", 16: "shape"}[array.nbytes]
    (folder / name).write_bytes(proto.SerializeToString())
    return folder / name


def places(path: Path) -> dict[str, dict]:
    """What a file says of its external tensors."""
    proto = onnx.load(path, load_external_data=False)
    return {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer if t.external_data}


def runs_alike(path: Path) -> None:
    """The saved file gives in onnxruntime what it gives here."""
    report = cconv.check(path, np.ones((2, 4), np.float32))
    assert report.ok, report


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


LAYOUTS = {
    "one file": {"a": ("w.bin", 0, 48), "b": ("w.bin", 48, 12), "c": ("w.bin", 4096, 36)},
    "a file each": {"a": ("a.bin", None, None), "c": ("c.bin", 8, None), "shape": ("shape.bin", None, 16)},
    "some": {"c": ("w.bin", 0, 36)},
    "order of the file is not that of the graph": {"a": ("w.bin", 48, 48), "c": ("w.bin", 0, 36)},
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_external_data_stays_external_field_by_field(layout, tmp_path):
    old, new = folder(tmp_path, "old"), folder(tmp_path, "new")
    path = outside(old, LAYOUTS[layout])
    load(path).save(new / "net.onnx")
    before, after = (onnx.load(p, load_external_data=False) for p in (path, new / "net.onnx"))
    assert as_dict_of_structure(after) == as_dict_of_structure(before)
    assert places(new / "net.onnx") == places(path)
    assert as_dict(onnx.load(new / "net.onnx")) == as_dict(onnx.load(path))
    if "shape" not in LAYOUTS[layout]:  # onnxruntime wants the shapes of a Reshape in the model itself
        runs_alike(new / "net.onnx")


def as_dict_of_structure(proto: onnx.ModelProto) -> dict:
    """All fields; of external tensors what the model says of them."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for tensor in bare.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.doc_string += str(sorted((e.key, e.value) for e in tensor.external_data))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = bytes(int(np.prod(tensor.dims)) * (8 if tensor.name == "shape" else 4))
    return as_dict(bare)


def test_after_training_the_trained_initializers_differ_and_nothing_else(tmp_path):
    old, new = folder(tmp_path, "old"), folder(tmp_path, "new")
    path = outside(old, LAYOUTS["one file"])
    model = load(path)
    trainer = cconv.Trainer(model, optimizer=cconv.optim.SGD(lr=0.1), trainable=["c"])
    trainer.step(RNG.standard_normal((8, 4)).astype(np.float32), np.arange(8) % 3)
    model.save(new / "net.onnx")
    before, after = as_dict(onnx.load(path)), as_dict(onnx.load(new / "net.onnx"))
    pairs = list(zip(before["graph"].pop("initializer"), after["graph"].pop("initializer")))
    assert before == after
    assert places(new / "net.onnx") == places(path)
    assert [old[0] for old, new in pairs if old != new] == ["c"]
    runs_alike(new / "net.onnx")


def test_a_file_that_is_there_is_never_written_to(tmp_path):
    """Another model's data, in the same folder, under the same name."""
    path = outside(tmp_path, LAYOUTS["one file"])
    data = (tmp_path / "w.bin").read_bytes()
    model = load(path)
    model.weights["c"][...] = 7
    model.save(tmp_path / "tuned.onnx")
    assert (tmp_path / "w.bin").read_bytes() == data
    assert {entry["location"] for entry in places(tmp_path / "tuned.onnx").values()} == {"tuned.onnx.data"}
    assert np.all(load(tmp_path / "tuned.onnx").weights["c"] == 7)
    assert np.array_equal(load(path).weights["c"], ARRAYS["c"])
    runs_alike(tmp_path / "tuned.onnx")


def test_saving_over_itself_leaves_one_file_of_data(tmp_path):
    model = load(outside(tmp_path, LAYOUTS["one file"]))
    for i in range(4):
        model.weights["b"][...] = i
        model.save(tmp_path / "net.onnx")
        assert np.all(load(tmp_path / "net.onnx").weights["b"] == i)
        model = load(tmp_path / "net.onnx") if i % 2 else model
    assert len(list(tmp_path.iterdir())) == 3  # net.onnx, its data, and w.bin, which other models may use


def test_another_models_file_of_data_is_not_removed(tmp_path):
    """It is called as this model's would be, but this model does not use it."""
    model = load(outside(tmp_path, LAYOUTS["one file"]))
    (tmp_path / "net.onnx.data").write_bytes(b"precious")
    model.save(tmp_path / "net.onnx")
    model.save(tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx.data").read_bytes() == b"precious"
    assert np.array_equal(load(tmp_path / "net.onnx").weights["a"], ARRAYS["a"])


@pytest.mark.parametrize("name", ["copy.onnx", "net.onnx.bak", "earlier"])
def test_what_a_copy_of_the_earlier_model_lives_on_is_not_removed(name, tmp_path):
    """A plain copy of net.onnx says the same of its data as net.onnx did."""
    model = load(outside(tmp_path, LAYOUTS["one file"]))
    model.save(tmp_path / "net.onnx")
    (tmp_path / name).write_bytes((tmp_path / "net.onnx").read_bytes())
    (tmp_path / "picture.png").write_bytes(b"\x89PNG net.onnx.1.data")  # no model, whatever it says
    for i in (7, 8):
        model.weights["a"][...] = i
        model.save(tmp_path / "net.onnx")
        assert np.all(load(tmp_path / "net.onnx").weights["a"] == i)
        assert np.array_equal(load(tmp_path / name).weights["a"], ARRAYS["a"])
    data = {path.name for path in tmp_path.glob("*.data")}
    assert data == {"net.onnx.data", "net.onnx.2.data"}  # nobody has a copy of the second


def test_where_a_file_cannot_be_read_nothing_is_removed(tmp_path, monkeypatch):
    model = load(outside(tmp_path, LAYOUTS["one file"]))
    model.save(tmp_path / "net.onnx")

    def unreadable(location, folder):
        raise PermissionError(13, "no")

    monkeypatch.setattr(data_files, "_is_named", unreadable)
    model.save(tmp_path / "net.onnx")
    assert {path.name for path in tmp_path.glob("*.data")} == {"net.onnx.data", "net.onnx.1.data"}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_leaves_what_was_there(failing, tmp_path, monkeypatch):
    """The disk is full when the data, or the model itself, is written."""
    model = load(outside(tmp_path, LAYOUTS["one file"]))
    model.save(tmp_path / "net.onnx")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    write, calls = data_files.atomic_write, iter(range(9))

    def full(path, data):
        if next(calls) == failing:
            raise OutputError("disk full")
        write(path, data)

    monkeypatch.setattr(data_files, "atomic_write", full)
    model.weights["a"][...] = 0
    with pytest.raises(OutputError, match="disk full"):
        model.save(tmp_path / "net.onnx")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "layout",
    [
        {"a": ("w.bin", 0, 48), "c": ("w.bin", 12, 36)},  # two tensors on the same bytes
        {"a": ("w.bin", 0, 48), "c": ("w.bin", 10**6, 36)},  # a hole
        {"a": ("sub/w.bin", 0, 48)},  # a folder that is not there
    ],
)
def test_what_cannot_be_laid_out_as_it_was_gets_one_file(layout, tmp_path):
    old, new = folder(tmp_path, "old"), folder(tmp_path, "new")
    model = load(outside(old, layout))
    expected = {name: array.copy() for name, array in model.weights.items()}
    model.save(new / "net.onnx")
    assert sorted(path.name for path in new.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert set(places(new / "net.onnx")) == set(layout)
    found = load(new / "net.onnx").weights
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_a_crafted_location_does_not_lead_out_of_the_folder(tmp_path):
    """Within the model's folder when it is loaded, beside the folder that it is saved to."""
    old, new, victim = (folder(tmp_path, name) for name in ("old", "new", "victim"))
    outside(old, {"a": ("w.bin", 0, 48)})
    proto = onnx.load(old / "net.onnx", load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../old/w.bin"
    inner = folder(new, "old")
    (old / "net.onnx").write_bytes(proto.SerializeToString())
    load(old / "net.onnx").save(inner / "net.onnx")
    assert sorted(path.name for path in inner.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert [path.name for path in new.iterdir()] == ["old"]
    assert not list(victim.iterdir())


def test_a_link_is_no_place_for_a_model_with_data(tmp_path):
    model = load(outside(tmp_path, LAYOUTS["some"]))
    (tmp_path / "link.onnx").symlink_to(folder(tmp_path, "real") / "net.onnx")
    with pytest.raises(OutputError, match="a link to"):
        model.save(tmp_path / "link.onnx")
    assert not list((tmp_path / "real").iterdir())


def test_copies_and_new_heads_keep_their_data_outside(tmp_path):
    model = load(outside(tmp_path, LAYOUTS["one file"]))
    for name, each in (("copy", model.copy()), ("head", cconv.finetune.replace_head(model, 2))):
        each.save(folder(tmp_path, name) / "net.onnx")
        assert set(places(tmp_path / name / "net.onnx")) == {"a", "b", "c"}
        runs_alike(tmp_path / name / "net.onnx")


# More than a file can hold.


def test_large_models_get_a_file_of_data(tmp_path, monkeypatch):
    """The way that a model of more than 2 GiB takes, at a limit of 1 kB."""
    monkeypatch.setattr(save, "_MESSAGE_BYTES", 1000)
    monkeypatch.setattr(save, "_LARGE", 40)
    model = load(two_layers())
    load(two_layers()).save(tmp_path / "small.onnx")
    assert not places(tmp_path / "small.onnx")
    monkeypatch.setattr(save, "_MESSAGE_BYTES", 99)
    model.save(tmp_path / "large.onnx")
    assert set(places(tmp_path / "large.onnx")) == {"a"}
    runs_alike(tmp_path / "large.onnx")
    assert as_dict(onnx.load(tmp_path / "large.onnx")) == as_dict(two_layers())


def test_what_no_file_of_data_can_hold_is_refused(tmp_path, monkeypatch):
    """A message of more than 2 GiB although the initializers are outside: protobuf says so with a ValueError."""

    class Huge:
        def SerializeToString(self):
            raise ValueError("too large")

    monkeypatch.setattr(save, "to_message", lambda *arguments: Huge())
    with pytest.raises(ModelError, match="2 GiB beside its initializers"):
        load(two_layers()).save(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


ROWS, COLUMNS = 2**21 + 2**18, 256  # 2.25 GiB of float32


@pytest.mark.skipif(not os.environ.get("CCONV_LARGE"), reason="takes 2.4 GB of disk and memory; CCONV_LARGE=1 runs it")
def test_a_model_of_more_than_2_gib(tmp_path):
    """Loaded from a sparse file, trained, saved, loaded by cconv and by onnxruntime."""
    nbytes = ROWS * COLUMNS * 4
    table = models.external("table.bin", np.empty((0, COLUMNS), np.float32), 0, nbytes, (ROWS, COLUMNS))
    table.name = "table"
    with open(tmp_path / "table.bin", "wb") as file:
        file.truncate(nbytes)
        file.seek(nbytes - 4 * COLUMNS)
        file.write(np.arange(COLUMNS, dtype=np.float32).tobytes())
    weight = numpy_helper.from_array(RNG.standard_normal((COLUMNS, 3)).astype(np.float32), "weight")
    nodes = [
        helper.make_node("Gather", ["table", "rows"], ["g"], name="gather"),
        helper.make_node("MatMul", ["g", "weight"], ["y"], name="head"),
    ]
    rows = models.value("rows", ["N"], TensorProto.INT64)
    proto = models.model(nodes, [rows], [models.value("y", ["N", 3])], [table, weight])
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UnsafeModelError, match="external_bytes"):
        load(tmp_path / "net.onnx", limits=cconv.Limits(external_bytes=2**31))

    model = load(tmp_path / "net.onnx")
    assert model.weights["table"].nbytes > 2**31
    trainer = cconv.Trainer(model, trainable=["weight"])
    wanted = np.array([ROWS - 1, 5, ROWS - 1])
    trainer.step(wanted, np.array([0, 1, 2]))
    expected = model.run(wanted)
    (tmp_path / "new").mkdir()
    model.save(tmp_path / "new" / "net.onnx")
    del model, trainer
    assert places(tmp_path / "new" / "net.onnx") == places(tmp_path / "net.onnx")
    assert (tmp_path / "new" / "table.bin").stat().st_size == nbytes
    assert (tmp_path / "new" / "net.onnx").stat().st_size < 10_000
    assert np.array_equal(load(tmp_path / "new" / "net.onnx").run(wanted), expected)
    session = onnxruntime.InferenceSession(tmp_path / "new" / "net.onnx")
    assert np.allclose(session.run(None, {"rows": wanted})[0], expected, rtol=1e-5)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
