"""Twenty training steps equal PyTorch's: once to numbers stored with the script that made them, once live."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from torch_parity import run

ROOT = Path(__file__).parents[2]

# Rounding alone makes PyTorch's float32 and float64 runs lie 2e-7 apart, and cconv's run 3e-7 from either. A
# processor that adds in another order may make it a few times more; a BatchNorm's epsilon of 1e-4 instead of
# 1e-5 makes 1.1e-4.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def stored():
    return json.loads((ROOT / "tests/data/torch_losses.json").read_text())


@pytest.fixture(scope="module")
def ours():
    return run.losses()


def test_losses_equal_the_stored_ones(ours, stored):
    np.testing.assert_allclose(ours, stored["float32"], rtol=TOLERANCE, atol=0)
    np.testing.assert_allclose(ours, stored["float64"], rtol=TOLERANCE, atol=0)


def test_losses_equal_pytorch_run_now(ours):
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("make_torch_losses", ROOT / "tools/make_torch_losses.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    np.testing.assert_allclose(ours, script.losses("float32"), rtol=TOLERANCE, atol=0)


def test_losses_have_the_same_bits_on_more_threads(ours):
    assert run.losses(threads=2) == ours
    assert run.losses(threads=3) == ours


def test_the_run_is_worth_comparing(stored):
    """It learns, and float32 is accurate enough for the tolerance to mean something."""
    assert len(stored["float32"]) == run.STEPS
    assert stored["float32"][-1] < 0.5 * stored["float32"][0]
    np.testing.assert_allclose(stored["float32"], stored["float64"], rtol=1e-6, atol=0)
