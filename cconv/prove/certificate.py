"""certify: the gradients of a model, against differences of its own loss in float64.

What is compared, for each weight that is trained, at a few elements and along one random direction:

    float32      the gradient that Trainer.gradients gives: the kernels, schedule and fusions that train the model
    float64      the gradient of the same plan, compiled in float64
    difference   (loss(w + h) - loss(w - h)) / 2h of that plan's loss, in float64

The second tells whether the rules are right, free of rounding; the first, what is left of that in float32. The error of
a difference is O(h^2) + O(eps / h), so h is made smaller until it agrees, or until it becomes worse.

Kinks. Where an element moves something over the edge of a ReLU or past a tie of a max-pooling, a loss has no
derivative, and what training takes is a choice. One that is close by goes away with a smaller h; one that the point
sits on does not. So an element that disagrees is looked at again with all trained weights moved a little, at random: a
point that sits on no kink, but for a chance of zero. A wrong rule is wrong there as well. If gradient and difference
agree there, twice, the element is said to sit on a kink and counts as neither right nor wrong.
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
"""For float64. Differences of a loss in float64 are good to 1e-9 of a gradient of its size; through BatchNorm over a
small batch, whose third derivatives are large, to 1e-7. A wrong rule is wrong by 1e-2 and more."""

TOLERANCE = 1e-3
"""Default of `tolerance`, for float32: sums over a feature map round to 1e-6 of their terms, which BatchNorm and many
layers make larger."""

STEPS = (1e-4, 1e-5, 1e-6, 1e-7)  # h, as a share of the weight's root mean square
SMALL = 1e-3  # a gradient below this share of the model's largest is compared with that share: it is a sum of such ones
MOVE = 1e-3  # how far weights are moved off a kink, likewise


class Entry(NamedTuple):
    """One comparison: an element of a weight, or its random direction (element None)."""

    element: tuple[int, ...] | None
    difference: float
    float64: float
    float32: float
    rule_error: float
    error: float
    kink: bool


@dataclass
class Certified:
    """One weight.

    Attributes:
        weight, node, op_type: its name, and the first node that reads it.
        entries: the comparisons; errors are relative to the larger of the two values and of the weight's gradient's
            root mean square.
        rounding: norm of the float32 gradient minus the float64 one, over the latter's; all elements count.
        ok: whether all entries are within the tolerances, those that sit on a kink left out.
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
        """The largest "error" or "rule_error" of entries that sit on no kink."""
        return max((getattr(entry, name) for entry in self.entries if not entry.kink), default=0.0)


@dataclass(frozen=True)
class Certificate:
    """Outcome of `certify`.

    Attributes:
        weights: one for each trained weight.
        loss: in float64.
        tolerance: for float32.
    """

    weights: list[Certified]
    loss: float
    tolerance: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """All weights are, and at least one entry sits on no kink."""
        tried = any(not entry.kink for weight in self.weights for entry in weight.entries)
        return tried and all(weight.ok for weight in self.weights)

    @property
    def max_error(self) -> float:
        """Largest relative error of a float32 gradient."""
        return max((weight.largest("error") for weight in self.weights), default=0.0)

    @property
    def max_rule_error(self) -> float:
        """Largest relative error of a float64 gradient."""
        return max((weight.largest("rule_error") for weight in self.weights), default=0.0)

    def __str__(self) -> str:
        count = sum(len(weight.entries) for weight in self.weights)
        lines = [
            f"gradients against differences of the loss in float64, {len(self.weights)} weights, {count} comparisons: "
            f"{'ok' if self.ok else 'FAILED'}",
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
                place = "a random direction" if worst.element is None else f"{list(worst.element)}"
                lines.append(
                    f"  {weight.weight!r} at {place}: difference {worst.difference:.9g}, gradient "
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
    """Compare a model's gradients with differences of its loss in float64; the model stays as it is.

    The cost is about two forward passes in float64 for each comparison. A few examples are enough.

    Args:
        model: a model, or the path of one.
        x, y: one batch, as for Trainer.step.
        loss, trainable, batchnorm: as for Trainer.
        samples: elements of each weight that are compared, beside one random direction.
        tolerance: largest relative error that is ok in float32; in float64 it is 1e-5.
        seed: of what is drawn: elements, directions, dropout.
        progress: show a bar on stderr.

    Raises:
        ValueRangeError: an option out of its range.
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
    found = []
    with bar(len(names), "certify", "weight", progress) as shown:
        for name in names:
            entries = _entries(judge, name, samples, tolerance, rng)
            good = all(entry.kink or _good(entry, tolerance) for entry in entries)
            node = readers[name]
            found.append(Certified(name, node.name, node.op_type, entries, judge.rounding(name), good))
            shown.update()
    settings = {"batchnorm": batchnorm, "seed": seed}
    return Certificate(found, judge.loss, tolerance, settings)


class _Point:
    """The gradients at one setting of the weights."""

    def __init__(self, weights: dict[str, np.ndarray], float64: Mapping[str, Any], float32: Mapping[str, Any]) -> None:
        self.weights, self.float64, self.float32 = weights, float64, float32
        self.largest = max((_rms(gradient) for gradient in float64.values()), default=0.0)

    def scale(self, name: str) -> float:
        return max(_rms(self.float64[name]), SMALL * self.largest)


class _Judge:
    """The loss in float64 as a function of the weights, and the gradients of both builds."""

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
        # Weights that are not trained stay: among them are numbers that plans are made with (the bounds of a Clip).
        self._moves = [
            {**self.here.weights, **{name: _moved(self.here.weights[name], rng) for name in self.trained}}
            for _ in range(2)
        ]
        self._near: list[_Point] = []

    def _made(self) -> Plan:
        """The plan of the trainer, in float64, on weights of its own; inputs and targets in place."""
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
        """Both gradients at these weights, which float32 holds."""
        for name, array in weights.items():
            self._model.weights[name] = array.astype(np.float32)
            self._weights[name][...] = array
        _, float32 = self._trainer.gradients(self._x, self._y)
        self._run("update")
        float64 = {name: np.array(gradient) for name, gradient in self._plan.gradients.items()}
        return _Point(weights, float64, float32)

    def value(self) -> float:
        return self._run("backward")

    def _run(self, until: str) -> float:
        control = self._plan.control
        control["loss"], control["step"], control["seed"] = 0, 0, self._seed
        try:
            self._plan.run(until)
        except NotFinite as error:
            raise TrainingError(explain("certify", "the loss is finite", "one that is not, in float64")) from error
        return float(control["loss"][0])

    def near(self) -> list[_Point]:
        """Two points close by; the weights are moved back afterwards."""
        if not self._near:
            self._near = [self._at(move) for move in self._moves]
            self.go(self.here)
        return self._near

    def go(self, point: _Point) -> None:
        for name, array in point.weights.items():
            self._weights[name][...] = array

    def rounding(self, name: str) -> float:
        exact, rounded = self.here.float64[name], self.here.float32[name]
        size = float(np.linalg.norm(exact))
        floor = SMALL * self.here.largest * np.sqrt(exact.size)
        return float(np.linalg.norm(rounded - exact)) / (max(size, floor) or 1.0)

    def slope(self, name: str, along: np.ndarray, wanted: float, scale: float) -> float:
        """The loss's derivative along a direction of one weight, by central differences.

        `wanted` is what it is compared with: the first step at which the two agree ends it, else the one of the two
        neighbouring steps whose values are closest.
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
            again = []
            for point in judge.near():
                judge.go(point)
                again.append(_good(_entry(judge, point, name, element, along), tolerance))
            judge.go(judge.here)
            entry = entry._replace(kink=all(again))
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
    """The weight moved by MOVE of its root mean square, to numbers that float32 holds."""
    width = MOVE * (_rms(array) or 1.0)
    return (array + width * rng.standard_normal(array.shape)).astype(np.float32).astype(np.float64)


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
