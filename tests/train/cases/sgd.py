from cconv.optim import SGD
from train.cases.case import OptimizerCase


def reference(momentum=0.0, weight_decay=0.0, nesterov=False):
    def update(w, g, state, t):
        g = g + weight_decay * w
        v = state["v"] = momentum * state.get("v", 0) + g
        return w - 0.1 * (g + momentum * v if nesterov else v)

    return update


OPTIONS = [
    {},
    {"weight_decay": 0.05},
    {"momentum": 0.9, "weight_decay": 0.05},
    {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
]
CASES = [
    OptimizerCase(SGD(0.1, **options), reference(**options), ("SGD", {"lr": 0.1, **options})) for options in OPTIONS
]
