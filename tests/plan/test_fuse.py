"""Chains that run as one: which are found, and that they compute what their nodes compute one by one."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cconv.kernels import reference
from cconv.ops.tensor import Spec
from cconv.plan import plan_builder
from cconv.plan.plan import inference_plan
from harness import THREADS, directional_error, forward, model_of, projection_plan

CHANNELS, SHAPE = 5, (3, 5, 6, 7)

node = helper.make_node


def network(nodes, outputs=("y",), arrays=None, x_shape=SHAPE):
    """A model of x, which is an initializer so that its gradient can be asked for, and of the nodes' weights."""
    rng = np.random.default_rng(0)
    known = {"x": rng.standard_normal(x_shape).astype(np.float32), **(arrays or {})}
    made = {value for n in nodes for value in n.output}
    for n in nodes:
        for i, name in enumerate(n.input):
            if not name or name in known or name in made:
                continue
            if n.op_type == "BatchNormalization":
                low, high = ((0.5, 1.5), (-0.3, 0.3), (-0.5, 0.5), (0.5, 2))[i - 1]
                known[name] = rng.uniform(low, high, CHANNELS)
            elif n.op_type in ("Conv", "ConvTranspose"):
                known[name] = rng.standard_normal((CHANNELS, CHANNELS, 3, 3) if i == 1 else CHANNELS) / 5
            else:
                known[name] = rng.standard_normal(SHAPE)
            known[name] = known[name].astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "chain",
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in known.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 9
    return model_of(proto)


def conv(source, target, op_type="Conv", bias=False, **attributes):
    weights = [f"{target}.w", f"{target}.b"][: 1 + bias]
    return node(op_type, [source, *weights], [target], target, **{"pads": [1, 1, 1, 1], **attributes})


def norm(source, target, outputs=()):
    parameters = [f"{target}.{name}" for name in ("scale", "bias", "mean", "var")]
    kind = {"training_mode": 1} if outputs else {}
    return node("BatchNormalization", [source, *parameters], [target, *outputs], target, momentum=0.75, **kind)


def relu(source, target):
    return node("Relu", [source], [target], target)


def add(a, b, target):
    return node("Add", [a, b], [target], target)


def labels(plan):
    """The names of the nodes that the forward steps came from."""
    return {label for label in plan.memory.labels if label and not label.endswith(":gradient") and label != "loss"}


def chains(model, training=False, **options):
    """The names of the chains that the plan runs as one."""
    if training:
        plan, _ = projection_plan(model, ["x"], **options)
    else:
        plan = inference_plan(model.nodes, {}, model.output_names, model.weights, model.constants, threads=1)
    return {label for label in labels(plan) if " + " in label}


def clip(source, target, low, high):
    """Clip with bounds as initializers; returns (node, arrays)."""
    arrays = {"low": np.float32(low).reshape(()), "high": np.float32(high).reshape(())}
    return node("Clip", [source, "low", "high"], [target], target), arrays


BLOCK = [
    *(conv("x", "c1"), norm("c1", "b1"), relu("b1", "r1")),
    *(conv("r1", "c2"), norm("c2", "b2"), conv("x", "c3"), norm("c3", "b3")),
    *(add("b2", "b3", "s"), relu("s", "t"), conv("t", "y")),
]


# Which chains are found.


def test_a_residual_block_at_inference():
    assert chains(network(BLOCK)) == {"c1 + b1 + r1", "c2 + b2 + s + t", "c3 + b3"}


def test_a_residual_block_in_training():
    assert chains(network(BLOCK), training=True) == {"b1 + r1", "b2 + s + t"}


def test_convolutions_that_are_trained_keep_their_weights_apart_from_the_normalisation():
    """In frozen mode too: folding would hide the weights from the optimizer."""
    found = chains(network(BLOCK), training=True, batchnorm="frozen")
    assert found == {"b1 + r1", "b2 + s + t"}


def test_a_frozen_prefix_runs_as_at_inference():
    model = network(BLOCK)
    plan, _ = projection_plan(model, ["y.w"], batchnorm="frozen")
    assert {label for label in labels(plan) if " + " in label} == {"c1 + b1 + r1", "c2 + b2 + s + t", "c3 + b3"}


def test_statistics_of_the_batch_are_not_folded():
    model = network([conv("x", "c"), norm("c", "b", outputs=("m", "v")), relu("b", "y")])
    assert chains(model) == {"b + y"}


@pytest.mark.parametrize("threads", THREADS)
def test_a_convolution_measures_its_result_for_the_normalisation_behind_it(threads):
    """Once; another one behind it, or behind something else, reads its input."""
    model = network(
        [conv("x", "c"), norm("c", "a"), norm("c", "b"), add("a", "b", "s"), norm("s", "n"), add("n", "a", "y")]
    )
    plan, weights = projection_plan(model, ["x"], threads=threads)
    plan.run(until="update")
    readers = [step for step in plan.memory.program.steps if type(step).__name__ == "Statistics"]
    assert [step.reads_x for step in readers] == [False, True, True]

    def normalised(x, name):
        centred = x - x.mean((0, 2, 3), keepdims=True)
        scale, bias = (weights[f"{name}.{part}"].reshape(-1, 1, 1) for part in ("scale", "bias"))
        return centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True) + np.float32(1e-5)) * scale + bias

    c = reference.conv(weights["x"], weights["c.w"], pads=(1, 1, 1, 1))
    a, b = normalised(c, "a"), normalised(c, "b")
    np.testing.assert_allclose(plan.outputs["y"], normalised(a + b, "n") + a, rtol=1e-12, atol=1e-12)


def test_no_chain_goes_through_a_value_that_is_read_twice():
    model = network([norm("x", "b"), relu("b", "r"), add("b", "r", "y")])
    assert chains(model) == set()
    model = network([norm("x", "b"), add("b", "b", "s"), relu("s", "y")])
    assert chains(model) == set()


def test_no_chain_goes_through_an_output():
    nodes = [conv("x", "c"), norm("c", "b"), relu("b", "y")]
    assert chains(network(nodes, outputs=("y",))) == {"c + b + y"}
    assert chains(network(nodes, outputs=("y", "b"))) == {"c + b"}
    assert chains(network(nodes, outputs=("y", "c"))) == {"b + y"}


def test_no_chain_goes_through_a_value_that_a_loss_reads():
    plan, _ = projection_plan(network([norm("x", "b"), relu("b", "y")], ("y", "b")), ["x"], output="b")
    assert not any(" + " in label for label in labels(plan))


def test_no_chain_leaves_running_averages_behind():
    model = network([norm("x", "b", outputs=("m", "v")), relu("b", "y")], outputs=("y", "m"))
    assert chains(model) == set()


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (3, 5, 6, 1), (7,), (2, 1, 1, 1, 1)])
def test_a_sum_that_broadcasts_is_not_fused(shape):
    expected = np.broadcast_shapes(shape, SHAPE)
    model = network([conv("x", "c"), add("c", "r", "s"), relu("s", "y")], arrays={"r": np.ones(shape, np.float32)})
    assert chains(model) == set()
    assert forward(model, {})["y"].shape == expected


def test_leaky_relu_that_turns_negative_values_positive_is_not_fused():
    """Its derivative cannot be told from its output."""
    for alpha, expected in ((0.1, {"b + y"}), (-0.1, set())):
        model = network([norm("x", "b"), node("LeakyRelu", ["b"], ["y"], "y", alpha=alpha)])
        assert chains(model, training=True) == expected


def test_an_operator_of_that_domain_in_a_file_is_not_known():
    """Chains have operators of their own, which no file can name."""
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization+Relu", ["x"], ["y"], domain="cconv")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("cconv", 1)]
    assert all(n.operator is None for n in model_of(onnx.helper.make_model(graph, opset_imports=imports)).nodes)


# What they compute.


def activation(kind, source, target):
    """(nodes, arrays) of one activation."""
    if kind == "Clip":
        last, arrays = clip(source, target, -0.4, 0.9)
        return [last], arrays
    return [node(kind, [source], [target], target, **({"alpha": 0.2} if kind == "LeakyRelu" else {}))], {}


HEADS = {
    "norm": [norm("x", "h")],
    "conv": [conv("x", "h")],
    "conv, bias": [conv("x", "h", bias=True)],
    "conv, norm": [conv("x", "c", bias=True), norm("c", "h")],
    "strided": [conv("x", "c0", strides=[2, 2]), conv("c0", "c", "ConvTranspose", strides=[2, 2]), norm("c", "h")],
    "transposed": [conv("x", "c", "ConvTranspose", bias=True), norm("c", "h")],
    "none of the channels mixed": [conv("x", "c", group=CHANNELS), norm("c", "h")],
}
KINDS = ["Relu", "Clip", "LeakyRelu", None]


def chain_model(head, kind, summed):
    nodes, arrays = list(HEADS[head]), {}
    source = "h"
    if head == "none of the channels mixed":
        arrays["c.w"] = np.random.default_rng(1).standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32)
    if head == "strided":
        summed = False  # another shape than x
    if summed:
        nodes.append(add("r", source, "s"))
        source = "s"
    if kind:
        last, more = activation(kind, source, "a")
        nodes += last
        arrays.update(more)
        source = "a"
    # Something that keeps the output, as in a network.
    return network([*nodes, conv(source, "y")], arrays=arrays)


def close(a, b, dtype):
    """Some tens of roundings, relative to the largest value."""
    return np.max(np.abs(a - b)) <= (1e-12 if dtype == np.float64 else 1e-5) * np.max(np.abs(b))


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", HEADS)
def test_inference_equals_the_nodes_one_by_one(head, kind, summed):
    model = chain_model(head, kind, summed)
    for dtype in (np.float32, np.float64):
        plain = forward(model, {}, dtype, fuse=False)["y"]
        results = [forward(model, {}, dtype, threads)["y"] for threads in THREADS]
        assert close(results[0], plain, dtype)
        assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize("head", HEADS)
def test_bounds_the_wrong_way_round_give_the_upper_one(head):
    """As ONNX has it."""
    if head == "none of the channels mixed":
        more = {"c.w": np.random.default_rng(1).standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32)}
    else:
        more = {}
    last, arrays = clip("h", "a", 0.9, -0.4)
    model = network([*HEADS[head], last], outputs=("a",), arrays={**arrays, **more})
    for dtype in (np.float32, np.float64):
        assert np.all(forward(model, {}, dtype)["a"] == np.float32(-0.4)), dtype


def gradients(model, mode, trained, dtype, threads=1, fuse=True):
    """(output, gradients, weights after the run)"""
    plan, weights = projection_plan(model, trained, dtype, threads, batchnorm=mode, fuse=fuse)
    target = plan.targets["y"]
    target[...] = np.random.default_rng(8).standard_normal(target.shape)
    plan.run()
    return plan.outputs["y"].copy(), {name: g.copy() for name, g in plan.gradients.items()}, weights


def trainable(model, mode):
    fixed = {"low", "high", *(name for name in model.weights if name.endswith((".mean", ".var")))}
    if mode == "statistics":
        fixed |= {name for name in model.weights if name.startswith("h.")}
    if mode != "frozen" and "h.scale" in model.weights:
        fixed.add("c.b")  # the mean takes it away again: its gradient is 0, and what is found is rounding
    return [name for name in model.weights if name not in fixed]


MODES = ("batch", "statistics", "frozen")
# Without a normalisation there is nothing that a mode could matter to.
HEADS_AND_MODES = [
    (head, mode)
    for head, nodes in HEADS.items()
    for mode in (MODES if any(n.op_type == "BatchNormalization" for n in nodes) else MODES[:1])
]


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head, mode", HEADS_AND_MODES)
def test_training_equals_the_nodes_one_by_one(head, kind, summed, mode):
    model = chain_model(head, kind, summed)
    trained = trainable(model, mode)
    for dtype in (np.float32, np.float64):
        plain = gradients(model, mode, trained, dtype, fuse=False)
        results = [gradients(model, mode, trained, dtype, threads) for threads in THREADS]
        y, found, weights = results[0]
        assert close(y, plain[0], dtype)
        for name in trained:
            assert close(found[name], plain[1][name], dtype), name
        for name, value in plain[2].items():  # the running averages too
            assert close(weights[name], value, dtype), name
        for other in results[1:]:
            assert np.array_equal(other[0], y)
            assert all(np.array_equal(other[1][name], found[name]) for name in trained)


@pytest.mark.parametrize("mode", ["batch", "statistics", "frozen"])
@pytest.mark.parametrize("head, kind", [("norm", "Relu"), ("conv, norm", "Clip"), ("conv", "Relu"), ("norm", None)])
def test_gradients_equal_differences(head, kind, mode):
    model = chain_model(head, kind, summed=True)
    plan, weights = projection_plan(model, trainable(model, mode), batchnorm=mode)
    errors = directional_error(plan, weights, np.random.default_rng(3))
    assert {"x", "r", "y.w"} <= set(errors)
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.parametrize("mode", ["batch", "frozen"])
@pytest.mark.parametrize(
    "kind, summed, trained",
    [
        (kind, summed, trained)
        for kind, summed in [("Relu", True), ("Relu", False), (None, True)]
        for trained in (["x"], ["r"], ["h.scale"], ["h.bias"], ["r", "h.scale"], ["x", "r"], ["y.w"])
        if summed or "r" not in trained  # r is what is added
    ],
)
def test_gradients_do_not_depend_on_which_are_wanted(kind, summed, trained, mode):
    model = chain_model("norm", kind, summed)
    _, everything, _ = gradients(model, mode, trainable(model, mode), np.float64)
    _, some, _ = gradients(model, mode, trained, np.float64)
    for name in trained:
        assert close(some[name], everything[name], np.float64), name


def test_residual_blocks_train_alike():
    """Two blocks end to end, as in a ResNet: the second adds what the first gives, which is read twice."""
    second = [
        *(conv("t", "c4"), norm("c4", "b4"), relu("b4", "r4")),
        *(conv("r4", "c5"), norm("c5", "b5"), add("t", "b5", "u"), relu("u", "v"), conv("v", "y")),
    ]
    model = network([*BLOCK[:-1], *second])
    assert chains(model, training=True) == {"b1 + r1", "b2 + s + t", "b4 + r4", "b5 + u + v"}
    trained = trainable(model, "batch")
    plain = gradients(model, "batch", trained, np.float64, fuse=False)
    y, found, _ = gradients(model, "batch", trained, np.float64)
    assert close(y, plain[0], np.float64)
    assert all(close(found[name], plain[1][name], np.float64) for name in trained)


def wide_network(nodes, outputs=("y",)):
    """Of 8 channels, whole vectors of doubles on every machine; 1x1 and depthwise convolutions of the width of x."""
    rng = np.random.default_rng(0)
    arrays = {}
    for n in nodes:
        for i, name in enumerate(n.input[1:] if n.op_type in ("Conv", "BatchNormalization") else []):
            if n.op_type == "Conv":
                depthwise = any(a.name == "group" for a in n.attribute)
                arrays[name] = rng.standard_normal((8, 1, 3, 3) if depthwise else (8, 8, 1, 1)).astype(np.float32)
            else:
                low, high = ((0.5, 1.5), (-0.3, 0.3), (-0.5, 0.5), (0.5, 2))[i]
                arrays[name] = rng.uniform(low, high, 8).astype(np.float32)
    return network(nodes, outputs, arrays, x_shape=(3, 8, 6, 7))


def narrow(source, target):
    return conv(source, target, pads=[0, 0, 0, 0])


def depthwise(source, target):
    return conv(source, target, group=8)


BOTTLENECK = [
    *(narrow("x", "c1"), norm("c1", "b1"), relu("b1", "r1"), depthwise("r1", "c2"), norm("c2", "b2"), relu("b2", "r2")),
    *(narrow("r2", "c3"), norm("c3", "b3"), add("b3", "x", "s"), relu("s", "t")),
    *(narrow("t", "c4"), norm("c4", "b4"), add("b4", "t", "u"), narrow("u", "y")),
]


def in_training(model):
    """Names of the BatchNormalizations whose sums a convolution finds, and how many sums of two gradients are steps."""
    plan, _ = projection_plan(model, trainable(model, "batch"), batchnorm="batch")
    steps = list(zip(plan.memory.labels, plan.memory.program.steps))
    found = [label for label, step in steps if type(step).__name__ == "ParameterGradient" and not step.reads_dy]
    sums = [label for label, step in steps if type(step).__name__ == "Binary"]
    return [label.split(":")[0].split(" + ")[0] for label in found], len(sums)


def check_in_training(model):
    """Gradients as those of the nodes one by one, and as differences."""
    trained = trainable(model, "batch")
    plain = gradients(model, "batch", trained, np.float64, fuse=False)
    y, found, _ = gradients(model, "batch", trained, np.float64)
    assert close(y, plain[0], np.float64)
    assert all(close(found[name], plain[1][name], np.float64) for name in trained)
    plan, weights = projection_plan(model, trained, batchnorm="batch")
    errors = directional_error(plan, weights, np.random.default_rng(3))
    assert max(errors.values()) < 1e-6, errors


def test_an_input_gradient_adds_another_one_and_passes_back_through_a_normalisation():
    """t is read twice: the convolution behind it adds what comes past it, and finds the sums of b3. x is no
    normalisation's result, so its two gradients are only added."""
    model = wide_network(BOTTLENECK)
    assert in_training(model) == (["b4", "b3", "b2", "b1"], 0)
    check_in_training(model)


def test_a_gradient_that_is_another_values_too_is_not_written_over():
    """r and q have one gradient, that of their sum, which only one of them may see where it is positive."""
    nodes = [narrow("x", "c"), norm("c", "b"), relu("b", "r"), narrow("x", "q"), add("r", "q", "s"), narrow("s", "y")]
    model = wide_network(nodes)
    assert in_training(model) == ([], 0)
    check_in_training(model)
    # Without an activation nothing is written over; the sums of two normalisations are more than one step finds.
    nodes = [narrow("x", "c"), norm("c", "b"), norm("x", "q"), add("q", "b", "s"), narrow("s", "y")]
    model = wide_network(nodes)
    assert in_training(model) == (["b"], 0)
    check_in_training(model)


def test_a_gradient_that_two_branches_have_is_added_to_neither():
    """a's gradient comes twice, by x and by the sum's other operand; the second time it is also that of c."""
    nodes = [narrow("x", "a"), narrow("a", "c"), add("a", "c", "s"), narrow("s", "d"), add("a", "d", "u")]
    model = wide_network([*nodes, narrow("u", "y")])
    found, _ = in_training(model)
    assert found == []
    check_in_training(model)


BRANCHES = [narrow("x", "c1"), norm("c1", "b1"), relu("b1", "r1"), narrow("r1", "c2"), depthwise("r1", "c3")]


@pytest.mark.parametrize(
    "nodes, again",
    [
        (BOTTLENECK, 2),  # r1 and r2: what a residual went into is not made again
        ([*BRANCHES, add("c2", "c3", "y")], 1),  # once for both
        ([*BRANCHES, node("Mul", ["c2", "r1"], ["m"], "m"), add("m", "c3", "y")], 0),  # kept for the product anyway
    ],
)
def test_what_a_weight_gradient_reads_is_computed_again_to_the_same_bits(nodes, again, monkeypatch):
    model = wide_network(nodes)
    trained = trainable(model, "batch")
    found = []
    monkeypatch.setattr(plan_builder, "RECOMPUTE_BYTES", 0)
    for worth in (0, np.inf):
        monkeypatch.setattr(plan_builder, "RECOMPUTE_FLOPS_PER_BYTE", worth)
        plan, _ = projection_plan(model, trained, np.float32, 1, batchnorm="batch")
        count = sum(type(step).__name__ == "Normalize" for step in plan.memory.program.steps)
        found.append((gradients(model, "batch", trained, np.float32), count, plan.memory.arena_bytes))
    (a, count_again, less), (b, count, more) = found
    assert count_again - count == again
    assert less < more if nodes is BOTTLENECK else less <= more
    assert np.array_equal(a[0], b[0]) and all(np.array_equal(a[1][name], b[1][name]) for name in trained)


def test_a_map_is_kept_where_it_costs_more_than_it_saves():
    """3x3 convolutions of 64 outputs take enough operations for a byte of the map, those of 32 do not; a small map is
    nothing to save."""
    counts = []
    for outputs, batch in [(32, 800), (64, 800), (64, 3)]:
        rng = np.random.default_rng(0)
        shapes = {"c.w": (8, 8, 3, 3), "y.w": (outputs, 8, 3, 3)}
        arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        arrays |= {f"b.{name}": np.ones(8, np.float32) for name in ("scale", "bias", "mean", "var")}
        nodes = [conv("x", "c"), norm("c", "b"), relu("b", "r"), conv("r", "y")]
        model = network(nodes, arrays=arrays, x_shape=(batch, 8, 6, 7))
        plan, _ = projection_plan(model, trainable(model, "batch"), np.float32, 1, batchnorm="batch")
        counts.append(sum(type(step).__name__ == "Normalize" for step in plan.memory.program.steps))
    assert counts == [1, 2, 1]


def test_a_normalisation_of_vectors_is_fused_too():
    """(N, C), as behind a Gemm."""
    model = network([norm("x", "b"), relu("b", "y")], x_shape=(9, CHANNELS))
    assert chains(model, training=True) == {"b + y"}
    y, found, _ = gradients(model, "batch", ["x"], np.float64)
    plain = gradients(model, "batch", ["x"], np.float64, fuse=False)
    assert close(y, plain[0], np.float64) and close(found["x"], plain[1]["x"], np.float64)


def test_weights_that_are_inputs_are_folded_at_every_run():
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "scale": (4,), "bias": (4,), "mean": (4,), "var": (4,), "x": (2, 3, 6, 6)}
    nodes = [
        node("Conv", ["x", "w"], ["c"], "c"),
        node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["b"], "b"),
        relu("b", "y"),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = model_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    specs = {name: Spec(shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    plan = inference_plan(model.nodes, specs, ["y"], {}, {}, threads=1)
    assert "c + b + y" in labels(plan)
    for _ in range(2):
        feeds = {name: rng.uniform(0.5, 2, shape).astype(np.float32) for name, shape in shapes.items()}
        for name, value in feeds.items():
            plan.inputs[name][...] = value
        plan.run()
        assert close(plan.outputs["y"], forward(model, feeds, fuse=False)["y"], np.float32)


def test_folded_weights_take_no_memory_of_their_own():
    """Once packed they are not needed: the arena holds them where feature maps lie later."""
    nodes = [conv("x", "c"), norm("c", "b"), relu("b", "y")]
    model = network(nodes, x_shape=(1, CHANNELS, 40, 40))
    sizes = []
    for fuse in (False, True):
        plan = inference_plan(
            model.nodes, {}, ["y"], model.weights, model.constants, dtype=np.float32, threads=1, fuse=fuse
        )
        sizes.append(plan.memory.arena_bytes)
        for _ in range(2):
            plan.run()
    assert sizes[1] <= sizes[0]
