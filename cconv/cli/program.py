"""The command's parser and what every command shares: exit statuses, streams, errors in one line.

Exit status: 0 all well, 1 a check that failed, 2 a wrong call or an error of cconv (one line on stderr), 130
interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from cconv import __version__
from cconv.cli.status import ERROR, INTERRUPTED, PIPE_CLOSED
from cconv.errors import CconvError

COMMANDS = ("demo", "check", "certify", "info", "doctor", "repair", "versions")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's); returns the exit status."""
    _prepare_streams()
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as `head`, has gone: there is nobody to tell
        _discard_stdout()
        return PIPE_CLOSED
    except (CconvError, OSError) as error:
        print(f"cconv: {error}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print("cconv: interrupted", file=sys.stderr)
        return INTERRUPTED


def _prepare_streams() -> None:
    """Escape characters that the terminal's encoding lacks; discard output where a process has no streams (pythonw,
    some services)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open as long as the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _discard_stdout() -> None:
    """Let the interpreter flush what is left of the output into nothing when it exits."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cconv", description="Train and fine-tune convolutional ONNX networks on a CPU."
    )
    parser.add_argument("--version", action="version", version=f"cconv {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"cconv.cli.{name}")
        text: str = module.SUMMARY
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {module.EXAMPLE}" + (f"\n\n{module.NOTE}" if hasattr(module, "NOTE") else ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(command)
        command.set_defaults(run=module.run)
    return parser
