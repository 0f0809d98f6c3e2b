"""`cconv doctor`: say what can be trained, what stands in the way, what to do."""

from __future__ import annotations

import argparse

from cconv.cli import options as shared
from cconv.cli.status import FAILED, OK

SUMMARY = "say what can be trained, what stands in the way, what to do"
EXAMPLE = "cconv doctor model.onnx --batch 16"


def add_options(parser: argparse.ArgumentParser) -> None:
    shared.add_model(parser)
    shared.add_batch(parser, 32, "a training step")
    shared.add_shape(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    import json

    import cconv

    diagnosis = cconv.doctor(options.model, batch=options.batch, input_shapes=dict(options.shape))
    print(json.dumps(diagnosis.as_dict(), indent=2) if options.json else diagnosis)
    return OK if diagnosis.trainable else FAILED
