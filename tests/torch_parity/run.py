"""The training run that cconv and PyTorch are compared on: its weights, its data, and its losses by cconv.

PyTorch's side of it is tools/make_torch_losses.py, which writes the same network down in PyTorch's layers.
Random numbers are bits of NumPy's Philox stream, which every version of NumPy gives alike, divided down to
24 bits, so that they are the same float32 numbers everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import cconv
from cconv import nn, optim

STEPS = 20
BATCH = 16
LEARNING_RATE = 0.05
MOMENTUM = 0.9
SHAPE = (3, 9, 10)
CLASSES = 5


def network() -> nn.Sequential:
    """Convolutions with and without bias and stride, BatchNorm, both poolings, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1, stride=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, CLASSES),
    )


def uniform(shape: tuple[int, ...], key: int) -> np.ndarray:
    """Numbers in -1..1 that are multiples of 2**-23."""
    bits = np.random.Philox(key=key).random_raw(int(np.prod(shape))) >> np.uint64(40)
    return (bits.astype(np.float64) / 2**23 - 1).astype(np.float32).reshape(shape)


def weights() -> dict[str, np.ndarray]:
    """Initial weights by name; layers of PyTorch's nn.Sequential have the same names."""
    convolution1, convolution2 = uniform((8, 3, 3, 3), 1), uniform((12, 8, 3, 3), 3)
    return {
        "0.weight": convolution1 * np.float32(0.5),
        "0.bias": uniform((8,), 2) * np.float32(0.125),
        "1.weight": 1 + uniform((8,), 4) * np.float32(0.25),
        "1.bias": uniform((8,), 5) * np.float32(0.25),
        "4.weight": convolution2 * np.float32(0.25),
        "5.weight": 1 + uniform((12,), 6) * np.float32(0.25),
        "5.bias": uniform((12,), 7) * np.float32(0.25),
        "9.weight": uniform((CLASSES, 48), 8) * np.float32(0.25),
        "9.bias": uniform((CLASSES,), 9) * np.float32(0.125),
    }


def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """STEPS batches (x, y): half of a sample is the image of its class, the other half is noise."""
    images = uniform((CLASSES, *SHAPE), 10)
    for step in range(STEPS):
        y = (np.arange(BATCH) * 7 + step) % CLASSES
        noise = uniform((BATCH, *SHAPE), 100 + step)
        yield (images[y] + noise) * np.float32(0.5), y.astype(np.int64)


def losses(threads: int = 1) -> list[float]:
    """The run by cconv."""
    model = network().build(SHAPE, seed=0)
    for name, array in weights().items():
        model.weights[name] = array
    trainer = cconv.Trainer(model, optimizer=optim.SGD(lr=LEARNING_RATE, momentum=MOMENTUM), threads=threads)
    return [trainer.step(x, y) for x, y in batches()]
