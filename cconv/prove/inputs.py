"""Inputs to check a model on when none are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cconv.errors import DTypeError, ValueRangeError, explain
from cconv.graph.shapes import input_shapes_at
from cconv.model import Model


def random_inputs(
    model: Model, batch: int = 2, seed: int = 0, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, np.ndarray]:
    """Standard normal numbers in the shapes that the model declares; an open first axis has `batch` examples.

    Args:
        input_shapes: by input name, for inputs that leave more open than their first axis.

    Raises:
        ShapeError: an input leaves open more than its first axis.
        DTypeError: an input that is not floating-point, whose meaning nobody can guess.
        ValueRangeError: a batch of less than one example.
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
                    "random numbers stand for floating-point values only",
                    str(spec.dtype),
                    "Give inputs.",
                )
            )
        inputs[name] = rng.standard_normal(spec.shape).astype(spec.dtype)
    return inputs


def at_batch(model: Model, inputs: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The first `size` examples of each input that leaves its first axis open; from the first again if there are fewer.

    Raises:
        ValueRangeError: less than one example; a model whose inputs all have a fixed first axis.
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
