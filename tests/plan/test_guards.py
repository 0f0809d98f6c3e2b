"""No step writes outside of its buffers: guards lie between all of them, and are looked at after every program.

The arena is laid out with no two buffers on the same memory and a guard before and behind each. Bytes that only the
arena's alignment adds to a buffer belong to its guard.
"""

import numpy as np
import pytest
from benchmark import networks

import cconv.plan.lowering
from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan, inference_plan, training_plan
from harness import Projection, model_of, node_model, projection_plan
from ops_cases import CASES
from test_operators import differentiable

GUARD, FILL = 128, 0xA5


class Guards:
    """What lies between the buffers of the plan that was made last."""

    def __init__(self) -> None:
        self.buffers: list[tuple[int, int]] = []

    def place(self, lifetimes) -> tuple[list[int], int]:
        """Takes the place of cconv.plan.arena.place."""
        self.buffers, end = [], GUARD
        for item in lifetimes:
            self.buffers.append((end, end + item.nbytes))
            end += (item.nbytes + 63) // 64 * 64 + GUARD
        return [begin for begin, _ in self.buffers], end

    def fill(self, plan: Plan) -> None:
        for guard in self.between(plan):
            guard[...] = FILL

    def between(self, plan: Plan):
        arena = np.asarray(plan.memory.held[0])
        ends = [0, *(end for _, end in self.buffers)]
        begins = [*(begin for begin, _ in self.buffers), len(arena)]
        return [arena[end:begin] for end, begin in zip(ends, begins)]

    def check(self, plan: Plan) -> None:
        places = self.between(plan)
        assert min(len(guard) for guard in places) >= GUARD
        for i, guard in enumerate(places):
            assert np.all(guard == FILL), f"written behind buffer {i - 1} or before buffer {i}"


@pytest.fixture
def guards(monkeypatch):
    result = Guards()
    monkeypatch.setattr(cconv.plan.lowering, "place", result.place)
    return result


def randomized(arrays, rng) -> None:
    for array in arrays:
        if np.issubdtype(array.dtype, np.floating):
            array[...] = rng.standard_normal(array.shape)


def inference(model, batch: int) -> Plan:
    return inference_plan(
        model.nodes, inputs(model, batch), model.output_names, model.weights, model.constants, threads=2
    )


def training(model, batch: int) -> Plan:
    weights, (output,) = {name: array.copy() for name, array in model.weights.items()}, model.output_names
    trained = [name for name in weights if name.endswith((".weight", ".bias"))]
    return training_plan(
        model.nodes, inputs(model, batch), {output: Projection()}, weights, model.constants, trained,
        batchnorm=lambda name: "batch", threads=2,
    )  # fmt: skip


def inputs(model, batch: int) -> dict[str, Spec]:
    return {name: Spec((batch, *dims[1:]), dtype) for name, (dims, dtype) in model.input_specs.items()}


def test_a_write_outside_is_found(guards):
    plan = inference(networks.build("lenet5"), 2)
    guards.fill(plan)
    guards.check(plan)
    arena = np.asarray(plan.memory.held[0])
    begin, end = guards.buffers[1]
    for place in (begin - 1, end):
        arena[place] = 0
        with pytest.raises(AssertionError, match="written behind buffer"):
            guards.check(plan)
        arena[place] = FILL


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_operators(guards, case):
    model = model_of(node_model(case))
    feeds = {
        f"x{i}": value
        for i, value in enumerate(case.arrays())
        if value is not None and i not in case.constant_inputs
    }
    specs = {name: Spec(value.shape, value.dtype) for name, value in feeds.items()}
    plan = inference_plan(model.nodes, specs, model.output_names, model.weights, model.constants, threads=2)
    for name, value in feeds.items():
        plan.inputs[name][...] = value
    guards.fill(plan)
    assert plan.run() == ("", 0)
    guards.check(plan)
    if differentiable(case):
        plan, _ = projection_plan(model_of(node_model(case, dynamic=False)), differentiable(case), np.float32, 2)
        randomized(plan.targets.values(), np.random.default_rng(0))
        guards.fill(plan)
        assert plan.run(until="update") == ("", 0)
        guards.check(plan)


@pytest.mark.parametrize("plan_of", [inference, training])
@pytest.mark.parametrize("name", ["lenet5", "demo", "resnet18", "mobilenetv2"])
def test_networks(guards, name, plan_of):
    plan = plan_of(networks.build(name, size=min(networks.NETWORKS[name].size, 48)), 3)
    rng = np.random.default_rng(0)
    randomized([*plan.inputs.values(), *plan.targets.values()], rng)
    guards.fill(plan)
    assert plan.run() == ("", 0)
    guards.check(plan)
