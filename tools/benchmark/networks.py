"""The networks of the benchmark, written once with cconv.nn; PyTorch gets a description of the same layers.

    model = build("resnet18")                             a cconv.Model, its weights drawn with a seed
    module = torch_module(describe(network("resnet18")))  the same layers as a torch.nn.Module
    load(module, state(model))                            the same weights, by PyTorch's names

They are torchvision's (ResNet-18; ResNet-50 v1.5, with the stride in the 3x3 convolution; VGG-16 without
BatchNorm; MobileNetV2 of width 1.0), LeNet-5 with ReLU and max-pooling, and the network of `cconv demo`. Dropout is
left out, since two random streams cannot be compared.

`torch_module` and `load` are in torch_side.py; nothing here loads torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cconv import demo, nn
from cconv.model import Model


class Network(NamedTuple):
    """A network and the images it is meant for.

    Attributes:
        layers: given (image size, classes), its layers; the last one is the head, a Linear.
        channels, size: of an image; `size` is both its height and its width.
        sizes: other sizes it can be made for.
    """

    layers: Callable[[int, int], nn.Sequential]
    channels: int
    size: int
    classes: int
    sizes: range


# What they are made of.


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Layer]:
    """A convolution that keeps the size (but for its stride), then BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def residual(body: list[nn.Layer], inputs: int, outputs: int, stride: int) -> list[nn.Layer]:
    """ResNet's block: the body and a shortcut, projected where the shape changes, then ReLU."""
    projected = stride != 1 or inputs != outputs
    shortcut = nn.Sequential(*conv_bn(inputs, outputs, 1, stride)) if projected else None
    return [nn.Residual(nn.Sequential(*body), shortcut), nn.ReLU()]


def basic(inputs: int, width: int, stride: int) -> list[nn.Layer]:
    """Two 3x3 convolutions (He et al., "Deep Residual Learning", CVPR 2016, figure 5, left)."""
    body = [*conv_bn(inputs, width, 3, stride), nn.ReLU(), *conv_bn(width, width, 3)]
    return residual(body, inputs, width, stride)


def bottleneck(inputs: int, width: int, stride: int) -> list[nn.Layer]:
    """1x1, 3x3, 1x1 (the same figure, right), the stride in the 3x3 one: "v1.5"."""
    body = [
        *conv_bn(inputs, width, 1), nn.ReLU(),
        *conv_bn(width, width, 3, stride), nn.ReLU(),
        *conv_bn(width, 4 * width, 1),
    ]  # fmt: skip
    return residual(body, inputs, 4 * width, stride)


def inverted(inputs: int, outputs: int, stride: int, expand: int) -> nn.Layer:
    """1x1 to more channels, depthwise 3x3, 1x1 back (Sandler et al., "MobileNetV2", CVPR 2018)."""
    hidden = inputs * expand
    widen = [*conv_bn(inputs, hidden, 1), nn.ReLU6()] if expand != 1 else []
    body = nn.Sequential(
        *widen, *conv_bn(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(), *conv_bn(hidden, outputs, 1)
    )
    return nn.Residual(body) if stride == 1 and inputs == outputs else body


def pooled_head(features: int, classes: int) -> list[nn.Layer]:
    return [nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(features, classes)]


# The networks.


def resnet(
    block: Callable[[int, int, int], list[nn.Layer]], depths: tuple[int, ...], expansion: int, classes: int
) -> nn.Sequential:
    layers = [*conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, depth in enumerate(depths):
        for i in range(depth):
            layers += block(inputs, 64 << stage, 2 if stage and not i else 1)
            inputs = (64 << stage) * expansion
    return nn.Sequential(*layers, *pooled_head(inputs, classes))


def resnet18(size: int, classes: int) -> nn.Sequential:
    return resnet(basic, (2, 2, 2, 2), 1, classes)


def resnet50(size: int, classes: int) -> nn.Sequential:
    return resnet(bottleneck, (3, 4, 6, 3), 4, classes)


def vgg16(size: int, classes: int) -> nn.Sequential:
    """torchvision pools to 7x7 before the classifier, which at its size of 224 does nothing; left out here."""
    layers: list[nn.Layer] = []
    inputs = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    flat = 512 * (size // 32) ** 2
    layers += [nn.Flatten(), nn.Linear(flat, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4096, classes))


def mobilenetv2(size: int, classes: int) -> nn.Sequential:
    layers = [*conv_bn(3, 32, 3, 2), nn.ReLU6()]
    inputs = 32
    # Expansion, channels, blocks, stride of the first: the paper's table 2.
    stages = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    )  # fmt: skip
    for expand, outputs, depth, stride in stages:
        for i in range(depth):
            layers.append(inverted(inputs, outputs, 1 if i else stride, expand))
            inputs = outputs
    return nn.Sequential(*layers, *conv_bn(inputs, 1280, 1), nn.ReLU6(), *pooled_head(1280, classes))


def lenet5(size: int, classes: int) -> nn.Sequential:
    flat = 16 * ((size // 2 - 4) // 2) ** 2
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(flat, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes),
    )  # fmt: skip


NETWORKS = {
    "resnet18": Network(resnet18, 3, 224, 1000, range(32, 2049)),
    "resnet50": Network(resnet50, 3, 224, 1000, range(32, 2049)),
    "vgg16": Network(vgg16, 3, 224, 1000, range(32, 2049, 32)),
    "mobilenetv2": Network(mobilenetv2, 3, 224, 1000, range(32, 2049)),
    "lenet5": Network(lenet5, 1, 28, 10, range(12, 2049)),
    "demo": Network(lambda size, classes: demo.network(classes), 1, 8, 5, range(8, 9)),
}


def network(name: str, size: int | None = None, classes: int | None = None) -> nn.Sequential:
    """The layers for images of `size` x `size`; None: as published.

    Raises:
        ValueError: no such network, or a size it cannot be made for.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    net = NETWORKS[name]
    if size is not None and size not in net.sizes:
        steps = f", in steps of {net.sizes.step}" if net.sizes.step > 1 else ""
        raise ValueError(f"{name} takes images of {net.sizes[0]} to {net.sizes[-1]} pixels{steps}; found {size}")
    return net.layers(size or net.size, classes or net.classes)


def build(name: str, size: int | None = None, classes: int | None = None, seed: int = 0) -> Model:
    """The network as a model, with no weight at its neutral value.

    A new BatchNorm scales by 1 and adds 0, and a new bias is 0: who compares numbers on these would not notice
    if one of them were left out.

    Raises:
        ValueError: as `network`.
    """
    layers, net = network(name, size, classes), NETWORKS[name]
    pixels = size or net.size
    model = layers.build((net.channels, pixels, pixels), seed=seed, name=name)
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)))
    for array in state(model).values():
        if array.ndim == 1:  # biases and all of BatchNorm
            low, high = (0.5, 1.5) if array.min() == 1 else (-0.1, 0.1)
            array[...] = rng.uniform(low, high, array.shape)
    return model


def state(model: Model) -> dict[str, np.ndarray]:
    """The live arrays that PyTorch's state_dict has too: weights, biases and running statistics, by name.

    Of those it lacks num_batches_tracked, so it is loaded with strict=False.
    """
    kinds = (".weight", ".bias", ".running_mean", ".running_var")
    return {name: array for name, array in model.weights.items() if name.endswith(kinds)}


def describe(layer: nn.Layer) -> list:
    """The layer and all that it holds as plain values: [type, arguments, layers in it].

    torch_side.py makes PyTorch's modules of it, in a process that has never loaded cconv.
    """
    if isinstance(layer, nn.Sequential):
        return ["Sequential", {}, [describe(inner) for inner in layer]]
    if isinstance(layer, nn.Residual):
        return ["Residual", {}, [describe(inner) for inner in (layer.body, layer.shortcut) if inner is not None]]
    arguments = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    return [type(layer).__name__, arguments, []]
