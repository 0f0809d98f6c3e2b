"""Report: what a check found, as values and as a table that a person reads at a glance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cconv.check.compare import Comparison


@dataclass(frozen=True)
class Report:
    """Outcome of a check.

    Attributes:
        comparisons: one for each output on each provider that ran.
        not_available: provider -> why it could not be tried here. Says nothing about the model.
        refused: provider that is here -> why it did not run the model.
        tolerance: largest relative error that is ok.
        samples: length of the inputs' first axis.
        versions: of cconv, onnxruntime and onnx.
    """

    comparisons: Sequence[Comparison]
    not_available: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    samples: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Some provider ran, every one that is here took the model, all outputs are within the tolerance."""
        return bool(self.comparisons) and not self.refused and all(c.ok for c in self.comparisons)

    @property
    def providers(self) -> list[str]:
        """The providers that ran."""
        return list(dict.fromkeys(c.provider for c in self.comparisons))

    @property
    def max_error(self) -> float:
        """Largest absolute difference over all outputs and providers; NaN if nothing ran."""
        return max((c.max_error for c in self.comparisons), default=math.nan)

    @property
    def max_relative_error(self) -> float:
        """Largest difference over the largest value of its output; NaN if nothing ran."""
        return max((c.relative_error for c in self.comparisons), default=math.nan)

    @property
    def class_agreement(self) -> float | None:
        """Smallest share of equal predicted classes over all outputs that have classes."""
        shares = [c.class_agreement for c in self.comparisons if c.class_agreement is not None]
        return min(shares, default=None)

    def __str__(self) -> str:
        tried = self.comparisons or self.refused
        verdict = "ok" if self.ok else "FAILED" if tried else "FAILED: no provider ran"
        count = f"{self.samples} sample{'' if self.samples == 1 else 's'}"
        lines = [
            f"check against onnxruntime, {count}: {verdict} "
            f"(tolerance {self.tolerance:g} of the largest value)"
        ]
        if self.comparisons:
            header = ("provider", "output", "shape", "largest error", "relative", "same class", "")
            rows: list[tuple[str, ...]] = [header]
            rows += [_row(comparison) for comparison in self.comparisons]
            widths = [max(map(len, column)) for column in zip(*rows)]
            for row in rows:
                lines.append("  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip())
        lines += [f"  {_short(name)}: REFUSED, {why}" for name, why in self.refused.items()]
        lines += [f"  {_short(name)}: not available, {why}" for name, why in self.not_available.items()]
        lines.append("  " + ", ".join(f"{name} {version}" for name, version in self.versions.items()))
        return "\n".join(lines)


def _row(c: Comparison) -> tuple[str, ...]:
    return (
        _short(c.provider),
        c.output,
        "x".join(map(str, c.shape)) or "scalar",
        f"{c.max_error:.2g}",
        f"{c.relative_error:.2g}",
        "-" if c.class_agreement is None else _percent(c.class_agreement),
        ("ok" if c.ok else "FAILED") + (f": {c.note}" if c.note else ""),
    )


def _percent(share: float) -> str:
    """A share with two decimals, rounded down: 100 % means all."""
    return f"{math.floor(share * 1e4) / 100:.2f} %"


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")
