import numpy as np

from ops_cases.case import Case


def inputs(shape, seed=0):
    """x, scale, bias, running mean, running variance (positive)."""
    rng = np.random.default_rng(seed)
    channels = shape[1]
    return [
        shape,
        (channels,),
        (channels,),
        rng.standard_normal(channels).astype(np.float32),
        rng.uniform(0.5, 2.0, channels).astype(np.float32),
    ]


SHAPES = [(7, 5), (2, 3, 4, 5), (3, 17, 6), (2, 33, 5, 7), (2, 4, 3, 2, 5), (2, 70, 11, 13)]

CASES = [Case("BatchNormalization", inputs(shape), {"epsilon": 1e-3}, opset=15) for shape in SHAPES]
CASES += [Case("BatchNormalization", inputs((2, 3, 4, 5)), {"momentum": 0.8}, opset=opset) for opset in (7, 9, 14, 20)]
CASES.append(Case("BatchNormalization", inputs((2, 3, 4, 5)), {"spatial": 1}, opset=7, note="spatial"))
# As exported in training mode: batch statistics, and the new running averages as outputs.
CASES += [
    Case(
        "BatchNormalization",
        inputs(shape),
        {"training_mode": 1, "momentum": 0.7},
        opset=opset,
        outputs=3,
        tolerance=1e-5,
        reason="onnxruntime sums the batch in float32",
    )
    for shape in ((5, 4, 3, 2), (2, 17, 6))
    for opset in (14, 15)
]
