"""Losses: what a target must look like, and the steps of kernels/loss.pyx that compare it with an output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cconv.errors import DTypeError, ShapeError, TrainingError, ValueRangeError, and_more, explain
from cconv.ops.operator import Lowering
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.plan.plan import Loss as LoweredLoss
from cconv.train.arrays import as_dtype
from cconv.train.options import closest, number, whole


class Loss(LoweredLoss, Protocol):
    """What training asks of a loss, beyond what a plan does."""

    def check_target(self, output: Spec, target: np.ndarray, place: str) -> np.ndarray:
        """`target` in the shape and dtype of target_spec(output), or an error that says what is wrong."""
        ...

    def hits(self, output: np.ndarray, target: np.ndarray) -> tuple[int, int] | None:
        """How many predictions are right, of how many; None where a prediction is neither right nor wrong."""
        ...


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

    def __post_init__(self) -> None:
        number("CrossEntropy", "label_smoothing", self.label_smoothing, least=0)
        if self.label_smoothing > 1:
            raise ValueRangeError(
                explain("CrossEntropy", "label_smoothing lies in 0..1", repr(self.label_smoothing))
            )
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

    def lower(self, lower: Lowering, output: Tensor, target: Tensor, gradient: bool) -> Tensor | None:
        # Channels-last and (N, classes) are both rows of classes side by side, in the order of the targets.
        logits = lower.as_layout(output, Layout.CHANNELS_LAST)
        classes = logits.shape[1]
        step = lower.kernels.loss.SoftmaxCrossEntropy(
            target.size, classes, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing
        )
        weights = None
        if self.class_weights is not None:
            weights = lower.external(np.array(self.class_weights, lower.dtype), "class weights")
        partial = lower.tensor((step.chunks,), dtype=np.float64, name="loss")
        result = lower.tensor(logits.shape, logits.layout) if gradient else None
        lower.emit(
            step, reads=[logits, target, weights], updates=[lower.control], writes=[partial, result]
        )
        return result

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

    def hits(self, output: np.ndarray, target: np.ndarray) -> tuple[int, int]:
        counted = target != self.ignore_index
        right = (output.argmax(axis=1) == target) & counted
        return int(np.count_nonzero(right)), int(np.count_nonzero(counted))


@dataclass(frozen=True)
class MeanSquaredError:
    """Mean over all elements of (output - target)^2; the target has the output's shape."""

    def target_spec(self, output: Spec) -> Spec:
        return output

    def lower(self, lower: Lowering, output: Tensor, target: Tensor, gradient: bool) -> Tensor | None:
        values = lower.as_layout(output, Layout.ROW_MAJOR)
        step = lower.kernels.loss.MeanSquaredError(values.size)
        partial = lower.tensor((step.chunks,), dtype=np.float64, name="loss")
        result = lower.tensor(values.shape) if gradient else None
        lower.emit(step, reads=[values, target], updates=[lower.control], writes=[partial, result])
        return result

    def check_target(self, output: Spec, target: np.ndarray, place: str) -> np.ndarray:
        """
        Raises:
            ShapeError: another shape than the output's.
            DTypeError, ValueRangeError: values that the output's dtype does not hold, see as_dtype.
        """
        if target.shape != output.shape:
            raise ShapeError(
                explain(place, f"a target has the output's shape {output.shape}", f"shape {target.shape}")
            )
        return as_dtype(target, output.dtype, place)

    def hits(self, output: np.ndarray, target: np.ndarray) -> None:
        return None


LOSSES: dict[str, Callable[[], Loss]] = {"cross_entropy": CrossEntropy, "mse": MeanSquaredError}


def checks_values(loss: Loss) -> bool:
    """Whether the steps of a loss stop at each target that check_target refuses although shape and dtype are right.

    Those of cconv's own losses do. Of another one, and of one derived from them, that is not known.
    """
    return type(loss) in LOSSES.values()


def loss_of(wish: str | Loss) -> Loss:
    """The loss of that name, or the object itself.

    Raises:
        ValueRangeError: no such loss.
    """
    if isinstance(wish, str):
        if wish not in LOSSES:
            names = ", ".join(repr(name) for name in LOSSES)
            raise ValueRangeError(explain("loss", f"is one of {names}", repr(wish), closest(wish, LOSSES)))
        return LOSSES[wish]()
    methods = ("target_spec", "lower", "check_target", "hits")
    if missing := [name for name in methods if not callable(getattr(wish, name, None))]:
        raise ValueRangeError(
            explain("loss", "is a name or an object like CrossEntropy()", f"{wish!r} without {missing[0]}")
        )
    return wish


def losses_by_output(
    outputs: Sequence[str], loss: str | Loss | Mapping[str, str | Loss]
) -> dict[str, Loss]:
    """The loss of each output that has one, in the outputs' order.

    Raises:
        TrainingError: one loss for several outputs, or a loss for what is no output.
        ValueRangeError: no such loss.
    """
    if not isinstance(loss, Mapping):
        if len(outputs) != 1:
            names = ", ".join(repr(name) for name in outputs)
            raise TrainingError(
                explain(
                    "loss",
                    "a model of several outputs takes a dict of losses by output name",
                    repr(loss),
                    f"Its outputs: {names}.",
                )
            )
        return {outputs[0]: loss_of(loss)}
    for name in loss:
        if name not in outputs:
            raise TrainingError(
                explain("loss", "is given by the name of an output", repr(name), closest(str(name), outputs))
            )
    if not loss:
        raise TrainingError(explain("loss", "names at least one output", "an empty dict"))
    return {name: loss_of(loss[name]) for name in outputs if name in loss}
