"""Make tests/data/torch_losses.json: the losses of 20 training steps of a small network in PyTorch.

    python tools/make_torch_losses.py

Needs PyTorch. Initial weights and data come from NumPy's Philox generator, which is the same on every machine, so the
test can train cconv on the same values. The losses are computed in float32, as cconv does, and in float64. Their
difference shows how large a difference rounding alone can cause.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "tests/data/torch_losses.json"
sys.path.insert(0, str(ROOT / "tests"))


def losses(dtype: str) -> list[float]:
    """The losses of the training run in tests/torch_parity/run.py, computed by PyTorch in `dtype`."""
    import torch
    from torch import nn

    from torch_parity import run

    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1, stride=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 5),
    ).to(getattr(torch, dtype))
    state = {name: torch.from_numpy(array) for name, array in run.weights().items()}
    network.load_state_dict(state, strict=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=run.LEARNING_RATE, momentum=run.MOMENTUM)
    result = []
    for x, y in run.batches():
        logits = network(torch.from_numpy(x).to(getattr(torch, dtype)))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        result.append(loss.item())
    return result


if __name__ == "__main__":
    import torch

    content = {
        "made_by": "tools/make_torch_losses.py",
        "torch": torch.__version__,
        "float32": losses("float32"),
        "float64": losses("float64"),
    }
    TARGET.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{TARGET}: loss {content['float32'][0]:.6f} -> {content['float32'][-1]:.6f}")
