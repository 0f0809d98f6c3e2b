"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cconv.errors import ShapeError, ValueRangeError, explain
from cconv.graph.builder import GraphBuilder, Value
from cconv.nn.layer import Layer


class Sequential(Layer):
    """Layers one after another; names count them: "0.weight", "1.bias"."""

    def __init__(self, *layers: Layer) -> None:
        _check_layers("Sequential", layers)
        self.layers = layers

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        for i, layer in enumerate(self.layers):
            with builder.scope(str(i), f"[{i}] {type(layer).__name__}"):
                x = layer.add(builder, x)
        return x

    def __getitem__(self, i: int) -> Layer:
        return self.layers[i]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"


@dataclass(frozen=True)
class Residual(Layer):
    """body(x) + shortcut(x); without a shortcut, body(x) + x."""

    body: Layer
    shortcut: Layer | None = None

    def __post_init__(self) -> None:
        _check_layers("Residual", [self.body, *([self.shortcut] if self.shortcut else [])])

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        with builder.scope("body", f".body {type(self.body).__name__}"):
            y = self.body.add(builder, x)
        if self.shortcut is not None:
            with builder.scope("shortcut", f".shortcut {type(self.shortcut).__name__}"):
                x = self.shortcut.add(builder, x)
        if x.shape != y.shape:  # Add itself would broadcast
            raise ShapeError(
                explain(
                    builder.place,
                    "body and shortcut give the same shape",
                    f"{y.shape} and {x.shape}",
                    "Give it a shortcut that changes the shape as the body does.",
                )
            )
        return builder.node("Add", y, x)


class Concat(Layer):
    """Branches side by side, their outputs joined along axis `dim` (1: channels)."""

    def __init__(self, *branches: Layer, dim: int = 1) -> None:
        _check_layers("Concat", branches)
        if not branches or dim == 0:
            raise ValueRangeError(
                explain("Concat", "joins at least one branch, along an axis after the batch",
                        f"{len(branches)} branches, dim={dim}")
            )  # fmt: skip
        self.branches = branches
        self.dim = dim

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        outputs = []
        for i, branch in enumerate(self.branches):
            with builder.scope(str(i), f"[{i}] {type(branch).__name__}"):
                outputs.append(branch.add(builder, x))
        return builder.node("Concat", *outputs, axis=self.dim)

    def __repr__(self) -> str:
        return f"Concat({', '.join(map(repr, self.branches))}, dim={self.dim})"


def _check_layers(place: str, layers: Sequence[Layer]) -> None:
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            hint = f"Write nn.{layer.__name__}(...)." if isinstance(layer, type) else ""
            raise TypeError(explain(f"{place}[{i}]", "is a layer of cconv.nn", repr(layer), hint))
