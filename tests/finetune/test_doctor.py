"""doctor: each finding in a model that has it, none in one that has not, and a verdict that training confirms."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv import cli, finetune, nn
from cconv.concerns.finding import ERROR, INFO, WARNING
from cconv.errors import CconvError, ModelError, TrainingError, UnsafeModelError, ValueRangeError
from finetune import exported
from finetune.exported import node, value

SHAPES = {"x": (1, 3, 8, 8)}


def findings(proto, concern=None, **options):
    """(severity, node, meaning) of the findings of a concern, or of all that are not about memory."""
    diagnosis = cconv.doctor(cconv.load(proto), **options)
    found = [f for f in diagnosis.findings if f.concern == concern or (not concern and f.concern != "training step")]
    return [(f.severity, f.node, f.meaning) for f in found]


def small(nodes, arrays, outputs=("y",), shape=("N", 3, 8, 8), opset=17, dtypes=()) -> onnx.ModelProto:
    kinds = dict(dtypes)
    out = [value(name, None, kinds.get(name, TensorProto.FLOAT)) for name in outputs]
    arrays = {k: np.asarray(a, np.float32) if np.asarray(a).dtype == float else a for k, a in arrays.items()}
    return exported.model(nodes, [value("x", list(shape))], out, arrays, opset=opset)


W = np.random.default_rng(0).standard_normal((3, 3, 1, 1))
CONV = node("Conv", ["x", "w"], ["c"], "conv")


def trains(proto, shape=(4, 3, 8, 8)) -> bool:
    """Whether a step of training works, tried."""
    try:
        model = cconv.load(proto)
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        trainer = cconv.Trainer(model, loss=dict.fromkeys(model.output_names, "mse"))
        result = model.run(x)
        outputs = result if isinstance(result, dict) else {model.output_names[0]: result}
        trainer.step(x, {name: 0 * array for name, array in outputs.items()})
    except CconvError:
        return False
    return True


# A model without findings.


def test_a_model_built_to_be_trained_has_no_findings_but_its_memory():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    diagnosis = cconv.doctor(layers.build((3, 8, 8), seed=0), batch=16)
    assert diagnosis.trainable
    assert [f.concern for f in diagnosis.findings] == ["training step"]


def test_the_memory_is_what_a_step_takes():
    model = cconv.load(exported.residual())
    trainer = cconv.Trainer(model, loss="mse")
    weights = sum(array.nbytes for array in model.weights.values())
    trained = sum(model.weights[name].nbytes for name in trainer.trained)
    for batch in (2, 32):
        memory = cconv.doctor(model, batch=batch).memory
        assert memory == trainer.plan_bytes(batch) + weights + trained
    assert cconv.doctor(model, batch=64).memory > 1.5 * cconv.doctor(model, batch=32).memory


def test_the_model_stays_as_it_is():
    for proto in (exported.vgg(), exported.half(exported.vgg()), exported.merged(exported.fold(exported.residual()))):
        model = cconv.load(proto)
        before = model.proto().SerializeToString()
        cconv.doctor(model)
        assert model.proto().SerializeToString() == before
        assert model.at_save == ()


# Operators.


def test_an_operator_that_cconv_does_not_have():
    custom = node("Strange", ["c"], ["y"], "odd", domain="com.example")
    proto = helper.make_model(
        helper.make_graph([CONV, custom], "g", [value("x", ["N", 3, 8, 8])], [value("y", None)],
                          [numpy_helper.from_array(W.astype(np.float32), "w")]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)],
    )  # fmt: skip
    proto.ir_version = 9
    [found] = findings(proto, "operators")
    assert found[:2] == (ERROR, "odd")
    assert "com.example::Strange" in found[2] and "Trainable weights that it depends on: 1." in found[2]
    assert not cconv.doctor(proto).trainable and not trains(proto)
    assert cconv.doctor(proto.SerializeToString()).findings == cconv.doctor(cconv.load(proto)).findings


def test_one_that_no_output_follows_from_is_left_out():
    unused = node("Det", ["c"], ["unused"], "det")
    proto = small([CONV, unused, node("Relu", ["c"], ["y"], "relu")], {"w": W})
    [found] = findings(proto, "operators")
    assert found[:2] == (INFO, "det")
    assert cconv.doctor(proto).trainable and trains(proto)


def test_one_within_a_branch_is_found():
    inner = helper.make_graph([node("Det", ["c"], ["d"], "det")], "then", [], [value("d", None)])
    other = helper.make_graph([node("Relu", ["c"], ["e"], "relu")], "else", [], [value("e", None)])
    cond = node("If", ["flag"], ["y"], "if", then_branch=inner, else_branch=other)
    proto = small([CONV, cond], {"w": W, "flag": np.array(True)})
    assert [f[:2] for f in findings(proto, "operators")] == [(ERROR, "det")]


@pytest.mark.parametrize("operator", ["Floor", "Sign"])
def test_a_gradient_that_ends_before_the_only_weight(operator):
    proto = small([CONV, node(operator, ["c"], ["y"], "end")], {"w": W})
    [found] = findings(proto, "gradients")
    assert found[:2] == (WARNING, "end") and "'w'" in found[2]
    diagnosis = cconv.doctor(proto)
    assert not diagnosis.trainable and not trains(proto)
    assert "no weight that is reachable from the loss" in diagnosis.findings[0].meaning


def test_an_argmax_behind_the_only_weight():
    proto = small([CONV, node("ArgMax", ["c"], ["y"], "argmax", axis=1)], {"w": W}, dtypes=[("y", TensorProto.INT64)])
    first, second = cconv.doctor(proto).findings
    assert (first.severity, second.severity, second.node) == (ERROR, WARNING, "argmax")
    assert "operators with a gradient" in first.repair and "'w'" in second.meaning


def test_a_graph_of_nothing():
    proto = helper.make_model(helper.make_graph([], "empty", [], []), opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 9
    [found] = cconv.doctor(proto).findings
    assert (found.severity, found.repair) == (ERROR, "Export the network again.") and "no output" in found.meaning
    assert not finetune.repair(cconv.load(proto)).repairs.rows


def test_a_gradient_that_ends_on_one_of_two_ways():
    nodes = [CONV, node("Floor", ["c"], ["f"], "end"), node("Add", ["c", "f"], ["y"], "add")]
    proto = small(nodes, {"w": W})
    [found] = findings(proto, "gradients")
    assert found[:2] == (INFO, "end") and "by other paths" in found[2]
    assert cconv.doctor(proto).trainable and trains(proto)


def test_no_gradient_where_no_weight_is():
    nodes = [node("Round", ["x"], ["r"], "round"), node("Conv", ["r", "w"], ["y"], "conv")]
    [found] = findings(small(nodes, {"w": W}), "gradients")
    assert found[:2] == (INFO, "round") and "depends on no trainable weight" in found[2]


def test_a_class_beside_the_logits_does_not_matter():
    """ArgMax as a second output: whole numbers, no loss on it."""
    nodes = [CONV, node("Relu", ["c"], ["y"], "relu"), node("ArgMax", ["c"], ["k"], "argmax", axis=1)]
    proto = small(nodes, {"w": W}, outputs=("y", "k"), dtypes={"k": TensorProto.INT64}.items())
    assert cconv.doctor(proto).trainable


# The file.


def test_an_opset_before_those_that_load_is_diagnosed(tmp_path, capsys):
    proto = small([CONV, node("Relu", ["c"], ["y"])], {"w": W}, opset=6)
    onnx.save(proto, tmp_path / "old.onnx")
    diagnosis = cconv.doctor(tmp_path / "old.onnx")
    assert [(f.severity, f.concern) for f in diagnosis.findings] == [(ERROR, "opset")]
    assert "opset 6" in diagnosis.findings[0].meaning and diagnosis.model == "old.onnx"
    assert cli.main(["doctor", str(tmp_path / "old.onnx")]) == 1
    assert "CANNOT be trained" in capsys.readouterr().out
    proto.opset_import[0].version = 999
    assert "opset 999" in cconv.doctor(proto).findings[0].meaning


def test_an_operator_of_a_newer_opset_than_the_model_names():
    proto = small([CONV, node("HardSwish", ["c"], ["y"], "swish")], {"w": W}, opset=14)
    proto.opset_import[0].version = 13
    [found] = findings(proto, "opset")
    assert found[:2] == (ERROR, "swish") and "opset is 13" in found[2] and "from opset 14" in found[2]
    assert not trains(proto)


def test_what_is_damaged_or_unsafe_stays_an_error(tmp_path):
    (tmp_path / "a.onnx").write_bytes(exported.vgg().SerializeToString()[:-100])
    with pytest.raises(ModelError):
        cconv.doctor(tmp_path / "a.onnx")
    proto = exported.vgg()
    proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises(UnsafeModelError):
        cconv.doctor(proto)
    with pytest.raises(FileNotFoundError):
        cconv.doctor(tmp_path / "missing.onnx")


@pytest.mark.parametrize("batch", [0, -1, 1.5, True])
def test_batches_that_are_none(batch):
    with pytest.raises(ValueRangeError, match="batch"):
        cconv.doctor(exported.vgg(), batch=batch)


def test_shapes_of_inputs_that_are_none():
    with pytest.raises(ValueRangeError, match=r"'x'.*'z'"):
        cconv.doctor(exported.vgg(), input_shapes={"z": (1, 2)})


# Inputs.


def test_inputs_without_shapes():
    proto = small([CONV, node("Relu", ["c"], ["y"])], {"w": W})
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    [found] = findings(proto, "inputs")
    assert found[:2] == (ERROR, "x")
    assert not cconv.doctor(proto).trainable
    diagnosis = cconv.doctor(proto, input_shapes={"x": (1, 3, 8, 8)})
    assert diagnosis.trainable and diagnosis.memory


def test_open_height_and_width_are_guessed_and_said():
    proto = small([CONV, node("Relu", ["c"], ["y"])], {"w": W}, shape=("N", 3, "H", "W"))
    [found] = findings(proto, "inputs", batch=2)
    assert found[0] == INFO and "(3, 224, 224)" in found[2]
    given = cconv.doctor(proto, batch=2, input_shapes={"x": (1, 3, 16, 16)})
    assert given.trainable and given.memory < cconv.doctor(proto, batch=2).memory / 50
    assert not any(f.concern == "inputs" for f in given.findings)


# What exporters do.


@pytest.mark.parametrize(("names", "severity"), [("pytorch", WARNING), ("dynamo", WARNING), ("plain", INFO)])
def test_folded_batchnorm(names, severity):
    [found] = findings(exported.fold(exported.residual(), names), "batchnorm")
    assert found[0] == severity and "6 convolutions" in found[2]
    assert not findings(exported.residual(), "batchnorm")


def test_a_batch_size_of_one_and_what_a_larger_one_takes():
    proto = exported.vgg()
    assert [f[:2] for f in findings(proto, "batch size")] == [(WARNING, "x"), (WARNING, "reshape")]
    diagnosis = cconv.doctor(proto, batch=16)
    assert diagnosis.trainable and diagnosis.batch == 1
    assert "With a variable batch size, at batch size 16" in diagnosis.findings[-1].meaning
    assert not findings(exported.residual(), "batch size")


def test_batch_sizes_in_shapes_of_expand_and_resize():
    nodes = [
        node("Expand", ["token", "first"], ["e"], "expand"),
        node("Mul", ["x", "e"], ["m"], "mul"),
        node("Resize", ["m", "", "", "sizes"], ["r"], "resize", mode="nearest"),
        node("Conv", ["r", "w"], ["y"], "conv"),
    ]
    arrays = {"token": np.ones((1, 3, 1, 1)), "first": np.array([2, 3, 1, 1]), "sizes": np.array([2, 3, 4, 4]), "w": W}
    found = findings(small(nodes, arrays, shape=(2, 3, 8, 8)), "batch size")
    assert [f[:2] for f in found] == [(WARNING, name) for name in ("x", "expand", "resize")]


def test_batch_statistics_of_one_example_are_an_error_that_a_free_batch_mends():
    """One value for each channel: nothing can be normalised by it."""
    nodes = [
        node("Flatten", ["x"], ["f"], "flatten"),
        node("Gemm", ["f", "w"], ["g"], "gemm"),
        node("BatchNormalization", ["g", "s", "b", "m", "v"], ["y"], "norm"),
    ]
    arrays = {"w": np.ones((192, 5)), "s": np.ones(5), "b": np.zeros(5), "m": np.zeros(5), "v": np.ones(5)}
    proto = small(nodes, arrays, shape=(1, 3, 8, 8))
    diagnosis = cconv.doctor(proto)
    assert not diagnosis.trainable and not trains(proto, (1, 3, 8, 8))
    assert "two values per channel" in diagnosis.findings[0].meaning
    assert "Make the batch size variable" in diagnosis.findings[0].repair
    assert cconv.doctor(finetune.repair(cconv.load(proto))).trainable


def test_merged_weights_and_shared_ones():
    proto = exported.residual()
    for tensor in proto.graph.initializer:
        if tensor.name.endswith("bn.mean") and list(tensor.dims) == [6]:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(6, np.float32), tensor.name))
    assert not findings(proto, "tied weights")
    [found] = findings(exported.merged(proto), "tied weights")
    assert found[0] == WARNING and "'stem.bn.mean'" in found[2] and "2 parameters" in found[2]
    siamese = small([CONV, node("Conv", ["c", "w"], ["y"], "again")], {"w": W})
    [found] = findings(siamese, "tied weights")
    assert found[:2] == (INFO, "w") and "'conv', 'again'" in found[2]


def test_training_mode():
    nodes = [
        CONV,
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], "norm", training_mode=1),
        node("Dropout", ["n", "ratio", "mode"], ["y"], "dropout"),
    ]
    arrays = {name: np.ones(3) for name in "sbmv"} | {"w": W, "ratio": np.array(0.3), "mode": np.array(True)}
    proto = small(nodes, arrays)
    assert [f[:2] for f in findings(proto, "training mode")] == [(WARNING, "norm"), (WARNING, "dropout")]
    assert cconv.doctor(proto).trainable


def test_dropout_that_may_have_been_left_out():
    for proto in (exported.residual(), exported.vgg(softmax=False)):
        assert [f[0] for f in findings(proto, "dropout")] == [INFO]
    with_dropout = finetune.repair(cconv.load(exported.residual()), dropout=0.2).proto()
    assert not findings(with_dropout, "dropout")
    assert not findings(small([CONV, node("Relu", ["c"], ["y"])], {"w": W}), "dropout")


def test_softmax_before_the_output():
    [found] = findings(exported.vgg(), "softmax")
    assert found[:2] == (WARNING, "softmax")
    assert not findings(exported.vgg(softmax=False), "softmax")
    log = exported.vgg()
    log.graph.node[-1].op_type = "LogSoftmax"
    assert [f[0] for f in findings(log, "softmax")] == [INFO]
    spatial = small([CONV, node("Softmax", ["c"], ["y"], "attention", axis=3)], {"w": W})
    assert [f[0] for f in findings(spatial, "softmax")] == [INFO]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_dtypes(dtype):
    proto = exported.half(exported.residual(), dtype)
    [found] = findings(proto, "dtype")
    assert found[0] == ERROR and "32 weights of type" in found[2]
    assert not cconv.doctor(proto).trainable
    assert not trains(proto)


@pytest.mark.parametrize("change", [exported.half, exported.with_constants])
def test_what_is_said_of_layers_does_not_depend_on_how_weights_are_stored(change):
    proto = exported.fold(exported.residual())
    for concern in ("batchnorm", "dropout"):
        found = findings(proto, concern)
        assert len(found) == 1 and findings(change(proto), concern) == found


def test_the_memory_of_a_float16_network_is_that_of_training_it_in_float32():
    half = cconv.doctor(exported.half(exported.residual()))
    model = finetune.repair(cconv.load(exported.half(exported.residual())))
    assert not half.trainable and half.memory == cconv.doctor(model).memory
    assert "after the repair of the errors" in half.findings[-1].meaning


def test_quantised_weights():
    nodes = [
        node("DequantizeLinear", ["q", "scale"], ["w"], "dequantize"),
        node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    q = np.arange(-4, 5, dtype=np.int8).reshape(3, 3, 1, 1)
    proto = small(nodes, {"q": q, "scale": np.array(0.1)}, opset=13)
    [found] = findings(proto, "dtype")
    assert found[:2] == (ERROR, "dequantize") and "1 node" in found[2]


def test_weights_in_constant_nodes():
    proto = exported.with_constants(exported.residual())
    [found] = findings(proto, "constants")
    assert found[0] == WARNING and "32 weights" in found[2]
    diagnosis = cconv.doctor(proto)
    assert not diagnosis.trainable and not trains(proto)
    assert "the warning below" in diagnosis.findings[0].repair and diagnosis.findings[0].automatic
    assert cconv.doctor(finetune.repair(cconv.load(proto))).trainable
    with pytest.raises(TrainingError, match=r"stored in Constant nodes; cconv\.finetune\.repair"):
        cconv.Trainer(cconv.load(proto))


def test_constants_that_are_no_weights_are_left_alone():
    """Mean and deviation of the images, the factor of an activation."""
    tensor = numpy_helper.from_array
    nodes = [
        node("Constant", [], ["mean"], value=tensor(np.ones((1, 3, 1, 1), np.float32))),
        node("Constant", [], ["half"], value=tensor(np.array(0.5, np.float32))),
        node("Sub", ["x", "mean"], ["s"], "normalise"),
        node("Conv", ["s", "w"], ["c"], "conv"),
        node("Mul", ["c", "half"], ["y"], "scale"),
    ]
    assert not findings(small(nodes, {"w": W}), "constants")


# The report.


def test_the_table_is_readable():
    text = str(cconv.doctor(exported.half(exported.vgg())))
    lines = text.splitlines()
    assert "CANNOT be trained" in lines[0] and "1 error" in lines[0]
    assert max(map(len, lines)) <= 130
    rule = next(line for line in lines if set(line) == {"-", " "})
    starts = [0, *(i + 2 for i in range(len(rule) - 1) if rule[i : i + 2] == "  ")]
    first = lines.index(rule) + 1
    for line in lines[first : lines.index("", first)]:  # the gaps between columns are empty in every line
        assert all(line[start - 2 : start].strip() == "" for start in starts[1:])
    assert text.count("warning ") >= 2
    two = cconv.doctor(exported.vgg(softmax=False))
    assert "(2 warnings, 2 notes)" in str(two).splitlines()[0]


def test_json_and_exit_statuses(tmp_path, capsys):
    onnx.save(exported.vgg(), tmp_path / "vgg.onnx")
    assert cli.main(["doctor", str(tmp_path / "vgg.onnx"), "--json", "--batch", "8"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trainable"] is True and found["model"] == "vgg.onnx" and found["memory"] > 0
    assert {f["severity"] for f in found["findings"]} == {WARNING, INFO}
    assert {"severity", "node", "meaning", "repair", "concern", "automatic"} == set(found["findings"][0])
    onnx.save(exported.half(exported.vgg()), tmp_path / "half.onnx")
    assert cli.main(["doctor", str(tmp_path / "half.onnx")]) == 1
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07")
    assert cli.main(["doctor", str(tmp_path / "broken.onnx")]) == 2
    capsys.readouterr()
    open_shape = small([CONV, node("Relu", ["c"], ["y"])], {"w": W}, shape=("N", "C", "H", "W"))
    onnx.save(open_shape, tmp_path / "open.onnx")
    assert cli.main(["doctor", str(tmp_path / "open.onnx")]) == 1
    assert cli.main(["doctor", str(tmp_path / "open.onnx"), "--shape", "x=1,3,8,8"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["doctor", str(tmp_path / "open.onnx"), "--shape", "x=1,0"])
