"""The command `cconv`: one file a command.

    program.py    the parser, exit statuses, streams
       |
    check.py certify.py demo.py doctor.py info.py repair.py versions.py
       |          each: SUMMARY, EXAMPLE, add_options(parser), run(options) -> exit status
    options.py    options that several commands share

A command is added by a file here, its name in program.COMMANDS, and cases in tests/cli.
"""

from cconv.cli.program import main

__all__ = ["main"]
