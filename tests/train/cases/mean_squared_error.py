import numpy as np

from cconv.losses import MeanSquaredError
from train.cases.case import LossCase

CASES = [
    LossCase(
        MeanSquaredError(),
        shape,
        target=lambda rng, shape: rng.standard_normal(shape),
        reference=lambda x, y: np.mean((x - y) ** 2),
        torch=lambda torch, x, y: torch.nn.functional.mse_loss(x, y),
    )
    for shape in [(1,), (3, 5), (2, 3, 5, 7), (9, 1001)]
]
