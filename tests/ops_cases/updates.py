"""Updates of weights; onnxruntime's CPU build has no such operators, so onnx's reference is the judge.

Its arithmetic is float32's, of about ten operations a number.
"""

import numpy as np

from ops_cases.case import Case

DOMAIN = "ai.onnx.preview.training"


def arrays(states, shapes, count):
    """Learning rate, count, weights, gradients, states: squares are not negative."""
    rng = np.random.default_rng(0)
    groups = [[rng.standard_normal(shape).astype(np.float32) for shape in shapes] for _ in range(2)]
    squares = [[rng.uniform(0.5, 2, shape).astype(np.float32) for shape in shapes] for _ in range(states)]
    return [np.array(0.1, np.float32), np.array(count), *(array for group in groups + squares for array in group)]


ATTRIBUTES = {
    "Adagrad": [{}, {"norm_coefficient": 0.01, "epsilon": 1e-3, "decay_factor": 0.1}],
    "Adam": [{}, {"norm_coefficient": 0.01, "norm_coefficient_post": 0.1, "alpha": 0.95, "beta": 0.8, "epsilon": 1e-3}],
    "Momentum": [
        {"norm_coefficient": 0.01, "alpha": 0.95, "beta": beta, "mode": mode}
        for mode in ("standard", "nesterov")
        for beta in (0.2, 1.0)
    ],
}
STATES = {"Adagrad": 1, "Adam": 2, "Momentum": 1}

CASES = [
    Case(
        kind,
        arrays(STATES[kind], shapes, count),
        attributes,
        opset=1,
        outputs=len(shapes) * (1 + STATES[kind]),
        domain=DOMAIN,
        judge="onnx",
        note=f"{i}-{count}",
    )
    for kind, choices in ATTRIBUTES.items()
    for i, attributes in enumerate(choices)
    for shapes in ([(2, 3)], [(3,), (2, 1, 3, 3)])
    for count in (0, 4)
]
