"""Activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cconv.graph.builder import GraphBuilder, Value
from cconv.nn.layer import Layer


@dataclass(frozen=True)
class ReLU(Layer):
    """max(x, 0)"""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("Relu", x)


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """x where x >= 0, else negative_slope * x"""

    negative_slope: float = 0.01

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("LeakyRelu", x, alpha=float(self.negative_slope))


@dataclass(frozen=True)
class ReLU6(Layer):
    """min(max(x, 0), 6)"""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        low = builder.weight("min", np.array(0, np.float32))
        high = builder.weight("max", np.array(6, np.float32))
        return builder.node("Clip", x, low, high)


@dataclass(frozen=True)
class Sigmoid(Layer):
    """1 / (1 + exp(-x))"""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("Sigmoid", x)


@dataclass(frozen=True)
class Tanh(Layer):
    """tanh(x)"""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("Tanh", x)


@dataclass(frozen=True)
class Softmax(Layer):
    """exp(x) / sum(exp(x)) along axis `dim` (1: classes, channels)."""

    dim: int = 1

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("Softmax", x, axis=self.dim)


@dataclass(frozen=True)
class LogSoftmax(Layer):
    """log(softmax(x)) along axis `dim` (1: classes, channels)."""

    dim: int = 1

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("LogSoftmax", x, axis=self.dim)
