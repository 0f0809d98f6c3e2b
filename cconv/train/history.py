"""History: what `fit` found out, one row an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Row:
    """One epoch.

    Attributes:
        epoch: its number, 1 for the trainer's first.
        loss: mean of the batches' losses, each seen before its update, weighted by their examples.
        accuracy: share of right predictions in those batches, 0..1; None where the loss knows no classes.
        val_loss, val_accuracy: of the validation data, after the epoch; None without any.
        seconds: training and validation together.
        learning_rate: of the last update.
    """

    epoch: int
    loss: float
    accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    learning_rate: float


class History:
    """Rows in order; `history["loss"]` is a column, `history[-1]` a row, `str(history)` a table."""

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows = rows or []

    def append(self, row: Row) -> None:
        self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, key: int | str) -> Row | list:
        return [getattr(row, key) for row in self.rows] if isinstance(key, str) else self.rows[key]

    def __str__(self) -> str:
        names = [field.name for field in fields(Row)]
        shown = [n for n in names if not self.rows or any(getattr(row, n) is not None for row in self.rows)]
        table = [[name.replace("_", " ") for name in shown]]
        table += [[_cell(name, getattr(row, name)) for name in shown] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in table]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "epoch":
        return str(value)
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    form = {"seconds": ".2f", "learning_rate": ".3g"}.get(name, ".4f")
    return f"{value:{form}}"
