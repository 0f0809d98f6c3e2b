"""Inputs to check a model on when none are given."""

from __future__ import annotations

import numpy as np

from cconv.errors import DTypeError, ValueRangeError, explain
from cconv.graph.model import Model
from cconv.graph.shapes import input_shapes_at


def random_inputs(model: Model, batch: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Standard normal numbers in the shapes that the model declares; an open first axis has `batch` samples.

    Raises:
        ShapeError: an input leaves open more than its first axis.
        DTypeError: an input that is not floating-point, whose meaning nobody can guess.
        ValueRangeError: a batch of less than one sample.
    """
    if batch < 1:
        raise ValueRangeError(explain("batch", "is at least 1", str(batch)))
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, spec in input_shapes_at(model, batch).items():
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
