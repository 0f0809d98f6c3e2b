"""Who takes part, and what is asked of them. No engine is loaded here."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# glibc's malloc maps every block of more than 32 MiB anew and unmaps it again, so each step pays page faults for
# its feature maps. Read when a process starts; hence a process for each side.
TUNED = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"}

NAMES = {"cconv": "cconv", "torch": "PyTorch", "onnxruntime": "onnxruntime"}
LAYOUTS = ("NCHW", "channels-last", "compile")

# Of the steps that are compared; and of those that are timed, which shall all compute the same: too small to change
# a weight. (One batch learned a thousand times leaves gradients of 0, and momentum that decays to denormal numbers.)
LEARNING_RATE, LEARNING_NOTHING = 1e-3, 1e-15
MOMENTUM = 0.9

SAMPLED = 50_000  # elements of a gradient that are compared


@dataclass(frozen=True)
class Side:
    """An engine in one of its configurations.

    Attributes:
        engine: "cconv", "torch" or "onnxruntime".
        layout: PyTorch's memory format; "compile" is torch.compile on channels-last. "" for the others.
        tuned: whether memory is kept between steps, see TUNED.
    """

    engine: str
    layout: str = ""
    tuned: bool = False

    def __str__(self) -> str:
        parts = [NAMES[self.engine], self.layout, "tuned" if self.tuned else ""]
        return " ".join(part for part in parts if part)

    @property
    def environment(self) -> dict[str, str]:
        return TUNED if self.tuned else {}


@dataclass(frozen=True)
class Job:
    """What a side has to do, again and again.

    Attributes:
        mode: "train" (forward, cross-entropy, backward, SGD with momentum), "infer", or "frozen" (training of the
            last layer alone, BatchNorm with its running statistics).
        folder: where the network and the data lie, see contest.Folder.
    """

    side: Side
    mode: str
    threads: int
    folder: str

    def to_json(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict) -> Job:
        return cls(**{**fields, "side": Side(**fields["side"])})


def installed(engine: str) -> bool:
    return importlib.util.find_spec(engine) is not None


def opponents(mode: str, peers: list[str]) -> list[Side]:
    """The peers' configurations that a mode is compared with.

    Training: PyTorch in three ways, as installed and tuned. Inference: onnxruntime, and PyTorch tuned; its tensors
    are freed at once there, so page faults are all that "as installed" would add.
    """
    tunings = (False, True) if sys.platform == "linux" else (False,)
    found = []
    if mode == "infer":
        if "onnxruntime" in peers:
            found.append(Side("onnxruntime"))
        if "torch" in peers:
            found += [Side("torch", layout, tunings[-1]) for layout in LAYOUTS[:2]]
    elif "torch" in peers:
        # What PyTorch would compile of a frozen network is its inference.
        layouts = LAYOUTS if mode == "train" else LAYOUTS[:2]
        found += [Side("torch", layout, tuned) for tuned in tunings for layout in layouts]
    return found


def sample(array: np.ndarray) -> np.ndarray:
    """At most SAMPLED elements of an array, evenly spread, copied."""
    return array.reshape(-1)[:: -(-array.size // SAMPLED)].copy()


def described(folder: Path) -> list:
    """The network's layers, see networks.describe."""
    return json.loads((folder / "layers.json").read_text())
