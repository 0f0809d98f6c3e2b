"""`cconv versions`: print versions, processor and kernels, for bug reports."""

from __future__ import annotations

import argparse

from cconv.cli.status import OK

SUMMARY = "print versions, processor and kernels, for bug reports"
EXAMPLE = "cconv versions"


def add_options(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    import cconv

    cconv.show_versions()
    return OK
