"""Linear layers, and what stands before them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cconv.errors import ShapeError, ValueRangeError, explain
from cconv.graph.builder import GraphBuilder, Value
from cconv.nn.layer import Layer, he_normal, positive


@dataclass(frozen=True)
class Linear(Layer):
    """y = x W^T + b over the last axis. Weight: (out_features, in_features)."""

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        positive(self, in_features=self.in_features, out_features=self.out_features)

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        fix = ""
        if x.shape[-1] != self.in_features:
            flat = math.prod(x.shape)
            fix = f"in_features should be {x.shape[-1]}."
            if len(x.shape) > 1:
                fix = f"Put nn.Flatten() before it; in_features should then be {flat}."
        shape = (self.out_features, self.in_features)
        weight = builder.weight("weight", he_normal(builder, shape, self.in_features))
        bias = builder.weight("bias", np.zeros(self.out_features, np.float32)) if self.bias else None
        if len(x.shape) == 1:
            return builder.node("Gemm", *(x, weight, bias) if bias else (x, weight), transB=1, fix=fix)
        y = builder.node("MatMul", x, builder.node("Transpose", weight, perm=[1, 0]), fix=fix)
        return builder.node("Add", y, bias) if bias else y


@dataclass(frozen=True)
class Flatten(Layer):
    """The axes start_dim..end_dim as one; start_dim >= 1 keeps the batch."""

    start_dim: int = 1
    end_dim: int = -1

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        rank = len(x.shape) + 1
        start, end = (n + rank if n < 0 else n for n in (self.start_dim, self.end_dim))
        if not 1 <= start <= end < rank:
            raise ShapeError(
                explain(
                    builder.place,
                    f"1 <= start_dim <= end_dim < {rank}, the input's number of axes",
                    f"start_dim={self.start_dim}, end_dim={self.end_dim}",
                )
            )
        if (start, end) == (1, rank - 1):
            return builder.node("Flatten", x, axis=1)
        # 0 copies an axis, which keeps the batch open.
        target = [0] * start + [-1] + list(x.spec.shape[end + 1 :])
        return builder.node("Reshape", x, builder.weight("shape", np.array(target, np.int64)))


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, zeroes values with probability p and scales the others by 1 / (1 - p)."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise ValueRangeError(explain("Dropout", "p lies in 0 <= p < 1", repr(self.p)))

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("Dropout", x, builder.weight("ratio", np.array(self.p, np.float32)))


@dataclass(frozen=True)
class Identity(Layer):
    """x"""

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        return builder.node("Identity", x)
