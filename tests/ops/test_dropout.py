"""Dropout in a training plan: what is dropped forward gets no gradient, and the choice is reproducible."""

import numpy as np
import pytest

from harness import model_of, node_model, projection_plan
from ops_cases.case import Case

SHAPE = (4, 17, 9, 11)
RATIO = 0.3
CASE = Case("Dropout", [SHAPE, np.array(RATIO, np.float32)], constant_inputs=(1,), opset=13)


def run(case=CASE, threads=1, seed=0, step=0):
    """(x, y, dy, dx) of one run, float32; dy holds no zeros."""
    plan, weights = projection_plan(model_of(node_model(case, dynamic=False)), ["x0"], np.float32, threads)
    plan.control["seed"], plan.control["step"] = seed, step
    ((_, target),) = plan.targets.items()
    target[...] = np.random.default_rng(5).uniform(1, 2, target.shape)
    dy = target.copy()
    plan.run(until="update")
    return weights["x0"], plan.outputs["y0"].copy(), dy, plan.gradients["x0"].copy()


def test_the_gradient_uses_the_choice_of_the_forward_pass():
    x, y, dy, dx = run()
    kept = y != 0
    scale = np.float32(1 / (1 - np.float32(RATIO)))
    assert np.array_equal(y, np.where(kept, x * scale, 0))
    assert np.array_equal(dx, np.where(kept, dy * scale, 0))


def test_the_share_of_dropped_elements_is_binomial():
    _, y, _, _ = run()
    deviation = np.sqrt(y.size * RATIO * (1 - RATIO))
    assert abs(np.sum(y == 0) - RATIO * y.size) <= 5 * deviation


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"seed": 2**40}])
def test_the_choice_changes_with_seed_and_step(change):
    _, y, _, _ = run()
    _, other, _, _ = run(**change)
    agreeing = RATIO**2 + (1 - RATIO) ** 2
    deviation = np.sqrt(y.size * agreeing * (1 - agreeing))
    assert abs(np.sum((y == 0) == (other == 0)) - agreeing * y.size) <= 5 * deviation


@pytest.mark.parametrize("threads", [2, 3])
def test_same_bits_at_any_number_of_threads(threads):
    for one, other in zip(run(), run(threads=threads)):
        assert np.array_equal(one, other)


def test_training_mode_false_still_drops():
    off = np.array(False)
    case = Case("Dropout", [SHAPE, np.array(RATIO, np.float32), off], constant_inputs=(1, 2), opset=13)
    assert np.array_equal(run(case)[1] == 0, run()[1] == 0)


def test_old_opsets_take_the_ratio_as_an_attribute():
    case = Case("Dropout", [SHAPE], {"ratio": RATIO}, opset=7)
    assert np.array_equal(run(case)[1] == 0, run()[1] == 0)
