"""Random inputs for a check, and batches of a given size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cconv.errors import DTypeError, ValueRangeError, explain
from cconv.graph.shapes import input_shapes_at
from cconv.model import Model


def random_inputs(
    model: Model, batch: int = 2, seed: int = 0, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, np.ndarray]:
    """Draw standard normal numbers for all inputs, in the shapes that the model declares.

    Args:
        batch: number of examples, if the first axis of an input is open.
        seed: seed of the random numbers.
        input_shapes: input name -> shape, for inputs with open sizes beside the first axis.

    Raises:
        ShapeError: an input has open sizes beside the first axis and is not in `input_shapes`.
        DTypeError: an input is not floating-point; meaningful values for it cannot be guessed.
        ValueRangeError: `batch` is less than 1.
    """
    if batch < 1:
        raise ValueRangeError(explain("batch", "is at least 1", str(batch)))
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, spec in input_shapes_at(model, batch, input_shapes).items():
        if not np.issubdtype(spec.dtype, np.floating):
            raise DTypeError(
                explain(
                    f"input {name!r}",
                    "random inputs are drawn for floating-point inputs only",
                    str(spec.dtype),
                    "Give the inputs.",
                )
            )
        inputs[name] = rng.standard_normal(spec.shape).astype(spec.dtype)
    return inputs


def at_batch(model: Model, inputs: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Take the first `size` examples of each input with an open first axis; other inputs are returned unchanged.

    If there are fewer than `size` examples, they are repeated from the first one.

    Raises:
        ValueRangeError: `size` is less than 1, or all inputs have a fixed first axis.
    """
    if size < 1:
        raise ValueRangeError(explain("batches", "are at least 1", str(size)))
    specs = model.input_specs
    moving = [
        name
        for name, value in inputs.items()
        if value.ndim and len(value) and name in specs and _open(specs[name].dims)
    ]
    if not moving:
        raise ValueRangeError(
            explain("batches", "need an input whose first axis has any size", "fixed ones", "Leave batches out.")
        )
    return {
        name: value.take(np.arange(size) % len(value), axis=0) if name in moving else value
        for name, value in inputs.items()
    }


def _open(dims: tuple[int | str | None, ...] | None) -> bool:
    return dims is None or (len(dims) > 0 and not isinstance(dims[0], int))
