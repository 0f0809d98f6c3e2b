"""PyTorch's side: the networks as modules, and their steps. Does not load cconv."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmark.sides import LEARNING_NOTHING, LEARNING_RATE, MOMENTUM, Job, described, sample


class Residual(nn.Module):
    """body(x) + shortcut(x), added in place as torchvision does."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        y += x if self.shortcut is None else self.shortcut(x)
        return y


def torch_module(description: list) -> nn.Module:
    """The layers that networks.describe tells of, as torchvision writes them: activations in place.

    cconv's layers and their arguments have PyTorch's names, so most of this is a look-up.
    """
    kind, arguments, inner = description
    modules = [torch_module(layer) for layer in inner]
    if kind == "Residual":
        return Residual(*modules)
    if kind == "GlobalAvgPool":
        return nn.AdaptiveAvgPool2d(1)
    if kind in ("ReLU", "ReLU6"):
        return getattr(nn, kind)(inplace=True)
    return getattr(nn, kind)(*modules, **arguments)


def load(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy weights and running statistics, one array at a time.

    Raises:
        ValueError: the names are not those of the module.
    """
    ours = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    if set(ours) != set(arrays):
        raise ValueError(f"weights of other names: {sorted(set(ours) ^ set(arrays))}")
    with torch.no_grad():
        for key, tensor in ours.items():
            tensor.copy_(torch.from_numpy(arrays[key]))


class Steps:
    """One network in PyTorch; see worker.Steps."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        folder = Path(job.folder)
        module = torch_module(described(folder))
        with np.load(folder / "weights.npz") as arrays:
            load(module, arrays)
        with np.load(folder / "data.npz") as data:
            x, self.y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
        layout = torch.contiguous_format if job.side.layout == "NCHW" else torch.channels_last
        self.x = x.contiguous(memory_format=layout)
        self.module = module.to(memory_format=layout)
        self.run: Any = torch.compile(module) if job.side.layout == "compile" else module
        self.step = {"train": self.train, "infer": self.infer, "frozen": self.frozen}[job.mode]
        trained = module[-1] if job.mode == "frozen" else module
        self.trained = {id(p): key for key, p in module.named_parameters() if any(p is q for q in trained.parameters())}
        module.train(job.mode == "train")
        self.optimizer = torch.optim.SGD(trained.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def infer(self) -> np.ndarray:
        with torch.no_grad():
            return self.run(self.x).numpy()

    def train(self) -> float:
        return self.learn(self.run(self.x))

    def frozen(self) -> float:
        with torch.no_grad():
            features = self.module[:-1](self.x)
        return self.learn(self.module[-1](features))

    def learn(self, logits: torch.Tensor) -> float:
        loss = nn.functional.cross_entropy(logits, self.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def gradients(self) -> dict[str, np.ndarray]:
        state = {self.trained[id(p)]: s["momentum_buffer"] for p, s in self.optimizer.state.items()}
        return {key: sample(buffer.numpy()) for key, buffer in state.items()}

    def stay(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_NOTHING

    @staticmethod
    def version() -> str:
        return torch.__version__
