"""The history as a CSV file."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import ClassVar

from cconv.files import atomic_write, check_target
from cconv.train.callbacks.callback import Callback, Training
from cconv.train.history import Row


class CSVLog(Callback):
    """Writes the trainer's history to a CSV file after every epoch: a line of column names, then a line for each epoch.

    The file is replaced as a whole, so a reader never sees half a line. It holds all epochs of the trainer, also those
    of earlier calls of `fit` and those before a resumed checkpoint. A number that an epoch lacks is an empty field.

    Args:
        path: the file; an earlier one is replaced.

    Raises:
        OutputError: when `fit` begins or after an epoch, if the file cannot be written. The earlier file is as it was.
    """

    name: ClassVar[str] = "csv"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def on_fit_begin(self, trainer: Training) -> None:
        check_target(Path(os.path.realpath(self.path)))  # before an epoch has been trained for nothing

    def on_epoch_end(self, trainer: Training, row: Row) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, trainer.history.columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(each) for each in trainer.history)
        atomic_write(self.path, text.getvalue().encode())
