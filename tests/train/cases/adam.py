import numpy as np

from cconv.optim import Adam, AdamW
from train.cases.case import OptimizerCase


def reference(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    def update(w, g, state, t):
        w = w * (1 - 0.1 * weight_decay) if decoupled else w
        g = g if decoupled else g + weight_decay * w
        m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
        v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g**2
        return w - 0.1 / (1 - betas[0] ** t) * m / (np.sqrt(v / (1 - betas[1] ** t)) + eps)

    return update


OPTIONS = {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.05}
CASES = [
    OptimizerCase(Adam(0.1), reference(), ("Adam", {"lr": 0.1})),
    OptimizerCase(Adam(0.1, **OPTIONS), reference(**OPTIONS), ("Adam", {"lr": 0.1, **OPTIONS})),
    OptimizerCase(AdamW(0.1), reference(weight_decay=0.01, decoupled=True), ("AdamW", {"lr": 0.1})),
    OptimizerCase(AdamW(0.1, **OPTIONS), reference(**OPTIONS, decoupled=True), ("AdamW", {"lr": 0.1, **OPTIONS})),
]
