"""The benchmark's networks: torchvision's sizes, and the same numbers from cconv and from PyTorch."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cconv import Trainer, optim
from cconv.ops.tensor import Spec
from cconv.plan.plan import training_plan
from cconv.train.losses import CrossEntropy

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from benchmark import networks

# As torchvision publishes them; LeNet-5 and the demo's network by hand.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "vgg16": 138_357_544,
    "mobilenetv2": 3_504_872,
    "lenet5": (25 + 1) * 6 + (25 * 6 + 1) * 16 + (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10,
    "demo": (9 + 3) * 32 + (9 * 32 + 3) * 64 + (9 * 64 + 3) * 128 + (512 + 1) * 5,
}

SMALL = {"resnet18": 64, "resnet50": 64, "vgg16": 32, "mobilenetv2": 64, "lenet5": 28, "demo": 8}

# Rounding of float64, 1e-16, times what BatchNorm over 16 values a channel makes of it in up to 53 layers: in
# float32, with 1e-7, PyTorch itself is off by 3e-2 on ResNet-50.
TOLERANCE = 1e-9


def batch(name, size, count):
    net = networks.NETWORKS[name]
    rng = np.random.default_rng(7)
    return rng.standard_normal((count, net.channels, size, size), np.float32), rng.integers(0, 5, count)


@pytest.mark.parametrize("name", PARAMETERS)
def test_as_many_parameters_as_published(name):
    if name == "vgg16":  # half a gigabyte: count at a small size, and add what the first linear layer lacks there
        model = networks.build(name, size=32)
        rest = 4096 * 512 * (7 * 7 - 1)
    else:
        model, rest = networks.build(name), 0
    assert sum(model.weights[p].size for p in model.parameters) + rest == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_no_weight_is_neutral(name):
    model = networks.build(name, SMALL[name], classes=5)
    assert set(model.parameters) <= set(networks.state(model))
    for key, array in networks.state(model).items():
        assert array.std() > 0 and np.mean((array == 0) | (array == 1)) < 1e-3, key


def test_another_seed_gives_other_weights():
    first, again, other = (networks.state(networks.build("lenet5", seed=seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not any(np.array_equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [("vgg16", 40, "in steps of 32"), ("demo", 9, "8 to 8"), ("lenet", None, "there are resnet18, ")],
)
def test_what_there_is_not(name, size, text):
    with pytest.raises(ValueError, match=text):
        networks.network(name, size)


def reference(name, model):
    """PyTorch's network in float64 with the model's weights: the reference, free of its own rounding."""
    torch = pytest.importorskip("torch")
    from benchmark.torch_side import load, torch_module

    module = torch_module(networks.describe(networks.network(name, SMALL[name], classes=5))).double()
    load(module, networks.state(model))
    assert sum(p.numel() for p in module.parameters()) == sum(model.weights[p].size for p in model.parameters)
    return torch, module


def error(ours, theirs):
    """Norm of the difference, relative."""
    theirs = np.asarray(theirs, np.float64)
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_same_outputs_as_pytorch(name):
    model = networks.build(name, SMALL[name], classes=5)
    torch, module = reference(name, model)
    x, _ = batch(name, SMALL[name], 3)
    with torch.no_grad():
        wanted = module.eval()(torch.from_numpy(x).double()).numpy()
    assert error(model.run(x), wanted) < 1e-5  # float32: 53 layers at some 1e-7 each


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_same_gradients_as_pytorch(name):
    """In float64: a maximum or a Relu within float32's rounding of a tie sends its gradient elsewhere."""
    model = networks.build(name, SMALL[name], classes=5)
    torch, module = reference(name, model)
    x, y = batch(name, SMALL[name], 4)
    plan = training_plan(
        model.nodes,
        {"input": Spec(x.shape, np.dtype(np.float64))},
        {"output": CrossEntropy()},
        {key: array.astype(np.float64) for key, array in model.weights.items()},
        model.constants,
        model.parameters,
        dtype=np.float64,
    )
    plan.inputs["input"][...] = x
    plan.targets["output"][...] = y
    plan.run(until="update")
    logits = module.train()(torch.from_numpy(x).double())
    wanted = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
    wanted.backward()
    theirs = {key: p.grad.numpy() for key, p in module.named_parameters()}
    assert plan.control["loss"][0] == pytest.approx(wanted.item(), rel=1e-9)
    assert set(plan.gradients) == set(theirs)
    # A bias before a BatchNorm has no gradient but rounding: hence the second term.
    largest = max(np.linalg.norm(gradient) for gradient in theirs.values())
    for key, gradient in plan.gradients.items():
        difference = np.linalg.norm(gradient - theirs[key])
        assert difference < TOLERANCE * (np.linalg.norm(theirs[key]) + 1e-3 * largest), key


@pytest.mark.parametrize("name", ["lenet5", "demo"])
def test_the_same_training_as_pytorch(name):
    """Three steps as the benchmark takes them, in float32 on both sides."""
    model = networks.build(name)
    torch = pytest.importorskip("torch")
    from benchmark.torch_side import load, torch_module

    module = torch_module(networks.describe(networks.network(name)))
    load(module, networks.state(model))
    x, y = batch(name, networks.NETWORKS[name].size, 8)
    trainer = Trainer(model, optimizer=optim.SGD(0.01, momentum=0.9))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    for _ in range(3):
        wanted = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        wanted.backward()
        optimizer.step()
        assert trainer.step(x, y) == pytest.approx(wanted.item(), rel=1e-4)
    for key, p in module.named_parameters():
        assert error(model.weights[key], p.detach().numpy()) < 1e-4, key
