import numpy as np

from cconv.losses import MeanAbsoluteError
from train.cases.case import LossCase

CASES = [
    LossCase(
        MeanAbsoluteError(),
        shape,
        target=lambda rng, shape: rng.standard_normal(shape),
        reference=lambda x, y: np.mean(np.abs(x - y)),
        torch=lambda torch, x, y: torch.nn.functional.l1_loss(x, y),
    )
    for shape in [(1,), (3, 5), (2, 3, 5, 7), (9, 1001)]
]
