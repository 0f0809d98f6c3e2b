"""cconv's side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cconv
from benchmark.sides import LEARNING_NOTHING, LEARNING_RATE, MOMENTUM, Job, sample


class Steps:
    """One network in cconv; see worker.Steps. The file it trains is the one that onnxruntime runs."""

    def __init__(self, job: Job) -> None:
        folder = Path(job.folder)
        with np.load(folder / "data.npz") as data:
            self.x, self.y = data["x"], data["y"]
        self.model = cconv.load(folder / "model.onnx")
        self.threads = job.threads
        self.step = self.infer if job.mode == "infer" else self.train
        self._frozen = job.mode == "frozen"
        self.trainer = None if job.mode == "infer" else self._trainer(LEARNING_RATE)

    def _trainer(self, rate: float) -> cconv.Trainer:
        return cconv.Trainer(
            self.model,
            optimizer=cconv.optim.SGD(rate, momentum=MOMENTUM),
            trainable=cconv.finetune.head_weights(self.model) if self._frozen else None,
            batchnorm="frozen" if self._frozen else "batch",
            threads=self.threads,
        )

    def infer(self) -> np.ndarray:
        return self.model.run(self.x, threads=self.threads)

    def train(self) -> float:
        assert self.trainer
        return self.trainer.step(self.x, self.y)

    def gradients(self) -> dict[str, np.ndarray]:
        assert self.trainer
        return {key: sample(array) for key, array in self.trainer.state.slots["momentum"].items()}

    def stay(self) -> None:
        if self.trainer:
            self.trainer = self._trainer(LEARNING_NOTHING)

    @staticmethod
    def version() -> str:
        return cconv.__version__
