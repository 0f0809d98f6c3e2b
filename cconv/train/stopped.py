"""What a training step that stopped says to the user."""

from __future__ import annotations

import numpy as np

from cconv.errors import TrainingError, explain


def not_finite(step: int, rate: float | None, loss: float) -> TrainingError:
    """A loss or gradient that is NaN or infinite.

    Args:
        step: number of the update, from 1.
        rate: its learning rate; None if only gradients were asked for.
        loss: its loss.
    """
    found = f"a loss of {loss:g}" + (" whose gradient is not" if np.isfinite(loss) else "")
    return TrainingError(
        explain(
            _place(step, rate),
            "the loss and its gradient are finite",
            found,
            "Try a smaller learning rate, max_gradient_norm=1.0, or check_inputs=True to look for NaN in "
            "the data. Weights, optimizer state and running statistics are as before this step.",
        )
    )


def out_of_range(step: int, rate: float | None, error: Exception) -> TrainingError:
    """An index that a node takes, and its axis does not have."""
    return TrainingError(f"{_place(step, rate)}, {error}")


def statistics(step: int, rate: float | None, error: Exception) -> TrainingError:
    """Running statistics that would become NaN or infinite."""
    unchanged = "Weights, optimizer state and running statistics are as before this step."
    return TrainingError(f"{_place(step, rate)}, {error} {unchanged}")


def _place(step: int, rate: float | None) -> str:
    return f"step {step}" + (f" (learning rate {rate:g})" if rate is not None else "")
