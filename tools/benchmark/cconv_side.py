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
        self.trainer: cconv.Trainer | None = None
        if job.mode != "infer":
            frozen = job.mode == "frozen"
            self.trainer = cconv.Trainer(
                self.model,
                optimizer=cconv.optim.SGD(LEARNING_RATE, momentum=MOMENTUM),
                trainable=cconv.finetune.head_weights(self.model) if frozen else None,
                batchnorm="frozen" if frozen else "batch",
                threads=job.threads,
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
            self.trainer.optimizer = cconv.optim.SGD(LEARNING_NOTHING, momentum=MOMENTUM)

    @staticmethod
    def version() -> str:
        return cconv.__version__
