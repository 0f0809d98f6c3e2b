"""Layer, and what the layers share: sizes given as one number or as several, initial weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cconv.arguments import sizes, whole
from cconv.graph.builder import GraphBuilder, Value
from cconv.model import Model


class Layer:
    """Base of all layers."""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        """Add this layer's nodes to the graph; returns its output."""
        raise NotImplementedError

    def build(self, input_shape: Sequence[int], seed: int = 0, name: str = "network") -> Model:
        """A model of this layer alone.

        Args:
            input_shape: of one sample, (C, spatial...) for feature maps. The batch, "N", may be of any size.
            seed: decides the initial weights.

        Returns:
            A model with the input "input" and the output "output", both float32.

        Raises:
            ShapeError: a layer does not fit the one before it; the message names it.
            UnsupportedOpError: a layer needs an operator that cconv does not have.
        """
        shape = sizes("build", "input_shape", input_shape, None, least=1)
        whole("build", "seed", seed, least=0, below=2**63)
        builder = GraphBuilder(seed)
        x = builder.input(shape)
        with builder.scope("", type(self).__name__):
            y = self.add(builder, x)
        return builder.build(x, y, name, Model)


def positive(layer: Layer, **values: int) -> None:
    """Refuse arguments that are not whole numbers >= 1."""
    for name, value in values.items():
        sizes(type(layer).__name__, name, value, 1, least=1)


def he_normal(builder: GraphBuilder, shape: Sequence[int], fan_in: float) -> np.ndarray:
    """Normal numbers of variance 2 / fan_in, float32."""
    draw = builder.random().standard_normal(tuple(shape), dtype=np.float32)
    return draw * np.float32(math.sqrt(2.0 / fan_in))


def channels_fix(x: Value, wanted: int, argument: str, axes: int) -> str:
    """What to do where a layer for feature maps (C, spatial...) does not fit its input."""
    if len(x.shape) != axes + 1:
        return f"Its input should be a feature map of {axes} spatial axes; here a sample has shape {x.shape}."
    return f"{argument} should be {x.shape[0]}." if x.shape[0] != wanted else ""
