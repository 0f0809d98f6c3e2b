import csv

from cconv.callbacks import CSVLog
from train.cases.case import CallbackCase


def check(folder, history, callback):
    with open(folder / "run.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == list(history)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} < set(rows[0])


CASES = [CallbackCase(lambda folder: CSVLog(folder / "run.csv"), check)]
