"""The record of scalars that change between runs of a plan, such as the seed. Steps access it by a pointer."""

import numpy as np

# Must have the same fields, in the same order, as `struct Control` in control.pxd.
CONTROL = np.dtype(
    [
        ("gradient_scale", np.float64),
        ("loss", np.float64),
        ("step", np.int64),
        ("seed", np.uint64),
    ]
)
