"""onnxruntime's side: inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from benchmark.sides import Job


class Steps:
    """One network in onnxruntime with all its optimizations; see worker.Steps."""

    def __init__(self, job: Job) -> None:
        folder = Path(job.folder)
        with np.load(folder / "data.npz") as data:
            self.x = data["x"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        path = str(folder / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [value.name for value in self.session.get_inputs()]

    def step(self) -> np.ndarray:
        return self.session.run(None, {self.names[0]: self.x})[0]

    def gradients(self) -> dict[str, np.ndarray]:
        raise NotImplementedError("onnxruntime is not asked to train")

    def stay(self) -> None:
        """There is nothing to learn."""

    @staticmethod
    def version() -> str:
        return onnxruntime.__version__
