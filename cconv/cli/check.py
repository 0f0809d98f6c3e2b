"""`cconv check`: compare a model in cconv with the same file in onnxruntime."""

from __future__ import annotations

import argparse
from typing import Any

from cconv.cli import options as shared
from cconv.cli.status import FAILED, OK

SUMMARY = "compare a model in cconv with the same file in onnxruntime"
EXAMPLE = "cconv check model.onnx --inputs images.npy"


def add_options(parser: argparse.ArgumentParser) -> None:
    shared.add_model(parser)
    shared.add_inputs(parser)
    parser.add_argument("--providers", default="cpu", metavar="LIST", help="all, or names such as cpu,cuda (cpu)")
    shared.add_tolerance(parser, 1e-4, "share of the largest value")
    parser.add_argument(
        "--optimization", default="full", metavar="LIST", help="all, or off,basic,extended,layout,full (full)"
    )
    shared.add_batch(parser, 2)
    shared.add_shape(parser)
    parser.add_argument("--batches", type=shared.numbers, metavar="LIST", help="batch sizes to run, such as 1,4")
    parser.add_argument("--nodes", action="store_true", help="find the first node that differs, and who is wrong")
    shared.add_seed(parser, "random inputs")


def run(options: argparse.Namespace) -> int:
    import cconv
    from cconv.prove import random_inputs

    model = cconv.load(options.model)
    if options.inputs is None:
        size = options.batch if options.batches is None else max(options.batches)
        inputs: Any = random_inputs(model, size, options.seed, dict(options.shape))
    else:
        inputs = shared.read_arrays(options.inputs)
    report = cconv.check(
        options.model,
        inputs,
        providers=shared.all_or_list(options.providers),
        tolerance=options.tolerance,
        optimization=shared.all_or_list(options.optimization),
        batches=options.batches,
        nodes=options.nodes,
    )
    print(report)
    return OK if report.ok else FAILED
