"""Diagnosis: the result of `doctor`, as findings and as a printed table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cconv.concerns.finding import ERROR, SEVERITIES, Finding
from cconv.text import table

# Maximum widths in characters of three columns of the printed table.
NODE, MEANING, REPAIR = 24, 46, 40


@dataclass(frozen=True)
class Diagnosis:
    """All findings about a model.

    Attributes:
        model: name of the model.
        findings: the findings, errors first, then warnings, then notes.
        batch: number of examples per training step that `memory` assumes.
        memory: bytes that a training step takes, including weights and the state of SGD with momentum; None if it could
            not be determined.
    """

    model: str
    findings: Sequence[Finding] = field(default_factory=tuple)
    batch: int = 0
    memory: int | None = None

    @property
    def trainable(self) -> bool:
        """Whether the model can be trained without a repair."""
        return all(finding.severity != ERROR for finding in self.findings)

    def errors_alone(self) -> Diagnosis:
        """A copy of the diagnosis with its errors only."""
        return replace(self, findings=[finding for finding in self.findings if finding.severity == ERROR])

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as a dict that can be written as JSON."""
        return {
            "model": self.model,
            "trainable": self.trainable,
            "batch": self.batch,
            "memory": self.memory,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        counts = {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}
        shown = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "info": ("note", "notes")}
        summary = ", ".join(f"{count} {shown[kind][count > 1]}" for kind, count in counts.items() if count)
        verdict = "can be trained" if self.trainable else "CANNOT be trained as it is"
        lines = [f"doctor: {self.model} {verdict} ({summary or 'no findings'})"]
        if self.findings:
            rows = [(f.severity, f.node or "-", f.meaning, f.repair or "-") for f in self.findings]
            lines += [
                "",
                *table(rows, ("severity", "node", "what it means", "repair"), wrap=(7, NODE, MEANING, REPAIR)),
            ]
        if any(finding.automatic for finding in self.findings):
            lines += ["", "* finetune.repair(model, data) or `cconv repair` makes this repair."]
        return "\n".join(lines)
