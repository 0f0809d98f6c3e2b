"""`cconv certify`: compare a model's gradients with differences of its loss."""

from __future__ import annotations

import argparse
from pathlib import Path

from cconv.cli import options as shared
from cconv.cli.status import FAILED, OK

SUMMARY = "compare a model's gradients with differences of its loss"
EXAMPLE = "cconv certify model.onnx --loss mse"


def add_options(parser: argparse.ArgumentParser) -> None:
    shared.add_model(parser)
    shared.add_inputs(parser)
    parser.add_argument("--targets", type=Path, metavar="FILE", help="likewise, of the loss (random numbers)")
    parser.add_argument("--loss", choices=["cross_entropy", "mse"], default="cross_entropy", help="(cross_entropy)")
    parser.add_argument("--output", metavar="NAME", help="the output that the loss is of (the first)")
    parser.add_argument(
        "--batchnorm", choices=["batch", "frozen", "statistics"], default="batch", help="as in training (batch)"
    )
    parser.add_argument("--samples", type=shared.number(1), default=3, metavar="N", help="elements of each weight (3)")
    shared.add_tolerance(parser, 1e-3, "of float32, relative")
    shared.add_batch(parser, 4)
    shared.add_shape(parser)
    shared.add_seed(parser)
    shared.add_progress(parser)


def run(options: argparse.Namespace) -> int:
    import numpy as np

    import cconv
    from cconv.prove import random_inputs

    model = cconv.load(options.model)
    if options.inputs is None:
        x = random_inputs(model, options.batch, options.seed, dict(options.shape))
    else:
        x = shared.read_arrays(options.inputs)
    output = options.output or model.output_names[0]
    if options.targets is not None:
        y = shared.read_arrays(options.targets)
    else:
        results = model.run(x)
        shape = (results[output] if isinstance(results, dict) else results).shape
        rng = np.random.default_rng(options.seed)
        if options.loss == "mse" or len(shape) < 2:
            y = rng.standard_normal(shape).astype(np.float32)
        else:
            y = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    report = cconv.certify(
        model,
        x,
        y if isinstance(y, dict) else {output: y},
        {output: options.loss},
        samples=options.samples,
        batchnorm=options.batchnorm,
        tolerance=options.tolerance,
        seed=options.seed,
        progress=options.progress,
    )
    print(report)
    return OK if report.ok else FAILED
