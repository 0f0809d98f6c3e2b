"""certify: compare the gradients of a model with finite differences of its loss in float64.

For each trained weight, at a few elements and along one random direction, three numbers are compared:

    float32      the gradient that Trainer.gradients returns: the same kernels, schedule and fusions as in training
    float64      the gradient of the same plan, compiled in float64
    difference   (loss(w + h) - loss(w - h)) / 2h of that plan's loss, in float64

The float64 gradient shows whether the gradient rules are right, free of float32 rounding. The float32 gradient shows
how much rounding adds. The error of a finite difference is O(h^2) + O(eps / h), so h is reduced step by step until the
difference agrees with the float64 gradient.

Kinks. At a kink, such as a ReLU at 0 or a tie in a max-pooling, the loss has no derivative, and the gradient used in
training is a convention. A kink near the point drops out of the difference with a smaller h; a kink at the point itself
does not. An element that disagrees is therefore compared again at two points, where all trained weights are moved
slightly at random. Such a point lies on a kink with probability zero, but a wrong gradient rule is wrong there too. If
gradient and difference agree at both points, the element is reported as "on a kink", neither right nor wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from cconv.arguments import number, whole
from cconv.errors import TrainingError, explain
from cconv.graph.nodes import needed_for
from cconv.model import Model, load
from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan, training_plan
from cconv.plan.status import NotFinite
from cconv.text import table
from cconv.train.batch import batch_of
from cconv.train.losses import Loss
from cconv.train.progress import bar
from cconv.train.selection import Trainable
from cconv.train.trainer import Trainer

RULE_TOLERANCE = 1e-5
"""Largest accepted relative error of the float64 gradient. A finite difference in float64 has a relative error of 1e-9;
through BatchNorm over a small batch, which has large third derivatives, 1e-7. A wrong gradient rule gives 1e-2 or
more."""

TOLERANCE = 1e-3
"""Default of `tolerance`, the largest accepted relative error of the float32 gradient. Sums over a feature map have a
rounding error of 1e-6 relative to their terms; BatchNorm and many layers amplify this error."""

# Step sizes h of the finite differences, relative to the weight's root mean square.
STEPS = (1e-4, 1e-5, 1e-6, 1e-7)
# Errors are relative to at least this share of the model's largest gradient, each gradient measured by its root mean
# square. A smaller gradient is a sum of terms that cancel, so it carries their rounding error.
SMALL = 1e-3
# How far weights are moved off a kink, relative to the weight's root mean square.
MOVE = 1e-3


class Entry(NamedTuple):
    """Comparison of one derivative of the loss, for an element of a weight or along a random direction.

    Attributes:
        element: index of the element; None for the random direction.
        difference: finite difference of the float64 loss.
        float64, float32: the derivative according to the float64 and the float32 gradient.
        rule_error, error: relative errors of `float64` and `float32` with respect to `difference`.
        kink: whether the loss has no derivative here, so that the errors do not count.
    """

    element: tuple[int, ...] | None
    difference: float
    float64: float
    float32: float
    rule_error: float
    error: float
    kink: bool


@dataclass
class Certified:
    """The result of `certify` for one weight.

    Attributes:
        weight: name of the weight.
        node, op_type: name and operator of the first node that reads the weight.
        entries: the comparisons. Errors are relative to the largest of three values: gradient, finite difference, and
            root mean square of the weight's gradient.
        rounding: norm of (float32 gradient - float64 gradient) over all elements, divided by the norm of the float64
            gradient.
        ok: whether all entries that are not on a kink are within the tolerances.
    """

    weight: str
    node: str
    op_type: str
    entries: list[Entry]
    rounding: float
    ok: bool

    @property
    def kinks(self) -> int:
        return sum(entry.kink for entry in self.entries)

    def largest(self, name: str) -> float:
        """The largest "error" or "rule_error" (`name`) of the entries that are not on a kink."""
        return max((getattr(entry, name) for entry in self.entries if not entry.kink), default=0.0)


@dataclass(frozen=True)
class Certificate:
    """Result of `certify`; `str` formats a table.

    Attributes:
        weights: one result for each trained weight.
        loss: the loss in float64.
        tolerance: largest accepted relative error of the float32 gradient.
        settings: the options that were used, shown in the table.
    """

    weights: list[Certified]
    loss: float
    tolerance: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether all weights are ok and at least one entry is not on a kink."""
        tried = any(not entry.kink for weight in self.weights for entry in weight.entries)
        return tried and all(weight.ok for weight in self.weights)

    @property
    def max_error(self) -> float:
        """Largest relative error of a float32 gradient over all weights."""
        return max((weight.largest("error") for weight in self.weights), default=0.0)

    @property
    def max_rule_error(self) -> float:
        """Largest relative error of a float64 gradient over all weights."""
        return max((weight.largest("rule_error") for weight in self.weights), default=0.0)

    def __str__(self) -> str:
        count = sum(len(weight.entries) for weight in self.weights)
        lines = [
            f"gradients against finite differences of the loss in float64, {len(self.weights)} weights, "
            f"{count} comparisons: {'ok' if self.ok else 'FAILED'}",
            f"  tolerances: float64 {RULE_TOLERANCE:g}, float32 {self.tolerance:g}; loss {self.loss:.9g}; "
            + ", ".join(f"{name} {value}" for name, value in self.settings.items()),
        ]
        rows = [("node", "operator", "weight", "compared", "float64", "float32", "rounding", "")]
        for weight in self.weights:
            verdict = "ok" if weight.ok else "FAILED"
            if weight.kinks:
                verdict += f", {weight.kinks} on a kink"
            rows.append(
                (
                    weight.node,
                    weight.op_type,
                    weight.weight,
                    str(len(weight.entries)),
                    f"{weight.largest('rule_error'):.1e}",
                    f"{weight.largest('error'):.1e}",
                    f"{weight.rounding:.1e}",
                    verdict,
                )
            )
        lines += table(rows, indent=2)
        for weight in self.weights:
            if not weight.ok:
                worst = max((e for e in weight.entries if not e.kink), key=lambda e: (e.rule_error, e.error))
                place = "along a random direction" if worst.element is None else f"at {list(worst.element)}"
                lines.append(
                    f"  {weight.weight!r} {place}: finite difference {worst.difference:.9g}, gradient "
                    f"{worst.float64:.9g} in float64, {worst.float32:.9g} in float32"
                )
        return "\n".join(lines)


def certify(
    model: Model | str | os.PathLike[str],
    x: Any,
    y: Any,
    loss: str | Loss | Mapping[str, str | Loss] = "cross_entropy",
    *,
    samples: int = 3,
    trainable: Trainable = None,
    batchnorm: str | Mapping[str, str] = "batch",
    tolerance: float = TOLERANCE,
    seed: int = 0,
    progress: bool = False,
) -> Certificate:
    """Compare a model's gradients with finite differences of its loss in float64. The model is not changed.

    The cost is at least two forward passes in float64 for each comparison. A batch of a few examples is enough.

    Args:
        model: a model, or the path of an ONNX file.
        x, y: inputs and targets of one batch, as for Trainer.step.
        loss, trainable, batchnorm: as for Trainer.
        samples: number of elements of each weight that are compared, besides one random direction.
        tolerance: largest accepted relative error of the float32 gradient. For the float64 gradient it is 1e-5.
        seed: seed for the choice of elements and directions, and for dropout.
        progress: show a progress bar on stderr.

    Raises:
        ValueRangeError: an option is out of its range.
        TrainingError: the loss is not finite.
        Others as Trainer and Trainer.gradients.
    """
    whole("certify", "samples", samples, least=1)
    whole("certify", "seed", seed, least=0, below=2**63)
    number("certify", "tolerance", tolerance, above=0)
    model = model.copy() if isinstance(model, Model) else load(os.fspath(model))
    judge = _Judge(model, x, y, loss, trainable, batchnorm, seed)
    rng = np.random.default_rng(seed)
    names = judge.trained
    readers = {name: node for node in reversed(model.nodes) for name in node.inputs}
    certified = []
    with bar(len(names), "certify", "weight", progress) as shown:
        for name in names:
            entries = _entries(judge, name, samples, tolerance, rng)
            good = all(entry.kink or _good(entry, tolerance) for entry in entries)
            node = readers[name]
            certified.append(Certified(name, node.name, node.op_type, entries, judge.rounding(name), good))
            shown.update()
    settings = {"batchnorm": batchnorm, "seed": seed}
    return Certificate(certified, judge.loss, tolerance, settings)


class _Point:
    """The float64 and float32 gradients at one value of the weights."""

    def __init__(self, weights: dict[str, np.ndarray], float64: Mapping[str, Any], float32: Mapping[str, Any]) -> None:
        self.weights, self.float64, self.float32 = weights, float64, float32
        self.largest = max((_rms(gradient) for gradient in float64.values()), default=0.0)

    def scale(self, name: str) -> float:
        """The gradient magnitude that errors of this weight are relative to; see SMALL."""
        return max(_rms(self.float64[name]), SMALL * self.largest)


class _Judge:
    """The float64 loss as a function of the weights, and its gradients in float64 and in float32."""

    def __init__(
        self, model: Model, x: Any, y: Any, loss: Any, trainable: Trainable, batchnorm: Any, seed: int
    ) -> None:
        self._model, self._x, self._y = model, x, y
        self._trainer = Trainer(model, loss, trainable=trainable, batchnorm=batchnorm, seed=seed)
        self.trained = list(self._trainer.trained)
        self._seed = seed
        self._weights = {name: array.astype(np.float64) for name, array in model.weights.items()}
        self._plan = self._made()
        self.here = self._at({name: array.copy() for name, array in self._weights.items()})
        self.loss = self.value()
        rng = np.random.default_rng([seed, 1])
        # Only trained weights are moved. Other weights may be constants of the compiled plan, such as a Clip's bounds.
        self._moves = [
            {**self.here.weights, **{name: _moved(self.here.weights[name], rng) for name in self.trained}}
            for _ in range(2)
        ]
        self._near: list[_Point] = []

    def _made(self) -> Plan:
        """Compile the trainer's plan in float64, with its own copy of the weights, and set its inputs and targets."""
        trainer, model = self._trainer, self._model
        losses = trainer.losses
        batch = batch_of(self._x, self._y, model.input_specs, list(losses))
        specs = model.input_specs
        plan = training_plan(
            needed_for(model.nodes, losses),
            {name: Spec(array.shape, specs[name].dtype) for name, array in batch.inputs.items()},
            losses,
            self._weights,
            model.constants,
            self.trained,
            batchnorm=lambda name: trainer.batchnorm[name],
            dtype=np.float64,
            limits=model.limits,
        )
        specs_of = {name: Spec(output.shape, np.dtype(np.float32)) for name, output in plan.outputs.items()}
        targets = {
            name: losses[name].check_target(specs_of[name], target, f"target of {name!r}")
            for name, target in batch.targets.items()
        }
        plan.feed(batch.inputs, targets)
        return plan

    def _at(self, weights: dict[str, np.ndarray]) -> _Point:
        """The gradients in float64 and float32 at these weights, which must be exact in float32."""
        for name, array in weights.items():
            self._model.weights[name] = array.astype(np.float32)
            self._weights[name][...] = array
        _, float32 = self._trainer.gradients(self._x, self._y)
        self._run("update")
        float64 = {name: np.array(gradient) for name, gradient in self._plan.gradients.items()}
        return _Point(weights, float64, float32)

    def value(self) -> float:
        """The loss in float64 at the current weights; runs the forward pass only."""
        return self._run("backward")

    def _run(self, until: str) -> float:
        """Run the float64 plan up to, but not including, the phase `until`; return the loss."""
        control = self._plan.control
        control["loss"], control["step"], control["seed"] = 0, 0, self._seed
        try:
            self._plan.run(until)
        except NotFinite as error:
            raise TrainingError(explain("certify", "the loss is finite", "NaN or infinity in float64")) from error
        return float(control["loss"][0])

    def near(self) -> list[_Point]:
        """The gradients at two points near the original weights, computed once. The original weights are restored."""
        if not self._near:
            self._near = [self._at(move) for move in self._moves]
            self.go(self.here)
        return self._near

    def go(self, point: _Point) -> None:
        """Set the float64 weights to those of `point`."""
        for name, array in point.weights.items():
            self._weights[name][...] = array

    def rounding(self, name: str) -> float:
        """Norm of (float32 - float64 gradient) of one weight, relative to the norm of the float64 gradient."""
        exact, rounded = self.here.float64[name], self.here.float32[name]
        size = float(np.linalg.norm(exact))
        floor = SMALL * self.here.largest * np.sqrt(exact.size)
        return float(np.linalg.norm(rounded - exact)) / (max(size, floor) or 1.0)

    def slope(self, name: str, along: np.ndarray, wanted: float, scale: float) -> float:
        """Derivative of the float64 loss along a direction of one weight, by central differences.

        Steps are tried from large to small. The result is the first difference that agrees with `wanted`. If none
        agrees, the result is the difference that changed least with respect to the step before.

        Args:
            name: the weight.
            along: direction, of the weight's shape.
            wanted: the derivative according to the float64 gradient.
            scale: gradient magnitude that the error is relative to at least.
        """
        weight = self._weights[name]
        saved = weight.copy()
        width = _rms(saved) or 1.0
        values: list[float] = []
        for step in STEPS:
            h = step * width
            weight[...] = saved + h * along
            above = self.value()
            weight[...] = saved - h * along
            values.append((above - self.value()) / (2 * h))
            weight[...] = saved
            if abs(values[-1] - wanted) <= RULE_TOLERANCE * max(abs(values[-1]), abs(wanted), scale):
                return values[-1]
        gaps = [abs(a - b) for a, b in pairwise(values)]
        return values[int(np.argmin(gaps)) + 1]


def _entries(judge: _Judge, name: str, samples: int, tolerance: float, rng: np.random.Generator) -> list[Entry]:
    shape = judge.here.float64[name].shape
    size = int(np.prod(shape, dtype=np.int64))
    directions: list[tuple[tuple[int, ...] | None, np.ndarray]] = []
    for flat in rng.permutation(size)[:samples]:
        place = tuple(int(i) for i in np.unravel_index(int(flat), shape))
        along = np.zeros(shape)
        along[place] = 1.0
        directions.append((place, along))
    if size:
        along = rng.standard_normal(shape)
        directions.append((None, along / np.linalg.norm(along)))
    entries = []
    for element, along in directions:
        entry = _entry(judge, judge.here, name, element, along)
        if not _good(entry, tolerance):
            agrees = []
            for point in judge.near():
                judge.go(point)
                agrees.append(_good(_entry(judge, point, name, element, along), tolerance))
            judge.go(judge.here)
            entry = entry._replace(kink=all(agrees))
        entries.append(entry)
    return entries


def _entry(judge: _Judge, point: _Point, name: str, element: tuple[int, ...] | None, along: np.ndarray) -> Entry:
    scale = point.scale(name)
    float64 = float(np.sum(point.float64[name] * along))
    float32 = float(np.sum(point.float32[name].astype(np.float64) * along))
    difference = judge.slope(name, along, float64, scale)

    def error(value: float) -> float:
        apart = abs(value - difference)
        return apart / (max(abs(value), abs(difference), scale) or 1.0)

    return Entry(element, difference, float64, float32, error(float64), error(float32), False)


def _good(entry: Entry, tolerance: float) -> bool:
    return entry.rule_error <= RULE_TOLERANCE and entry.error <= tolerance


def _moved(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of a weight with noise of MOVE times its root mean square added, rounded to float32."""
    width = MOVE * (_rms(array) or 1.0)
    return (array + width * rng.standard_normal(array.shape)).astype(np.float32).astype(np.float64)


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
