"""History: what `fit` has found, one row an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from cconv.text import table

Row = Mapping[str, float]
"""One epoch, numbers by name:

    epoch           its number, 1 for the trainer's first
    loss            mean of the batches' losses, each before its update, weighted by their examples
    a metric        over the same outputs, such as accuracy
    val_...         loss and metrics of the validation data, after the epoch, if there are any
    seconds         training and validation together
    learning_rate   of the last update

A number that is not defined, such as an accuracy of which no example counts, is left out.
"""

# Columns of a table without rows.
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "learning_rate")


class History:
    """Rows in order; `history["loss"]` is a column, `history[-1]` a row, `str(history)` a table."""

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows = rows or []

    def append(self, row: Row) -> None:
        self.rows.append(row)

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order of the rows that have most of them."""
        names: dict[str, None] = {}
        for row in sorted(self.rows, key=len, reverse=True):
            names.update(dict.fromkeys(row))
        return list(names)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        """A row by its place, or a column by its name; None where a row does not have it."""
        return [row.get(key) for row in self.rows] if isinstance(key, str) else self.rows[key]

    def __str__(self) -> str:
        names = self.columns or list(COLUMNS)
        rows = [[cell(name, row.get(name)) for name in names] for row in self.rows]
        return "\n".join(table(rows, [name.replace("_", " ") for name in names], align="r" * len(names)))

    def _repr_html_(self) -> str:
        """The same table for a notebook."""
        names = self.columns or list(COLUMNS)
        head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
        cells = ("".join(f"<td>{escape(cell(name, row.get(name)))}</td>" for name in names) for row in self.rows)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"

    def __repr__(self) -> str:
        if not self.rows:
            return "History(no epochs)"
        last = ", ".join(f"{name} {cell(name, value)}" for name, value in self.rows[-1].items() if name != "epoch")
        return f"History({len(self)} epochs; last: {last})"


def cell(name: str, value: float | None) -> str:
    """A number of a row as text."""
    if value is None:
        return ""
    if name == "epoch":
        return str(int(value))
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    form = {"seconds": ".2f", "learning_rate": ".3g"}.get(name, ".4f")
    return f"{value:{form}}"
