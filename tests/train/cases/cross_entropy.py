import numpy as np

from cconv.losses import CrossEntropy
from train.cases.case import LossCase

WEIGHTS = (0.5, 2.0, 1.0, 0.25)


def reference(weights=(1.0,) * 4, smoothing=0.0, ignore_index=-100):
    def loss(x, y):
        rows, targets = np.moveaxis(x, 1, -1).reshape(-1, 4), y.ravel()
        log_p = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        counts = targets != ignore_index
        rows, targets, log_p, w = rows[counts], targets[counts], log_p[counts], np.array(weights)
        hard = w[targets] * log_p[np.arange(len(targets)), targets]
        return -np.sum((1 - smoothing) * hard + smoothing / 4 * (log_p @ w)) / w[targets].sum()

    return loss


def case(loss, shape, **options):
    def target(rng, shape):
        y = rng.integers(0, 4, (shape[0], *shape[2:]))
        if "ignore_index" in options:
            y.ravel()[1::3] = options["ignore_index"]
        return y

    def torch_loss(torch, x, y):
        weights = options.get("weights")
        return torch.nn.functional.cross_entropy(
            x,
            y,
            weight=None if weights is None else torch.tensor(weights, dtype=x.dtype),
            label_smoothing=options.get("smoothing", 0.0),
            ignore_index=options.get("ignore_index", -100),
        )

    return LossCase(loss, shape, target, reference(**options), torch_loss)


CASES = [
    case(CrossEntropy(), (5, 4)),
    case(CrossEntropy(), (3, 4, 7, 5)),
    case(CrossEntropy(WEIGHTS, 0.1), (6, 4), weights=WEIGHTS, smoothing=0.1),
    case(CrossEntropy(label_smoothing=0.2, ignore_index=-1), (2, 4, 9), smoothing=0.2, ignore_index=-1),
]
