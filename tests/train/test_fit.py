"""Whole epochs: what is trained on, what is kept, how it ends."""

import sys

import numpy as np
import pytest

from cconv.data import Arrays
from cconv.errors import OutputError, ShapeError, TrainingError, ValueRangeError
from cconv.train.callbacks import Callback, CSVLog, EarlyStopping
from cconv.train.history import History
from cconv.train.losses import CrossEntropy
from cconv.train.optim import SGD, Adam, Cosine
from cconv.train.trainer import Trainer
from networks import convolutional, copies, examples, images, perceptron, same


def test_fit_learns():
    trainer = Trainer(perceptron(), optimizer=Adam(0.02))
    history = trainer.fit(examples(200), epochs=15, validation=examples(100, seed=9), progress=False)
    assert history is trainer.history
    assert trainer.epoch == len(history) == 15
    assert trainer.steps == 15 * 7  # 200 examples: six batches of 32 and one of 8
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["val_accuracy"] > 0.8 > history[0]["val_accuracy"]
    evaluated = trainer.evaluate(examples(100, seed=9))
    assert evaluated == (history[-1]["val_loss"], history[-1]["val_accuracy"])


def test_figures_of_an_epoch():
    """With a learning rate of 0 an epoch sees one network: its figures are those of all examples at once."""
    x, y = examples(37)
    y[::5] = -100
    trainer = Trainer(perceptron(), optimizer=SGD(0.0))
    row = trainer.fit((x, y), 1, validation=(x, y), batch_size=37, shuffle=False, progress=False)[0]
    logits = trainer.model.run(x).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    kept = y != -100
    assert row["loss"] == pytest.approx(-np.mean(log_p[np.arange(37), y % 4][kept]), rel=1e-6)
    assert row["accuracy"] == np.mean(logits.argmax(axis=1)[kept] == y[kept])
    assert (row["val_loss"], row["val_accuracy"]) == (row["loss"], row["accuracy"])
    assert (row["epoch"], row["learning_rate"]) == (1, 0.0)
    # Batches of 16, 16 and 5 count by their examples.
    row = trainer.fit((x, y), 1, batch_size=16, shuffle=False, progress=False)[1]
    parts = [trainer.gradients(x[i : i + 16], y[i : i + 16])[0] for i in (0, 16, 32)]
    assert row["loss"] == pytest.approx(np.average(parts, weights=[16, 16, 5]), rel=1e-12)
    assert "val_loss" not in row


def test_evaluate_uses_running_statistics():
    trainer = Trainer(convolutional())
    x, y = images()
    before = copies(trainer.model.weights)
    found = trainer.evaluate((x, y), batch_size=8)
    assert same(copies(trainer.model.weights), before)
    logits = trainer.model.run(x)
    assert found.accuracy == np.mean(logits.argmax(axis=1) == y)
    assert found.loss != pytest.approx(trainer.gradients(x, y)[0], rel=1e-3)  # batch statistics there
    assert Trainer(perceptron(), loss="mse").evaluate((examples()[0], np.zeros((37, 4)))).accuracy is None


def test_shuffling_depends_on_seed_and_epoch():
    seen = {}

    class Spy(Arrays):
        def batches(self, *args, **options):
            for x, y in super().batches(*args, **options):
                seen.setdefault(options["epoch"], []).append(x)
                yield x, y

    x, y = examples()
    Trainer(perceptron(), seed=3).fit(Spy(x, y), 3, progress=False)
    # Two batches of each epoch; before the first, one is looked at for its shapes.
    orders = [np.concatenate(seen[epoch][-2:]) for epoch in (0, 1, 2)]
    assert not np.array_equal(orders[0], orders[1])
    for order in orders:
        assert np.array_equal(np.sort(order, axis=0), np.sort(x, axis=0))
    # A pair of arrays is shuffled as a dataset of them is, and as itself another time.
    losses = [
        Trainer(perceptron(), seed=seed).fit(data, 2, progress=False)["loss"]
        for data, seed in (((x, y), 3), (Arrays(x, y), 3), ((x, y), 4))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_fit_twice_is_fit_once():
    once, twice = Trainer(convolutional(), seed=5), Trainer(convolutional(), seed=5)
    once.fit(images(), 4, batch_size=6, progress=False)
    twice.fit(images(), 1, batch_size=6, progress=False)
    twice.fit(images(), 3, batch_size=6, progress=False)
    assert once.history["loss"] == twice.history["loss"]
    assert same(copies(once.model.weights), copies(twice.model.weights))


def test_early_stopping_restores_the_best():
    """Validation labels that training can only get further from."""
    x, y = examples(64)
    wrong = (y + 1) % 4
    trainer = Trainer(perceptron(), optimizer=SGD(0.1))
    kept = {}

    class Keep(Callback):
        def on_epoch_end(self, trainer, row):
            kept[row["epoch"]] = copies(trainer.model.weights)

    stopping = EarlyStopping(patience=3)
    history = trainer.fit((x, y), 50, validation=(x, wrong), callbacks=[Keep(), stopping], progress=False)
    best = int(np.argmin(history["val_loss"])) + 1
    assert len(history) == best + 3 < 50
    assert stopping.best["epoch"] == best
    assert same(copies(trainer.model.weights), kept[best])
    last = EarlyStopping(1, restore_best=False)
    trainer.fit((x, y), 50, validation=(x, wrong), callbacks=[Keep(), last], progress=False)
    assert last.best["epoch"] < trainer.epoch
    assert same(copies(trainer.model.weights), kept[trainer.epoch])
    with pytest.raises(ValueRangeError, match="patience"):
        EarlyStopping(0)


def test_ctrl_c_leaves_the_trainer_usable(capsys, monkeypatch):
    class Interrupting(Arrays):
        def batches(self, *args, **options):
            for i, batch in enumerate(super().batches(*args, **options)):
                if (options["epoch"], i) == (2, 1):
                    raise KeyboardInterrupt
                yield batch

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    x, y = examples(100)
    trainer = Trainer(perceptron())
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(Interrupting(x, y), 5)
    assert "epoch 3/5" in capsys.readouterr().err
    from tqdm import tqdm

    assert not tqdm._instances  # the bar is closed
    assert len(trainer.history) == trainer.epoch == 2
    assert trainer.steps == 2 * 4 + 1
    assert len(trainer.fit((x, y), 1, progress=False)) == 3


def test_progress_bar_shows_rate_and_loss(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    Trainer(perceptron()).fit(examples(100), 2, validation=examples(20))
    shown = capsys.readouterr().err
    for word in ("epoch 2/2", "img/s", "loss=", "val_accuracy="):
        assert word in shown
    Trainer(perceptron()).fit(examples(100), 1, progress=False)
    assert capsys.readouterr().err == ""


def test_no_bars_without_a_terminal(capsys, monkeypatch):
    Trainer(perceptron()).fit(examples(100), 1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", None)
    trainer = Trainer(convolutional(), trainable="head.*", batchnorm="frozen")
    assert len(trainer.fit(images(16), 2)) == 2


def test_callbacks_may_use_the_trainer(tmp_path):
    events = []

    class Log(Callback):
        def on_fit_begin(self, trainer):
            events.append("begin")

        def on_epoch_end(self, trainer, row):
            trainer.save(tmp_path / "run.ckpt")
            events.append((row["epoch"], trainer.evaluate(examples()).loss, len(trainer.history)))
            return row["epoch"] == 2

        def on_fit_end(self, trainer):
            events.append("end")

    Trainer(perceptron()).fit(examples(), 9, callbacks=[Log()], progress=False)
    assert [events[0], events[-1], len(events)] == ["begin", "end", 4]
    assert [event[::2] for event in events[1:-1]] == [(1, 1), (2, 2)]
    assert Trainer.resume(tmp_path / "run.ckpt").epoch == 2


def test_bad_data_is_refused_before_the_first_step():
    trainer = Trainer(perceptron())
    before = copies(trainer.model.weights)
    x, y = examples(100)
    late = y.copy()
    late[90] = 7
    for data in ((x, late), Arrays(x, late)):
        with pytest.raises(ValueRangeError, match=r"7 at \[90\]"):
            trainer.fit(data, 1, progress=False)
        with pytest.raises(ValueRangeError, match=r"7 at \[90\]"):
            trainer.fit((x, y), 1, validation=data, progress=False)
    with pytest.raises(ShapeError, match=r"100 in x.*99 in y"):
        trainer.fit((x, y[:-1]), 1)
    with pytest.raises(ShapeError, match="at least one example"):
        trainer.fit((x[:0], y[:0]), 1)
    with pytest.raises(TrainingError, match=r"pair \(x, y\).*ndarray"):
        trainer.fit(x, 1)
    for options in ({"epochs": 0}, {"epochs": 1, "batch_size": 0}, {"epochs": 1.5}):
        with pytest.raises(ValueRangeError, match=r"epochs|batch_size"):
            trainer.fit((x, y), **options)
    assert trainer.steps == 0
    assert same(copies(trainer.model.weights), before)


def test_a_dataset_without_batches_is_named():
    class Empty:
        def __len__(self):
            return 3

        def batches(self, batch_size, shuffle, seed, epoch):
            return iter(())

    with pytest.raises(TrainingError, match="at least one batch"):
        Trainer(perceptron()).fit(Empty(), 1, progress=False)


def test_nan_in_the_middle_of_fit_names_the_step():
    x, y = examples(100)
    x[70] = np.nan
    trainer = Trainer(perceptron(), loss=CrossEntropy(label_smoothing=0.1))
    with pytest.raises(TrainingError, match="step 3 "):
        trainer.fit((x, y), 1, shuffle=False, progress=False)
    assert trainer.steps == 2
    assert all(np.isfinite(array).all() for array in trainer.model.weights.values())


def test_a_second_fit_says_that_the_rate_of_a_cosine_rises(capsys):
    trainer = Trainer(perceptron(), optimizer=SGD(Cosine(0.1)))
    trainer.fit(examples(), 2)
    assert "learning rate" not in capsys.readouterr().err
    trainer.fit(examples(), 2)
    assert "learning rate starts at 0.05; the last update before had" in capsys.readouterr().err
    fixed = Trainer(perceptron(), optimizer=SGD(Cosine(0.1, steps=8)))
    fixed.fit(examples(), 2)
    fixed.fit(examples(), 2)
    assert "learning rate" not in capsys.readouterr().err


def test_a_csv_file_that_cannot_be_written_is_found_before_the_first_step(tmp_path):
    trainer = Trainer(perceptron())
    with pytest.raises(OutputError, match="its folder must exist"):
        trainer.fit(examples(), 1, callbacks=[CSVLog(tmp_path / "absent" / "run.csv")], progress=False)
    assert trainer.steps == 0


def test_history_as_a_table():
    history = History()
    assert str(history).splitlines()[0].split() == [
        "epoch", "loss", "accuracy", "val", "loss", "val", "accuracy", "seconds", "learning", "rate",
    ]  # fmt: skip
    history.append({"epoch": 1, "loss": 0.51234, "accuracy": 0.75, "seconds": 1.234, "learning_rate": 0.01})
    history.append({"epoch": 2, "loss": 0.25, "accuracy": 0.875, "seconds": 1.0, "learning_rate": 0.001})
    lines = str(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "seconds", "learning", "rate"]
    assert lines[2].split() == ["1", "0.5123", "75.00", "%", "1.23", "0.01"]
    assert len({len(line) for line in lines}) == 1
    assert history["loss"] == [0.51234, 0.25]
    assert history[-1]["epoch"] == 2
    assert [row["epoch"] for row in history] == [1, 2]
