"""Layers that build graphs.

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 10),
    ).build((1, 8, 8), seed=0)

Names, argument names, defaults and meaning are PyTorch's; so are the names of the weights ("0.weight",
"1.running_mean"). A layer is a plain value that says which nodes it adds; it holds no arrays and can be built
any number of times. `build` gives an ordinary ONNX model, the same as one that was loaded.

Weights of convolutions and linear layers are drawn from a normal distribution of variance 2 / fan-in, biases
are zero: He et al., "Delving Deep into Rectifiers" (ICCV 2015), section 2.2. The same seed gives the same
weights; a layer's do not depend on what the other layers draw.
"""

from cconv.nn.activation import LeakyReLU, LogSoftmax, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from cconv.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from cconv.nn.containers import Concat, Residual, Sequential
from cconv.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from cconv.nn.layer import Layer
from cconv.nn.linear import Dropout, Flatten, Identity, Linear
from cconv.nn.pool import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)

__all__ = [
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Concat",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
