"""Layers: what they build runs as in onnxruntime and PyTorch; wrong ones say what is wrong, and where."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cconv import nn
from cconv.errors import ShapeError, ValueRangeError
from cconv.model import load
from nn.layers import LAYERS


def built(key: str, batch: int = 3):
    layer, shape, torch_text = LAYERS[key]
    model = layer.build(shape, seed=4)
    rng = np.random.default_rng(len(key))
    for name, array in model.weights.items():  # nothing stays at its initial 0 or 1
        if not name.endswith(("min", "max", "ratio")):
            array += rng.uniform(0.1, 0.5, array.shape).astype(np.float32)
    return model, rng.standard_normal((batch, *shape)).astype(np.float32), torch_text


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """float32, sums of at most 64 terms in another order."""
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= 4e-6 * max(np.max(np.abs(expected)), 1)


@pytest.mark.parametrize("key", LAYERS)
def test_runs_as_in_onnxruntime(key, tmp_path):
    model, x, _ = built(key)
    model.save(tmp_path / "net.onnx")
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(["output"], {"input": x})
    assert_close(model.run(x), expected)
    assert_close(load(tmp_path / "net.onnx").run(x[:1]), expected[:1])


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # PyTorch: it costs a copy
@pytest.mark.parametrize("key", [key for key, (_, _, text) in LAYERS.items() if text])
def test_runs_as_in_pytorch_with_its_names(key):
    torch = pytest.importorskip("torch")
    model, x, text = built(key)
    module = eval(text, vars(torch.nn)).eval()
    state = {name: value for name, value in module.state_dict().items() if "num_batches" not in name}
    ours = {name: a for name, a in model.weights.items() if not name.endswith(("min", "max", "ratio"))}
    assert {name: tuple(value.shape) for name, value in state.items()} == {n: a.shape for n, a in ours.items()}
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(torch.from_numpy(ours[name]))
        expected = module(torch.from_numpy(x)).numpy()
    assert_close(model.run(x), expected)


def test_every_layer_is_tested():
    def names(layer):
        parts = [layer.body, layer.shortcut] if isinstance(layer, nn.Residual) else []
        parts += list(getattr(layer, "layers", getattr(layer, "branches", ())))
        return {type(layer).__name__}.union(*(names(part) for part in parts if part))

    tested = set().union(*(names(layer) for layer, _, _ in LAYERS.values()))
    assert tested == set(nn.__all__) - {"Layer"}


# Weights.

SMALL = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU())


def test_the_seed_decides_the_weights():
    a, b, c = (SMALL.build((3, 8, 8), seed=seed).weights for seed in (7, 7, 8))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["0.weight"], c["0.weight"])
    assert not np.array_equal(a["0.weight"].ravel()[:99], a["2.weight"].ravel()[:99])


def test_weights_are_he_normal_and_biases_zero():
    weights = SMALL.build((3, 8, 8)).weights
    for name, fan_in in (("0.weight", 27), ("2.weight", 288)):
        w = weights[name].astype(np.float64)
        # The deviation of a standard deviation over n draws is 1/sqrt(2n) of it; five of them.
        assert abs(w.std() / np.sqrt(2 / fan_in) - 1) < 5 / np.sqrt(2 * w.size)
        assert abs(w.mean()) < 5 * w.std() / np.sqrt(w.size)
    assert not weights["0.bias"].any() and not weights["2.bias"].any()


def test_a_layer_builds_any_number_of_models():
    first, second = SMALL.build((3, 8, 8)), SMALL.build((3, 9, 9))
    first.weights["0.weight"][...] = 0
    assert second.weights["0.weight"].any()


def test_the_model():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).build((1, 5, 5), name="tiny")
    assert model.input_specs == {"input": (("N", 1, 5, 5), np.dtype(np.float32))}
    assert model.output_names == ["output"]
    assert model.ir.graph.name == "tiny"
    assert [node.name for node in model.nodes] == ["0.Conv", "1.Relu"]
    proto = model.proto()
    assert [opset.version for opset in proto.opset_import] == [21]
    assert [info.name for info in proto.graph.value_info] == ["0.Conv"]
    assert proto.graph.value_info[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_summary():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 10),
    ).build((3, 8, 8), name="small")  # fmt: skip
    text = model.summary()
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert text.startswith("small: input (N, 3, 8, 8) -> output")
    assert "(N, 8, 4, 4)" in rows["3.MaxPool"]
    assert "(N, 128)" in rows["4.Flatten"]
    assert rows["0.Conv"].split()[6] == "224" and rows["1.BatchNormalization"].split()[6] == "16"
    assert "1,290" in rows["5.Gemm"]
    # Running statistics and the bounds of the Clip are weights, but no parameters.
    assert rows["parameters"].split()[:3] == ["parameters", "1,530", "(and"] and "18 values" in rows["parameters"]
    assert "0.01 MB in 10 arrays" in rows["weights"]
    assert f"{2 * (8 * 8 * 8 * 27 + 1280) / 1e6:.2f} MFLOPs" in rows["forward"]


# Errors.

FLAT = (nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


@pytest.mark.parametrize(
    "layer, shape, says",
    [
        (nn.Conv2d(3, 4, 3), (1, 8, 8), r"^Conv2d: node 'Conv' \(Conv\): .*in_channels should be 1\.$"),
        (
            nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)),
            (4, 8, 8),
            r"^Sequential\[1\] Conv2d: node '1.Conv'.*in_channels should be 4\.$",
        ),
        (nn.Conv2d(3, 4, 3), (3, 8), r"feature map of 2 spatial axes; here a sample has shape \(3, 8\)"),
        (nn.Conv2d(3, 4, 9), (3, 8, 8), r"^Conv2d: node 'Conv' .*kernel"),
        (
            nn.Sequential(nn.Residual(nn.Sequential(nn.ReLU(), nn.Conv1d(2, 2, 1)))),
            (3, 5),
            r"^Sequential\[0\] Residual.body Sequential\[1\] Conv1d: node '0.body.1.Conv'",
        ),
        (
            nn.Residual(nn.Conv1d(2, 4, 1)),
            (2, 5),
            r"^Residual: body and shortcut.*found \(4, 5\) and \(2, 5\)",
        ),
        (
            nn.Sequential(*FLAT, nn.Flatten(), nn.Linear(128, 10)),
            (1, 8, 8),
            r"^Sequential\[4\] Linear: .*in_features should be 256\.$",
        ),
        (
            nn.Sequential(*FLAT, nn.Linear(256, 10)),
            (1, 8, 8),
            r"^Sequential\[3\] Linear: .*Put nn.Flatten\(\) before it; in_features should then be 256\.$",
        ),
        (nn.BatchNorm2d(3), (4, 5, 5), r"^BatchNorm2d: .*num_features should be 4\.$"),
        (nn.BatchNorm2d(3), (3, 5), r"^BatchNorm2d: its input has 2 spatial axes"),
        (nn.Concat(nn.Conv1d(2, 3, 1), nn.Conv1d(2, 3, 2)), (2, 5), r"^Concat: node 'Concat'"),
        (nn.Flatten(2, 4), (3, 4), r"^Flatten: 1 <= start_dim"),
    ],
)
def test_layers_that_do_not_fit_are_named_with_the_fix(layer, shape, says):
    with pytest.raises(ShapeError, match=says):
        layer.build(shape)


@pytest.mark.parametrize(
    "make, says",
    [
        (
            lambda: nn.Conv2d(3, 4, 0),
            "Conv2d: kernel_size is a whole number or a tuple of 2, each >= 1; found 0",
        ),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size"),
        (lambda: nn.Conv2d(3, 4.5, 3), "out_channels"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups divides"),
        (lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2), "padding"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), "padding"),
        (lambda: nn.MaxPool2d(2, padding=2), "at most half the kernel"),
        (lambda: nn.Linear(0, 3), "in_features"),
        (lambda: nn.Dropout(1.0), "p lies in"),
        (lambda: nn.BatchNorm2d(3, momentum=2), "momentum"),
        (lambda: nn.Concat(), "at least one branch"),
        (lambda: nn.ReLU().build((0, 3)), "input_shape"),
        (lambda: nn.ReLU().build((3,), seed=-1), "seed"),
    ],
)
def test_arguments_out_of_range(make, says):
    with pytest.raises(ValueRangeError, match=says):
        make()


def test_layers_must_be_layers():
    with pytest.raises(TypeError, match=r"Sequential\[1\]: is a layer of cconv.nn.*Write nn.ReLU\(...\)"):
        nn.Sequential(nn.Flatten(), nn.ReLU)


def test_repr():
    assert repr(nn.Sequential(nn.ReLU(), nn.Linear(2, 3))) == (
        "Sequential(ReLU(), Linear(in_features=2, out_features=3, bias=True))"
    )
