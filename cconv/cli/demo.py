"""`cconv demo`: pretrain, fine-tune, export and check a small network on digits; see cconv/demo.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from cconv.cli import options as shared
from cconv.cli.status import FAILED, OK

SUMMARY = "pretrain, fine-tune, export and check a small network on digits"
EXAMPLE = "cconv demo --seed 3 --out DIR"


def add_options(parser: argparse.ArgumentParser) -> None:
    folder = Path("cconv-demo")
    parser.add_argument("--out", type=Path, default=folder, metavar="DIR", help=f"for the models ({folder})")
    shared.add_seed(parser)
    shared.add_threads(parser)
    parser.add_argument("--epochs", type=shared.number(1), metavar="N", help="of the pretraining")
    shared.add_progress(parser)


def run(options: argparse.Namespace) -> int:
    import cconv
    from cconv.demo import demo

    if options.threads is not None:
        cconv.set_num_threads(options.threads)
    result = demo(options.out, seed=options.seed, epochs=options.epochs, progress=options.progress)
    print(result)
    return OK if result.ok else FAILED
