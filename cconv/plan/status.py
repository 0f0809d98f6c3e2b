"""The statuses with which a step stops a program, as errors. The only place that turns one into the other."""

from __future__ import annotations

from cconv.errors import CconvError, TrainingError, ValueRangeError, explain

# Of kernels/core/step.pxd.
OK, NOT_FINITE, OUT_OF_RANGE = 0, 1, 2


class NotFinite(TrainingError):
    """A loss or gradient that is NaN or infinite; nothing has changed."""


class OutOfRange(ValueRangeError):
    """An index that its axis does not have; what computes it has written nothing."""


def error_of(label: str, status: int) -> CconvError:
    """The error for a status other than OK.

    Args:
        label: the node, or other place, of the step that stopped the program.
    """
    if status == NOT_FINITE:
        return NotFinite(explain(label or "step", "the loss and its gradient are finite", "one that is not"))
    return OutOfRange(explain(f"node '{label}'", "indices lie within their axis", "one that does not"))
