"""Cross-entropy of logits against class indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import cconv.kernels.loss.loss as loss
from cconv.arguments import number, whole
from cconv.errors import DTypeError, ShapeError, ValueRangeError, and_more, explain
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.train.metrics import Accuracy, Metric


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of logits (N, classes, spatial...) against class indices (N, spatial...).

    The mean is PyTorch's CrossEntropyLoss(reduction="mean"): the sum over all targets that are not ignored,
    divided by the sum of their class weights, label smoothing included. Where nothing is left to divide by
    (all targets ignored) the loss and its gradient are 0; PyTorch gives NaN.

    Args:
        class_weights: one number >= 0 a class; None: all 1.
        label_smoothing: share of the target that is spread over all classes, 0..1.
        ignore_index: target that does not count.

    Raises:
        ValueRangeError: an option out of its range.
    """

    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    ignore_index: int = -100

    name: ClassVar[str] = "cross_entropy"
    checks_values: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number("CrossEntropy", "label_smoothing", self.label_smoothing, least=0)
        if self.label_smoothing > 1:
            raise ValueRangeError(explain("CrossEntropy", "label_smoothing lies in 0..1", repr(self.label_smoothing)))
        whole("CrossEntropy", "ignore_index", self.ignore_index, least=-(2**63), below=2**63)
        if self.class_weights is not None:
            weights = tuple(np.asarray(self.class_weights).ravel().tolist())
            for i, weight in enumerate(weights):
                number("CrossEntropy", f"class_weights[{i}]", weight, least=0)
            object.__setattr__(self, "class_weights", weights)

    def target_spec(self, output: Spec) -> Spec:
        """Raises ShapeError for an output that holds no logits, or other than one class weight a class."""
        if len(output.shape) < 2 or output.shape[1] < 1:
            raise ShapeError(
                explain("CrossEntropy", "logits have axes (N, classes, spatial...)", f"shape {output.shape}")
            )
        if self.class_weights is not None and len(self.class_weights) != output.shape[1]:
            raise ShapeError(
                explain(
                    "CrossEntropy",
                    f"class_weights has one number for each of {output.shape[1]} classes",
                    f"{len(self.class_weights)}",
                )
            )
        return Spec((output.shape[0], *output.shape[2:]), np.dtype(np.int64))

    def weight(self, lower: Lowering, output: Tensor, target: Tensor) -> float | Tensor:
        step = loss.TargetWeights(lower.build, target.size, output.shape[1], self.ignore_index)
        sums = lower.tensor((step.chunks,), dtype=np.float64, name="weight of the targets")
        lower.emit(step, reads=[target, self._class_weights(lower)], writes=[sums])
        return sums

    def emit(
        self, lower: Lowering, output: Tensor, target: Tensor, denominator: Tensor, gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        # Channels-last and (N, classes) are both rows of classes side by side, in the order of the targets.
        logits = lower.as_layout(output, Layout.CHANNELS_LAST)
        step = loss.SoftmaxCrossEntropy(
            lower.build,
            target.size,
            logits.shape[1],
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )
        sums = lower.tensor((step.chunks,), dtype=np.float64, name="loss")
        result = lower.tensor(logits.shape, logits.layout) if gradient else None
        reads = [logits, target, self._class_weights(lower), denominator]
        lower.emit(step, reads=reads, writes=[sums, result])
        return sums, result

    def _class_weights(self, lower: Lowering) -> Tensor | None:
        if self.class_weights is None:
            return None
        return lower.external(np.array(self.class_weights, lower.dtype), "class weights")

    def check_target(self, output: Spec, target: np.ndarray, place: str) -> np.ndarray:
        """
        Raises:
            DTypeError: the target holds no whole numbers.
            ShapeError: it has another shape than (N, spatial...).
            ValueRangeError: one of its numbers is no class.
        """
        spec = self.target_spec(output)
        classes = output.shape[1]
        if target.dtype.kind not in "iub":
            fix = "Convert with .astype(np.int64)."
            if target.shape == output.shape:
                fix = "Give y.argmax(axis=1) for one-hot targets."
            if target.dtype.kind in "USO":
                fix = "Number the labels: names, y = np.unique(labels, return_inverse=True)."
            raise DTypeError(explain(place, "class indices are integers", f"dtype {target.dtype}", fix))
        if target.shape != spec.shape:
            fix = ""
            if target.shape == (*spec.shape, 1):
                fix = "Drop the last axis: y[..., 0]."
            elif target.shape == output.shape:
                fix = "Give y.argmax(axis=1) for one-hot targets."
            raise ShapeError(
                explain(
                    place,
                    f"class indices for an output of shape {output.shape} have shape {spec.shape}",
                    f"shape {target.shape}",
                    fix,
                )
            )
        # Compared before the conversion, which would wrap an unsigned number beyond int64. The bounds come first,
        # which takes a third of what the masks take at every step.
        inside = target.size == 0 or 0 <= target.min() <= target.max() < classes
        bad = None if inside else ((target < 0) | (target >= classes)) & (target != self.ignore_index)
        if bad is not None and bad.any():
            position = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
            where = ", ".join(map(str, position))
            raise ValueRangeError(
                explain(
                    place,
                    f"a class index lies in 0..{classes - 1} ({classes} classes) or is the ignore_index "
                    f"{self.ignore_index}",
                    f"{target[position]} at [{where}]{and_more(int(bad.sum()) - 1)}",
                )
            )
        return target.astype(np.int64, copy=False)

    def metrics(self) -> Sequence[Metric]:
        return (Accuracy(ignore_index=self.ignore_index),)
