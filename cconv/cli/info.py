"""`cconv info`: print a model's layers, shapes and sizes."""

from __future__ import annotations

import argparse

from cconv.cli import options as shared
from cconv.cli.status import OK

SUMMARY = "print a model's layers, shapes and sizes"
EXAMPLE = "cconv info model.onnx --shape image=1,3,224,224"


def add_options(parser: argparse.ArgumentParser) -> None:
    shared.add_model(parser)
    shared.add_shape(parser)


def run(options: argparse.Namespace) -> int:
    import cconv

    print(cconv.load(options.model).summary(dict(options.shape)))
    return OK
