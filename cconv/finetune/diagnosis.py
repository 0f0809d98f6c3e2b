"""What the doctor hands over: findings, and the table that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cconv.concerns.finding import ERROR, SEVERITIES, Finding
from cconv.text import table

# Characters of the table's columns at most; the severities' follows from them.
NODE, MEANING, REPAIR = 24, 46, 40


@dataclass(frozen=True)
class Diagnosis:
    """All findings about a model.

    Attributes:
        model: its name.
        findings: the gravest first.
        batch: examples of a training step that were assumed.
        memory: bytes that such a step takes, weights and optimizer state (SGD with momentum) included; None where it
            could not be found out.
    """

    model: str
    findings: Sequence[Finding] = field(default_factory=tuple)
    batch: int = 0
    memory: int | None = None

    @property
    def trainable(self) -> bool:
        """Whether training works as the model is."""
        return all(finding.severity != ERROR for finding in self.findings)

    def errors_alone(self) -> Diagnosis:
        """The same without warnings and notes."""
        return replace(self, findings=[finding for finding in self.findings if finding.severity == ERROR])

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
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
        told = ", ".join(f"{count} {shown[kind][count > 1]}" for kind, count in counts.items() if count)
        verdict = "can be trained" if self.trainable else "CANNOT be trained as it is"
        lines = [f"doctor: {self.model} {verdict} ({told or 'no findings'})"]
        if self.findings:
            rows = [(f.severity, f.node or "-", f.meaning, f.repair or "-") for f in self.findings]
            lines += [
                "",
                *table(rows, ("severity", "node", "what it means", "repair"), wrap=(7, NODE, MEANING, REPAIR)),
            ]
        if any(finding.automatic for finding in self.findings):
            lines += ["", "* finetune.repair(model, data) or `cconv repair` does this."]
        return "\n".join(lines)
