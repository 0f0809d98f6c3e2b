"""Tables as text: the one place that aligns columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence


def table(
    rows: Sequence[Sequence[str]], head: Sequence[str] = (), align: str = "", wrap: Sequence[int] = (), indent: int = 0
) -> list[str]:
    """Lines of a table whose columns are as wide as their widest cell.

    Args:
        rows: cells.
        head: titles of the columns, underlined; none if empty.
        align: one letter for each column, "l" or "r"; columns without a letter are aligned to the left.
        wrap: for each column the characters after which a cell continues on the next line; none if empty.
        indent: spaces before each line.
    """
    cells = [[_wrapped(cell, wrap[i] if wrap else 0) for i, cell in enumerate(row)] for row in rows]
    columns = len(head) or max(map(len, cells), default=0)
    widths = [len(head[i]) if head else 0 for i in range(columns)]
    for row in cells:
        widths = [max(width, *map(len, cell)) for width, cell in zip(widths, row)]

    def line(row: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if align[i : i + 1] == "r" else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        return (" " * indent + "  ".join(aligned)).rstrip()

    lines = [line(head), line(["-" * width for width in widths])] if head else []
    for row in cells:
        for i in range(max(map(len, row))):
            lines.append(line([cell[i] if i < len(cell) else "" for cell in row]))
    return lines


def _wrapped(cell: str, width: int) -> list[str]:
    """The lines of a cell, at least one."""
    return (textwrap.wrap(cell, width, break_on_hyphens=False) if width else cell.split("\n")) or [""]
