"""Report: the result of a check, as values and as a printed table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cconv.prove.bisect import Divergence
from cconv.prove.compare import Comparison
from cconv.prove.providers import CPU
from cconv.text import table

HEADER = ("provider", "optimization", "batch", "output", "shape", "largest error", "relative", "same class", "")


@dataclass
class Run:
    """A run of the model on one provider, at one level of optimization, with one batch.

    Attributes:
        provider: name of the provider in onnxruntime.
        label: name of the provider in the table: without "ExecutionProvider", with the device or TF32 if it matters.
        optimization: level of graph optimization, a key of providers.LEVELS.
        batch: size of the inputs' first axis.
        tolerance: largest accepted relative error.
        comparisons: one for each output; empty if the model did not run.
        not_available: why the provider could not be tried on this machine; "" if it could. Not an error of the model.
        refused: why the provider did not run the model although it is available; "" if it ran.
        untraced: whether outputs differ, but the search found no node that differs.
    """

    provider: str
    label: str
    optimization: str
    batch: int
    tolerance: float
    comparisons: Sequence[Comparison] = ()
    not_available: str = ""
    refused: str = ""
    untraced: bool = False

    @property
    def ok(self) -> bool:
        return bool(self.comparisons) and all(c.ok for c in self.comparisons)

    @property
    def title(self) -> str:
        return f"{self.label} at {self.optimization}, batch {self.batch}"


@dataclass(frozen=True)
class Report:
    """Result of a check; `str` formats a table.

    Attributes:
        runs: one for each provider, level of optimization and batch, including runs that did not start.
        tolerance: largest accepted relative error; a run may have a larger one.
        versions: versions of cconv, onnxruntime and onnx.
        divergences: the first nodes at which failed runs differ from cconv's, if `check` was called with nodes=True.
    """

    runs: Sequence[Run]
    tolerance: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    divergences: Sequence[Divergence] = ()

    @property
    def ok(self) -> bool:
        """Whether some provider ran, no available provider refused, and all outputs are within the tolerance."""
        return bool(self.comparisons) and not self.refused and all(c.ok for c in self.comparisons)

    @property
    def comparisons(self) -> list[Comparison]:
        """One comparison for each output of each completed run."""
        return [comparison for run in self.runs for comparison in run.comparisons]

    @property
    def samples(self) -> int:
        """The largest batch size of all runs."""
        return max((run.batch for run in self.runs), default=0)

    @property
    def not_available(self) -> dict[str, str]:
        """Provider -> why it could not be tried on this machine. Says nothing about the model."""
        return {run.provider: run.not_available for run in reversed(self.runs) if run.not_available}

    @property
    def refused(self) -> dict[str, str]:
        """Available provider -> why it did not run the model at some level of optimization or batch size."""
        return {run.provider: run.refused for run in reversed(self.runs) if run.refused}

    @property
    def providers(self) -> list[str]:
        """Names of the providers that ran the model at least once."""
        return list(dict.fromkeys(c.provider for c in self.comparisons))

    @property
    def max_error(self) -> float:
        """Largest absolute difference over all outputs and runs; NaN if nothing ran."""
        return max((c.max_error for c in self.comparisons), default=math.nan)

    @property
    def max_relative_error(self) -> float:
        """Largest relative error over all outputs and runs; NaN if nothing ran."""
        return max((c.relative_error for c in self.comparisons), default=math.nan)

    @property
    def class_agreement(self) -> float | None:
        """Smallest share of equal predicted classes over all outputs; None if no output has classes."""
        shares = [c.class_agreement for c in self.comparisons if c.class_agreement is not None]
        return min(shares, default=None)

    def __str__(self) -> str:
        tried = self.comparisons or self.refused
        verdict = "ok" if self.ok else "FAILED" if tried else "FAILED: no provider ran"
        sizes = list(dict.fromkeys(run.batch for run in self.runs))
        count = f"{sizes[0] if sizes else 0} sample{'' if sizes == [1] else 's'}"
        if len(sizes) > 1:
            count = f"batches of {', '.join(map(str, sizes))}"
        lines = [f"check against onnxruntime, {count}: {verdict} (tolerance {self.tolerance:g} of the largest value)"]
        ran = [run for run in self.runs if run.comparisons]
        if ran:
            lines += table([HEADER, *(_row(run) for run in ran)], indent=2)
        lines += self._unfinished()
        if ran and {run.provider for run in ran} == {CPU}:
            lines.append("  only onnxruntime's CPU provider ran: this says nothing about GPUs or other devices")
        lines.append("  " + ", ".join(f"{name} {version}" for name, version in self.versions.items()))
        for divergence in self.divergences:
            lines += ["", str(divergence)]
        for run in self.runs:
            if run.untraced:
                lines += ["", f"{run.title}: outputs differ, but no node was found that causes the difference"]
        return "\n".join(lines)

    def _unfinished(self) -> list[str]:
        """One line per provider and reason for the runs that did not complete."""
        reasons: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            if run.refused or run.not_available:
                why = f"REFUSED, {run.refused}" if run.refused else f"not available, {run.not_available}"
                reasons.setdefault((run.label, why), []).append(run)
        lines = []
        for (label, why), runs in reasons.items():
            levels = ""
            if len(runs) < sum(run.label == label for run in self.runs):
                levels = " at " + ", ".join(dict.fromkeys(run.optimization for run in runs))
            lines.append(f"  {label}{levels}: {why}")
        return lines


def _row(run: Run) -> tuple[str, ...]:
    """The table row of a run: it shows the output with the largest error."""
    c = max(run.comparisons, key=lambda c: (not c.ok, c.relative_error))
    shares = [c.class_agreement for c in run.comparisons if c.class_agreement is not None]
    more = len(run.comparisons) - 1
    return (
        run.label,
        run.optimization,
        str(run.batch),
        f"{c.output}, worst of {more + 1}" if more else c.output,
        "x".join(map(str, c.shape)) or "scalar",
        f"{c.max_error:.2g}",
        f"{c.relative_error:.2g}",
        _percent(min(shares)) if shares else "-",
        ("ok" if run.ok else "FAILED") + (f": {c.note}" if c.note else ""),
    )


def _percent(share: float) -> str:
    """Format a share as a percentage with two decimals, rounded down so that 100 % means all."""
    return f"{math.floor(share * 1e4) / 100:.2f} %"
