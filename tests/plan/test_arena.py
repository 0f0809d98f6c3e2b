"""Memory shared by buffers that are not alive together."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cconv.kernels import FLOAT32
from cconv.ops.tensor import Layout, Spec
from cconv.plan.arena import Lifetime, place
from cconv.plan.plan import inference_plan
from cconv.plan.plan_builder import PlanBuilder
from harness import model_of


@st.composite
def lifetimes(draw):
    first = draw(st.integers(0, 20))
    return Lifetime(draw(st.integers(0, 5000)), first, first + draw(st.integers(0, 10)))


@given(st.lists(lifetimes(), max_size=30))
def test_what_is_alive_together_does_not_overlap(items):
    offsets, total = place(items)
    assert len(offsets) == len(items)
    for i, (a, at) in enumerate(zip(items, offsets)):
        assert at % 64 == 0 and at + a.nbytes <= total
        for b, bt in list(zip(items, offsets))[:i]:
            if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
                assert at + a.nbytes <= bt or bt + b.nbytes <= at


def test_a_chain_needs_two_buffers():
    items = [Lifetime(6400, i, i + 1) for i in range(50)]
    assert place(items)[1] == 2 * 6400


def chain(depth: int):
    """relu(relu(...)): every step may write over its input."""
    names = [f"v{i}" for i in range(depth + 1)]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 8, 8]) for name in (names[0], names[-1])]
    return model_of(helper.make_model(helper.make_graph(nodes, "chain", info[:1], info[1:])))


def test_steps_in_place_take_no_memory():
    model = chain(10)
    spec = Spec((4, 3, 8, 8), np.dtype(np.float32))
    plan = inference_plan(model.nodes, {"v0": spec}, ["v10"], {}, {}, threads=1)
    size = 4 * 3 * 8 * 8 * 4
    assert plan.memory.arena_bytes <= 3 * size  # the input, one buffer for the chain, the output
    x = np.random.default_rng(0).standard_normal(spec.shape, dtype=np.float32)
    plan.inputs["v0"][...] = x
    plan.run()
    assert np.array_equal(plan.outputs["v10"], np.maximum(x, 0))
    assert np.array_equal(plan.inputs["v0"], x), "the input is the caller's to keep"


def test_in_place_spares_what_is_read_later():
    """y = relu(x); z = x + y: relu must not write over x."""
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Add", ["a", "y"], ["z"])]
    first = helper.make_node("Relu", ["x"], ["a"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [5]) for name in ("x", "z")]
    model = model_of(helper.make_model(helper.make_graph([first, *nodes], "g", info[:1], info[1:])))
    x = np.array([-1, 2, -3, 4, 5], np.float32)
    assert np.array_equal(model.run(x), 2 * np.maximum(x, 0))


def test_conversion_between_layouts_happens_once():
    builder = PlanBuilder(np.float32)
    x = builder.tensor((2, 3, 4, 5))
    a = builder.as_layout(x, Layout.CHANNELS_LAST)
    assert builder.as_layout(x, Layout.CHANNELS_LAST) is a
    assert len(builder.emissions) == 1
    flat = builder.tensor((2, 3, 1, 1))
    assert builder.as_layout(flat, Layout.CHANNELS_LAST).buffer is flat.buffer
    assert len(builder.emissions) == 1


def test_what_follows_from_fixed_weights_is_computed_once():
    w = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in
            (("x", ["N", 3, 6, 6]), ("y", ["N", 4, 4, 4]))]  # fmt: skip
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = model_of(helper.make_model(helper.make_graph([node], "g", info[:1], info[1:], [w])))
    spec = Spec((1, 3, 6, 6), np.dtype(np.float32))
    plan = inference_plan(model.nodes, {"x": spec}, ["y"], model.weights, {}, threads=1)
    assert plan.memory.marks["body"] == 1, "the packing of the weights comes before the body"
    plan.inputs["x"][...] = 1
    plan.run()
    assert (plan.outputs["y"] == 27).all()
    model.weights["w"] = np.full((4, 3, 3, 3), 2, np.float32)
    plan.run()
    assert (plan.outputs["y"] == 54).all()


def test_kernels_compute_in_two_dtypes_only():
    import pytest

    from cconv.kernels import build_for

    assert build_for(np.float32) is FLOAT32
    with pytest.raises(TypeError, match="float16"):
        build_for(np.float16)
