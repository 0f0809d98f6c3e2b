"""The statuses with which a step stops a program, as errors. The only place that turns one into the other."""

from __future__ import annotations

from cconv.errors import CconvError, TrainingError, ValueRangeError, explain

# Of kernels/core/step.pxd.
OK, NOT_FINITE, OUT_OF_RANGE, STATISTICS_NOT_FINITE = 0, 1, 2, 3


class NotFinite(TrainingError):
    """A loss or gradient that is NaN or infinite; nothing has changed."""


class StatisticsNotFinite(TrainingError):
    """A running mean or variance that would become NaN or infinite; nothing has changed."""


class OutOfRange(ValueRangeError):
    """An index that its axis does not have; what computes it has written nothing."""


def error_of(label: str, status: int) -> CconvError:
    """The error for a status other than OK.

    Args:
        label: the node, or other place, of the step that stopped the program.
    """
    if status == NOT_FINITE:
        return NotFinite(explain(label or "step", "the loss and its gradient are finite", "one that is not"))
    if status == STATISTICS_NOT_FINITE:
        return StatisticsNotFinite(
            explain(
                f"node '{label}'",
                "the batch's mean and variance, and the running ones, are finite",
                "one that is not",
                "Scale the inputs to small numbers, such as 0..1; check_inputs=True looks for NaN in the data; "
                'batchnorm="frozen" leaves the running statistics alone.',
            )
        )
    return OutOfRange(explain(f"node '{label}'", "indices lie within their axis", "one that does not"))
