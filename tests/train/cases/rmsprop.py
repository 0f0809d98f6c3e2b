import numpy as np

from cconv.optim import RMSprop
from train.cases.case import OptimizerCase


def reference(alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    def update(w, g, state, t):
        g = g + weight_decay * w
        v = state["v"] = alpha * state.get("v", 0) + (1 - alpha) * g**2
        m = state["m"] = alpha * state.get("m", 0) + (1 - alpha) * g
        d = g / (np.sqrt(v - m**2 if centered else v) + eps)
        b = state["b"] = momentum * state.get("b", 0) + d
        return w - 0.01 * b

    return update


MORE = {"alpha": 0.9, "eps": 1e-4, "weight_decay": 0.05}
OPTIONS = [
    {},
    MORE,
    {**MORE, "momentum": 0.8},
    {**MORE, "centered": True},
    {**MORE, "momentum": 0.8, "centered": True},
]
CASES = [
    OptimizerCase(RMSprop(0.01, **options), reference(**options), ("RMSprop", {"lr": 0.01, **options}))
    for options in OPTIONS
]
