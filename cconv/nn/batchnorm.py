"""Batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cconv.errors import ShapeError, ValueRangeError, explain
from cconv.graph.builder import GraphBuilder, Value
from cconv.nn.layer import Layer, positive


@dataclass(frozen=True)
class _BatchNorm(Layer):
    """Normalises each channel, then scales and shifts it.

    Training may use the batch's statistics or the running ones: see `Trainer(batchnorm=...)`.

    Args:
        num_features: channels C.
        eps: added to the variance before the square root.
        momentum: share of a new batch in the running statistics, as in PyTorch (ONNX stores 1 - momentum).
    """

    num_features: int
    eps: float = 1e-5
    momentum: float = 0.1

    axes: ClassVar[tuple[int, ...]]

    def __post_init__(self) -> None:
        positive(self, num_features=self.num_features)
        if not (self.eps > 0 and 0 <= self.momentum <= 1):
            raise ValueRangeError(
                explain(
                    type(self).__name__,
                    "eps > 0, and momentum lies in 0..1",
                    f"eps={self.eps}, momentum={self.momentum}",
                )
            )

    def add(self, builder: GraphBuilder, x: Value) -> Value:
        fix = ""
        if len(x.shape) - 1 not in self.axes:
            wanted = " or ".join(map(str, self.axes))
            raise ShapeError(
                explain(builder.place, f"its input has {wanted} spatial axes", f"a sample of shape {x.shape}")
            )
        if x.shape[0] != self.num_features:
            fix = f"num_features should be {x.shape[0]}."
        fill = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        count = self.num_features
        arrays = [builder.weight(name, np.full(count, value, np.float32)) for name, value in fill.items()]
        # ONNX counts the share of the old statistics.
        return builder.node(
            "BatchNormalization", x, *arrays, epsilon=float(self.eps), momentum=1.0 - self.momentum, fix=fix
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    axes = (0, 1)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W), each channel over batch and pixels.

    Arguments as for torch.nn.BatchNorm2d. One thing differs: the running variance is ONNX's, an average of the
    population variance sum((x - mean)^2) / n. PyTorch averages the sample variance, / (n - 1). Training losses are
    equal; outputs with running statistics differ by a factor that is close to 1 unless n = N * H * W is small.

    Args:
        num_features: channels C.
        eps: added to the variance before the square root.
        momentum: share of a new batch in the running statistics, as in PyTorch (ONNX stores 1 - momentum).
    """

    axes = (2,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W); arguments and the running variance as for BatchNorm2d."""

    axes = (3,)
