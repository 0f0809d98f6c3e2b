"""repair: make a model trainable by a sequence of repairs, and verify each repair by comparing the outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cconv.concerns import CONCERNS
from cconv.concerns.case import Case
from cconv.concerns.concern import Done, Options, Skipped
from cconv.concerns.modes import for_inference
from cconv.errors import CconvError, ShapeError, ValueRangeError, explain
from cconv.finetune.proof import CCONV, ONNXRUNTIME, Examples, Proof, prove
from cconv.graph.weights import memory_of
from cconv.model import Model
from cconv.text import table
from cconv.train.arrays import as_dtype, named

# Number of examples in the larger of the two batches on which a repair is verified.
EXAMPLES = 4

TOLERANCE = 1e-4
"""Default of `tolerance`, a relative error, as for `cconv.check`. A different order of rounding changes outputs by 1e-6
to 1e-5; a wrong repair changes them by more."""


@dataclass(frozen=True)
class RepairRow:
    """One repair.

    Attributes:
        concern: name of the repair, as accepted by `skip=`.
        what: description of the repair, or the reason why it was not made.
        kept: whether the repair is part of the returned model.
        undone: whether `Model.save` restores the original form.
        proof: the comparison of outputs; None if no repair was made or none could be compared.
    """

    concern: str
    what: str
    kept: bool
    undone: bool = False
    proof: Proof | None = None


@dataclass(frozen=True)
class Repairs:
    """The repairs that `repair` made or tried, with their verification; `str` formats a table."""

    rows: Sequence[RepairRow] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether no repair was taken back because of a failed comparison."""
        return all(row.kept for row in self.rows if row.proof is not None)

    def __str__(self) -> str:
        if not self.rows:
            return "repair: nothing to do"
        kept = sum(row.kept for row in self.rows)
        lines = [f"repair: {kept} of {len(self.rows)} done", ""]
        rows = [
            (
                row.concern,
                row.what,
                "kept" if row.kept else "TAKEN BACK" if row.proof else "not done",
                *(_told(row.proof, engine) for engine in (CCONV, ONNXRUNTIME)),
                "put back" if row.undone and row.kept else "stays" if row.kept else "-",
            )
            for row in self.rows
        ]
        lines += table(rows, ("repair", "what", "", "cconv", "onnxruntime", "at save"), wrap=(14, 50, 10, 24, 24, 8))
        proofs = [row.proof for row in self.rows if row.proof is not None]
        if proofs:
            batches = ", ".join(str(n) for n in sorted({batch for proof in proofs for batch in proof.batches}))
            least = min(proof.tolerance for proof in proofs)
            loose = ((row.concern, row.proof.tolerance) for row in self.rows if row.proof)
            looser = [f"{tolerance:g} for {concern}" for concern, tolerance in loose if tolerance > least]
            allowed = "; ".join([f"{least:g}", *looser])
            lines += [
                "",
                f"Outputs before and after each repair were compared at batch sizes {batches}. The numbers are the",
                f"largest difference, relative to the output's largest value. Tolerance: {allowed}.",
            ]
        return "\n".join(lines)


class RepairedModel(Model):
    """A model that `repair` returned. Its copies and pickles are plain Models.

    Attributes:
        repairs: the repairs that were made or tried, with their verification.
    """

    def __init__(self, model: Model, repairs: Repairs) -> None:
        """Take over the data of `model`, which must not be used afterwards."""
        super().__init__(
            model.ir,
            arrays=memory_of(model.weights),
            declared=model.declared,
            limits=model.limits,
            external=model.external,
            at_save=model.at_save,
        )
        self.repairs = repairs


def repair(
    model: Model,
    data: Any = None,
    *,
    skip: str | Collection[str] = (),
    dropout: float | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    tolerance: float = TOLERANCE,
) -> RepairedModel:
    """Return a copy of `model` with its problems for training repaired where possible. `model` is not changed.

    The repairs, in this order:

    - Weights in Constant nodes become initializers.
    - Merged weights get an array each.
    - float16, bfloat16 and float64 weights become float32; the 16-bit types are restored by `save`.
    - The batch size becomes variable.
    - A final Softmax is removed; `save` restores it.
    - BatchNormalization that was folded into convolutions is put back (needs `data`).
    - A Dropout is inserted before the classifier (needs `dropout`).

    After each repair, the outputs before and after it are compared in cconv and in onnxruntime, at batch size 1 and at
    a larger one. A repair that changes the outputs is taken back. `print(result.repairs)` lists the repairs.

    Args:
        data: examples like the training data, to calibrate BatchNormalization on: an array (N, ...), or a dict of
            arrays by input name. A few dozen images are enough. Without data, outputs are compared on random inputs.
        skip: names of repairs to leave out, from `finetune.REPAIRS`.
        dropout: rate of the Dropout inserted before the classifier; None to insert none.
        input_shapes: input name -> shape, for inputs with open sizes beside the first axis.
        tolerance: largest accepted difference of an output, relative to its largest absolute value.

    Raises:
        ValueRangeError: an option is out of its range.
        ShapeError, DTypeError: `data` does not match the model's inputs.
    """
    skipped = {skip} if isinstance(skip, str) else set(skip)
    if unknown := skipped - set(REPAIRS):
        raise ValueRangeError(explain("skip", f"names some of {', '.join(REPAIRS)}", repr(sorted(unknown)[0])))
    if dropout is not None and not 0 < dropout < 1:
        raise ValueRangeError(explain("dropout", "the rate lies in 0 < rate < 1", repr(dropout)))
    if not tolerance > 0:
        raise ValueRangeError(explain("tolerance", "is larger than 0", repr(tolerance)))
    case = Case(model, 1, input_shapes)
    given = _examples(case, data) if data is not None else None
    options = Options(case, given, dropout)
    result, rows = model.copy(), []
    for name in REPAIRS:
        step = CONCERNS[name].repair
        if name in skipped or step is None:
            continue
        candidate = result.copy()
        try:
            done = step(candidate, options)
        except CconvError as error:
            done = Skipped(str(error))
        if isinstance(done, Skipped):
            rows.append(RepairRow(name, done.why, kept=False))
        elif isinstance(done, Done):
            examples = _for_proof(case, given, done.before_batch or case.fixed_batch)
            row = _proved(name, result, candidate, done, examples, tolerance)
            rows.append(row)
            if row.kept:
                result = candidate
    return RepairedModel(result, Repairs(rows))


REPAIRS: tuple[str, ...] = tuple(name for name, concern in CONCERNS.items() if concern.repair is not None)


def _proved(
    name: str, before: Model, after: Model, done: Done, examples: Examples | None, tolerance: float
) -> RepairRow:
    """Verify a repair by comparing outputs, and make its row of the report."""
    if examples is None:
        what = f"{done.what}: not kept, as input shapes are unknown and outputs were not compared; give input_shapes"
        return RepairRow(name, what, kept=False)
    proof = prove(for_inference(before), for_inference(after), done, examples, tolerance)
    what = done.what
    if not proof.ok:
        reasons = proof.failures or proof.not_run
        what += ". " + "; ".join(f"{where}: {why}" for where, why in reasons.items())
    return RepairRow(name, what, proof.ok, done.undone, proof)


def _examples(case: Case, data: Any) -> dict[str, np.ndarray]:
    """Validate the user's examples. Return input name -> array.

    Raises:
        ShapeError: input names or shapes do not match the model, or inputs have different numbers of examples.
        DTypeError, ValueRangeError: values cannot be converted to the input's dtype.
    """
    specs = case.model.input_specs
    arrays = named(data, list(specs), "data")
    for name, (dims, dtype) in specs.items():
        array = arrays[name]
        sizes: Sequence[int | str | None] = dims if dims is not None else [None] * array.ndim
        open_sizes = [None if name in case.batched and i == 0 else n for i, n in enumerate(sizes)]
        if array.ndim != len(sizes) or any(isinstance(n, int) and n != m for n, m in zip(open_sizes, array.shape)):
            shown = ", ".join("any" if not isinstance(n, int) else str(n) for n in open_sizes)
            raise ShapeError(explain(f"data for {name!r}", f"has shape ({shown})", f"{array.shape}"))
        if not array.size > 0:
            raise ShapeError(explain(f"data for {name!r}", "is not empty", f"shape {array.shape}"))
        real = np.issubdtype(dtype, np.floating) or dtype.kind == "V"
        arrays[name] = as_dtype(array, np.dtype(np.float32) if real else dtype, f"data for {name!r}")
    counts = {len(array) for name, array in arrays.items() if name in case.batched}
    if len(counts) > 1:
        raise ShapeError(explain("data", "has the same number of examples for each input", f"{sorted(counts)}"))
    return arrays


def _for_proof(case: Case, given: Mapping[str, np.ndarray] | None, batch: int | None) -> Examples | None:
    """The inputs on which a repair is verified: the user's examples, or random numbers if `given` is None.

    Args:
        given: input name -> array of examples; they are repeated if there are too few.
        batch: the only batch size that the model accepts. The number of examples is EXAMPLES, rounded up to a multiple
            of `batch`.

    Returns:
        The examples; None if `given` is None and the input shapes are unknown.
    """
    size = batch or 1
    count = -(-EXAMPLES // size) * size
    if given is not None:
        arrays = {n: array[np.arange(count) % len(array)] if n in case.batched else array for n, array in given.items()}
        return Examples(arrays, case.batched)
    specs = case.specs(count)
    if specs is None:
        return None
    rng = np.random.default_rng(0)
    arrays = {}
    for name, spec in specs.items():
        shape = (count, *spec.shape[1:]) if name in case.batched else spec.shape
        if np.issubdtype(spec.dtype, np.floating) or spec.dtype.kind == "V":
            arrays[name] = rng.standard_normal(shape).astype(np.float32)
        else:
            arrays[name] = np.zeros(shape, spec.dtype)  # an index or a flag: 0 is always valid
    return Examples(arrays, case.batched)


def _told(proof: Proof | None, engine: str) -> str:
    """The table cell with the relative error of one engine."""
    if proof is None:
        return "-"
    if engine in proof.errors:
        return "same bits" if proof.errors[engine] == 0 else f"{proof.errors[engine]:.1e}"
    return "not run" if engine in proof.not_run else "-"
