"""The demo: pretrain, fine-tune to classes never seen, export, and prove the files against ONNX Runtime.

A network is pretrained on the digits 0-4 and written to base.onnx. That file is loaded again, gets a new last
layer, and learns the digits 5-9 from three labelled images of each, all other layers frozen; the result is
tuned.onnx. Beside it the same network learns the same fifteen images from scratch. Test images come from the
part of the data set that nothing is trained on, whose writers are others (see cconv.data.digits).

Pretraining shows each image in eight views, turned by quarters and mirrored, and asks for digit and view: 40
classes. Features that tell no more than five upright digits apart serve five others badly. Means over the
seeds 0 to 5, for digits 5-9 from three images of each: from scratch 85 %, fine-tuned 90 %; fine-tuned after
pretraining on the upright images alone, 80 %.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cconv import finetune, nn
from cconv.data import Arrays, digits
from cconv.errors import OutputError, explain
from cconv.model import Model, load
from cconv.prove import Report, check
from cconv.text import table
from cconv.train import optim
from cconv.train.callbacks import Callback
from cconv.train.history import Row
from cconv.train.progress import bar
from cconv.train.schedules import Cosine
from cconv.train.trainer import Trainer

KNOWN, NEW = range(5), range(5, 10)
VIEWS = 8
EPOCHS = 10
PER_CLASS = 3
FEW_EPOCHS = 100
OPTIMIZER = optim.SGD(lr=Cosine(0.05), momentum=0.9)


@dataclass(frozen=True)
class Training:
    """One line of the first table: what was trained, on how many images, and how well it reads others."""

    what: str
    images: int
    accuracy: float
    test_images: int
    seconds: float


@dataclass(frozen=True)
class File:
    """One line of the second table: a file, and its comparison with ONNX Runtime."""

    name: str
    nbytes: int
    report: Report


@dataclass(frozen=True)
class Result:
    """What the demo found; `str` of it is the table that it prints."""

    folder: Path
    seed: int
    trainings: tuple[Training, ...]
    files: tuple[File, ...]

    @property
    def ok(self) -> bool:
        """Both files agree with ONNX Runtime."""
        return all(file.report.ok for file in self.files)

    def __str__(self) -> str:
        first = [("", "trained on", "test images read right", "seconds")]
        for t in self.trainings:
            right = f"{100 * t.accuracy:.1f} % of {t.test_images}"
            first.append((t.what, f"{t.images} images", right, f"{t.seconds:.1f}"))
        second = [("file", "size", "largest error", "same class", "against ONNX Runtime")]
        for file in self.files:
            report = file.report
            agreement = f"{100 * (report.class_agreement or 0):.1f} % of {report.samples}"
            verdict = f"{'ok' if report.ok else 'FAILED'} ({report.versions['onnxruntime']})"
            size = f"{file.nbytes / 1000:.0f} kB"
            second.append((file.name, size, f"{report.max_error:.1e}", agreement, verdict))
        parts = [
            f"cconv demo, seed {self.seed}, files in {self.folder}",
            "",
            *table(first[1:], first[0], align="lrrr"),
            "",
            *table(second[1:], second[0], align="lrrrr"),
        ]
        parts += [str(file.report) for file in self.files if not file.report.ok]
        return "\n".join(parts)


def demo(folder: str | os.PathLike[str], seed: int = 0, epochs: int | None = None, progress: bool = True) -> Result:
    """Run the demo; the same seed gives the same results, seconds apart, at any number of threads.

    Args:
        folder: where base.onnx and tuned.onnx go; made if it is not there.
        seed: decides the initial weights, the order of the images and which few are labelled.
        epochs: of the pretraining.
        progress: show bars on stderr.

    Raises:
        OutputError: the folder cannot be made or written to; found out before anything is trained.
    """
    folder = _writable(Path(folder))
    known, known_test = digits(KNOWN), digits(KNOWN, "test")
    few, new_test = digits(NEW).subset(PER_CLASS, seed=seed), digits(NEW, "test")

    def run(what: str, trainer: Trainer, data: Arrays, epochs: int, count: int, test: Arrays) -> Training:
        seconds = _train(trainer, data, epochs, what, progress)
        return Training(what, count, accuracy(trainer.model, test), len(test), seconds)

    base = network(VIEWS * len(KNOWN)).build((1, 8, 8), seed=seed)
    trainer = Trainer(base, optimizer=OPTIMIZER, seed=seed)
    shown = views(known, seed)
    pretrained = run("pretrained on digits 0-4", trainer, shown, epochs or EPOCHS, len(known), known_test)
    base.save(folder / "base.onnx")

    tuned = finetune.replace_head(load(folder / "base.onnx"), classes=[str(d) for d in NEW], seed=seed)
    head = finetune.head_weights(tuned)
    trainer = Trainer(tuned, optimizer=OPTIMIZER, trainable=head, batchnorm="frozen", seed=seed)
    fine_tuned = run("fine-tuned to digits 5-9", trainer, few, FEW_EPOCHS, len(few), new_test)
    tuned.save(folder / "tuned.onnx")

    fresh = network(len(NEW)).build((1, 8, 8), seed=seed)
    trainer = Trainer(fresh, optimizer=OPTIMIZER, seed=seed)
    scratch = run("digits 5-9 from scratch", trainer, few, FEW_EPOCHS, len(few), new_test)

    images = digits(split="test").x
    files = tuple(
        File(path.name, path.stat().st_size, check(path, images))
        for path in (folder / "base.onnx", folder / "tuned.onnx")
    )
    return Result(folder, seed, (pretrained, fine_tuned, scratch), files)


def network(classes: int) -> nn.Sequential:
    """Three convolutions on 8x8 images, 0.11 million weights."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(512, classes),
    )


def views(data: Arrays, seed: int) -> Arrays:
    """Each image turned by 0 to 3 quarters, plain and mirrored, and moved by up to a pixel.

    The label of view v of digit d is v * 5 + d.
    """
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for view in range(VIEWS):
        turned = np.rot90(data.x, view % 4, axes=(2, 3))
        images.append(_moved(turned if view < 4 else turned[..., ::-1], rng))
        labels.append(data.y + view * len(KNOWN))
    return Arrays(np.concatenate(images), np.concatenate(labels))


def accuracy(model: Model, test: Arrays) -> float:
    """Share of the images (upright) whose digit is named right; a class says the view as well."""
    return float(np.mean(model.run(test.x).argmax(axis=1) % 5 == test.y))


def _moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 1, 8, 8) images, each moved by -1, 0 or 1 pixel along both axes; what comes in is paper."""
    count, _, height, width = images.shape
    padded = np.pad(images[:, 0], [(0, 0), (1, 1), (1, 1)])
    rows = rng.integers(0, 3, (count, 1)) + np.arange(height)
    columns = rng.integers(0, 3, (count, 1)) + np.arange(width)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]][:, np.newaxis]


class _Bar(Callback):
    """One bar over all epochs."""

    def __init__(self, title: str, epochs: int, shown: bool) -> None:
        self.bar = bar(epochs, title, " epochs", shown)

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        self.bar.set_postfix(loss=f"{row['loss']:.4f}", refresh=False)
        self.bar.update()


def _train(trainer: Trainer, data: Arrays, epochs: int, title: str, progress: bool) -> float:
    """Train; returns the seconds it took."""
    begin = time.perf_counter()
    shown = _Bar(title, epochs, progress)
    with shown.bar:
        trainer.fit(data, epochs=epochs, callbacks=[shown], progress=False)
    return time.perf_counter() - begin


def _writable(folder: Path) -> Path:
    """The folder, made if need be, and proved to take files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            explain(
                f"folder '{folder}'",
                "files can be written into it",
                error.strerror or str(error),
                "Choose another with --out.",
            )
        ) from error
    return folder
