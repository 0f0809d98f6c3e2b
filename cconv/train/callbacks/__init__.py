"""Callbacks: what `fit` calls at its begin and end, and at those of epochs, steps and evaluations. One file each.

callback.py     what a callback is
"""

from cconv.train.callbacks.callback import Callback, Row, Training, check_callbacks
from cconv.train.callbacks.csv_log import CSVLog
from cconv.train.callbacks.early_stopping import EarlyStopping

__all__ = ["CSVLog", "Callback", "EarlyStopping", "Row", "Training", "check_callbacks"]
