"""The loss of each output, from what a Trainer is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cconv.arguments import closest
from cconv.errors import TrainingError, ValueRangeError, explain
from cconv.train import registry
from cconv.train.losses.loss import METHODS, Loss


def loss_of(wish: str | Loss) -> Loss:
    """The loss of that name, or the object itself.

    Raises:
        ValueRangeError: no such loss.
    """
    if isinstance(wish, str):
        found: Loss = registry.made("loss", wish)
        return found
    if missing := [name for name in METHODS if not callable(getattr(wish, name, None))]:
        raise ValueRangeError(
            explain("loss", "is a name or an object like CrossEntropy()", f"{wish!r} without {missing[0]}")
        )
    return wish


def losses_by_output(outputs: Sequence[str], loss: str | Loss | Mapping[str, str | Loss]) -> dict[str, Loss]:
    """The loss of each output that has one, in the outputs' order.

    Raises:
        TrainingError: one loss for several outputs, or a loss for what is no output.
        ValueRangeError: no such loss.
    """
    if not isinstance(loss, Mapping):
        if len(outputs) != 1:
            names = ", ".join(repr(name) for name in outputs)
            raise TrainingError(
                explain(
                    "loss",
                    "a model of several outputs takes a dict of losses by output name",
                    repr(loss),
                    f"Its outputs: {names}.",
                )
            )
        return {outputs[0]: loss_of(loss)}
    for name in loss:
        if name not in outputs:
            raise TrainingError(
                explain("loss", "is given by the name of an output", repr(name), closest(str(name), outputs))
            )
    if not loss:
        raise TrainingError(explain("loss", "names at least one output", "an empty dict"))
    return {name: loss_of(loss[name]) for name in outputs if name in loss}
