"""No step writes outside of its buffers: guards lie between all of them, and are looked at after every program.

See tools/guards.py.
"""

import numpy as np
import pytest
from benchmark import networks
from guards import FILL, WIDTH, Guards

import cconv.plan.plan_builder
from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan, inference_plan, training_plan
from harness import Projection, differentiable, feeds_of, model_of, node_model, projection_plan
from ops_cases import CASES


@pytest.fixture
def guards(monkeypatch):
    result = Guards()
    monkeypatch.setattr(cconv.plan.plan_builder, "place", result.place)
    return result


def check(guards: Guards, plan: Plan) -> None:
    assert min(len(guard) for guard in guards.between(plan)) >= WIDTH
    assert guards.written(plan) == []


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
    check(guards, plan)
    arena = np.asarray(plan.memory.held[0])
    begin, end = guards.buffers[1]
    for place in (begin - 1, end):
        arena[place] = 0
        with pytest.raises(AssertionError, match=r"\[[12]\] == \[\]"):
            check(guards, plan)
        arena[place] = FILL


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_operators(guards, case):
    model = model_of(node_model(case))
    feeds = feeds_of(case)
    specs = {name: Spec(value.shape, value.dtype) for name, value in feeds.items()}
    plan = inference_plan(model.nodes, specs, model.output_names, model.weights, model.constants, threads=2)
    for name, value in feeds.items():
        plan.inputs[name][...] = value
    guards.fill(plan)
    plan.run()
    check(guards, plan)
    if differentiable(case):
        plan, _ = projection_plan(model_of(node_model(case, dynamic=False)), differentiable(case), np.float32, 2)
        randomized(plan.targets.values(), np.random.default_rng(0))
        guards.fill(plan)
        plan.run(until="update")
        check(guards, plan)


@pytest.mark.parametrize("plan_of", [inference, training])
@pytest.mark.parametrize("name", ["lenet5", "demo", "resnet18", "mobilenetv2"])
def test_networks(guards, name, plan_of):
    plan = plan_of(networks.build(name, size=min(networks.NETWORKS[name].size, 48)), 3)
    rng = np.random.default_rng(0)
    randomized([*plan.inputs.values(), *plan.targets.values()], rng)
    guards.fill(plan)
    plan.run()
    check(guards, plan)
