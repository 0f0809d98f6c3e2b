"""Finding: one thing about a model that matters for training."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)


@dataclass(frozen=True)
class Finding:
    """One thing that matters for training.

    Attributes:
        severity: "error" (training does not work), "warning" (it works, and not as one would expect) or "info".
        node: the node, initializer, input or output that it is about; "" for the whole model.
        meaning: what it means.
        repair: what to do about it; "" where there is nothing to do.
        concern: which rule found it, a key of cconv.concerns.CONCERNS.
        automatic: whether `finetune.repair` does it.
    """

    severity: str
    node: str
    meaning: str
    repair: str = ""
    concern: str = ""
    automatic: bool = False
