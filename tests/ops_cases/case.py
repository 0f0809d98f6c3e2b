"""Case: one ONNX node with data. The same cases serve the forward test against onnxruntime, the gradient check
in float64, and the test of equal bits at any number of threads."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Input = tuple[int, ...] | np.ndarray | None


@dataclass(frozen=True)
class Case:
    """One node.

    Attributes:
        op_type: ONNX operator.
        inputs: for each input its shape (filled with standard normal numbers), an array, or None (omitted).
        attributes: the node's.
        constant_inputs: indices of inputs that must be initializers (axes, shapes).
        opset: version of the operator set.
        outputs: how many outputs the node names.
        tolerance: largest |cconv - onnxruntime| over the largest |onnxruntime|, float32.
        reason: why the tolerance is not the default.
        gradient: indices of inputs to check gradients of; () for none. None: all floating-point ones.
        fill: makes the data of an input given by shape, instead of standard normal numbers.
        note: distinguishes cases that have the same shapes.
        judge: whose forward pass it is compared with: "onnxruntime", or where that has no such operator "onnx", its
            reference; or where neither has a formula of the inputs, computed in float64.
    """

    op_type: str
    inputs: Sequence[Input]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constant_inputs: tuple[int, ...] = ()
    opset: int = 20
    outputs: int = 1
    tolerance: float = 2e-6
    reason: str = ""
    gradient: tuple[int, ...] | None = None
    fill: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] | None = None
    note: str = ""
    domain: str = ""
    judge: str | Callable[..., np.ndarray] = "onnxruntime"

    @property
    def id(self) -> str:
        shapes = "_".join(
            "none" if i is None else "x".join(map(str, i.shape if isinstance(i, np.ndarray) else i))
            for i in self.inputs
        )
        extra = "-".join(f"{k}{v}" for k, v in self.attributes.items())
        text = f"{self.op_type}{self.opset}-{shapes}-{extra}-{self.note}"
        return "".join(c for c in text if c.isalnum() or c in "-_.")[:150].rstrip("-")

    def arrays(self) -> list[np.ndarray | None]:
        """The inputs' data, the same at every call."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        fill = self.fill or (lambda rng, shape: rng.standard_normal(shape))
        return [
            value if value is None or isinstance(value, np.ndarray) else fill(rng, value).astype(np.float32)
            for value in self.inputs
        ]
