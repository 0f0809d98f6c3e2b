"""Finding: one problem or remark about a model that matters for training."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)


@dataclass(frozen=True)
class Finding:
    """One problem or remark about a model that matters for training.

    Attributes:
        severity: "error" (training does not work), "warning" (training works, but not as expected) or "info".
        node: the node, initializer, input or output concerned; "" if the finding is about the whole model.
        meaning: explanation of the problem, in a sentence or two.
        repair: advice for the user; "" if there is nothing to do.
        concern: name of the concern that made the finding, as in cconv.concerns.CONCERNS.
        automatic: whether `finetune.repair` can make the repair.
    """

    severity: str
    node: str
    meaning: str
    repair: str = ""
    concern: str = ""
    automatic: bool = False
