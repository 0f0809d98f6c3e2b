from cconv.callbacks import EarlyStopping
from train.cases.case import CallbackCase


def check(folder, history, callback):
    losses = history["val_loss"]
    assert callback.best["val_loss"] == min(losses)
    assert len(losses) == 6 or losses.index(min(losses)) == len(losses) - 3


CASES = [CallbackCase(lambda folder: EarlyStopping(patience=2), check)]
