"""Patterns: which spellings are found, that they compute what the nodes compute one by one, and what is left alone."""

import math

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cconv.plan.plan import inference_plan
from harness import THREADS, directional_error, forward, model_of, projection_plan

SHAPE = (3, 5, 6, 7)
ROOT, SIXTH = math.sqrt(0.5), 1 / 6


class Graph:
    """A model under construction: x and other weights are initializers, so that gradients can be asked for."""

    def __init__(self, opset=17, shape=SHAPE):
        rng = np.random.default_rng(0)
        self.opset, self.nodes = opset, []
        # Further out than +-3, and not near the kinks.
        x = rng.uniform(-6, 6, shape)
        self.arrays = {"x": np.where(np.abs(np.abs(x) - 3) < 0.01, 3.02, x)}
        self.rng = rng

    def weight(self, shape):
        name = f"w{len(self.arrays)}"
        self.arrays[name] = self.rng.uniform(0.5, 1.5, shape)
        return name

    def __call__(self, kind, *inputs, **attributes):
        """Add a node; numbers among its inputs become Constant nodes. Returns its output's name."""
        names = [self.number(i) if isinstance(i, (int, float)) else i for i in inputs]
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [name], name, **attributes))
        return name

    def number(self, value):
        name = f"Constant{len(self.nodes)}"
        tensor = numpy_helper.from_array(np.array(value, np.float32))
        self.nodes.append(helper.make_node("Constant", [], [name], name, value=tensor))
        return name

    def model(self, *outputs):
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        tensors = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "g", [], infos, tensors)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        proto.ir_version = 9
        return model_of(proto)


def clip(g, x, low=0.0, high=6.0):
    if g.opset < 11:
        return g("Clip", x, min=low, max=high)
    return g("Clip", x, low, high)


def mean(g, x, axes=(-1,), keepdims=1):
    if g.opset >= 18:
        name = f"axes{len(g.nodes)}"
        g.nodes.append(helper.make_node("Constant", [], [name], name, value_ints=list(axes)))
        return g("ReduceMean", x, name, keepdims=keepdims)
    return g("ReduceMean", x, axes=list(axes), keepdims=keepdims)


def hard_sigmoid(g):
    return g("HardSigmoid", "x", alpha=SIXTH, beta=0.5)


def relu6(g):
    return clip(g, g("Add", "x", 3.0))


def phi(g, argument=None):
    return g("Add", g("Erf", argument or g("Div", "x", 1 / ROOT)), 1.0)


def tanh_phi(g, cube):
    inner = g("Mul", g("Add", "x", g("Mul", cube, 0.044715)), math.sqrt(2 / math.pi))
    return g("Add", 1.0, g("Tanh", inner))


def layer_norm(g, axes=(-1,), twice=False, scaled=True, biased=True, squared="Pow"):
    d = g("Sub", "x", mean(g, "x", axes))
    square = g("Pow", d, 2.0) if squared == "Pow" else g("Mul", d, d)
    variance = mean(g, square, axes)
    if twice:
        d = g("Sub", "x", mean(g, "x", axes))
    y = g("Div", d, g("Sqrt", g("Add", variance, 1e-3)))
    row = SHAPE[axes[0] :]
    y = g("Mul", y, g.weight(row)) if scaled else y
    return g("Add", y, g.weight(row)) if biased else y


def group_norm(g, groups=5, scale=1.0):
    def constant(array):
        name = f"Constant{len(g.nodes)}"
        g.nodes.append(helper.make_node("Constant", [], [name], name, value=numpy_helper.from_array(array)))
        return name

    one, zero = (constant(np.full(groups, value, np.float32)) for value in (scale, 0))
    apart = g("Reshape", "x", constant(np.array([0, groups, -1])))
    together = g("Reshape", g("InstanceNormalization", apart, one, zero, epsilon=1e-3), constant(np.array(SHAPE)))
    return g("Add", g("Mul", together, g.weight((5, 1, 1))), g.weight((5, 1, 1)))


def pooled(g, x):
    return g("MaxPool", x, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0])


# name: (the spelling, what it is)
SPELLINGS = {
    "silu": (lambda g: g("Mul", "x", g("Sigmoid", "x")), "Swish"),
    "silu, turned round": (lambda g: g("Mul", g("Sigmoid", "x"), "x"), "Swish"),
    "quick gelu": (lambda g: g("Mul", "x", g("Sigmoid", g("Mul", 1.702, "x"))), "Swish"),
    "hard swish": (lambda g: g("Mul", "x", hard_sigmoid(g)), "HardSwish"),
    "hard swish, product over 6": (lambda g: g("Div", g("Mul", "x", relu6(g)), 6.0), "HardSwish"),
    "hard swish, gate over 6": (lambda g: g("Mul", g("Div", relu6(g), 6.0), "x"), "HardSwish"),
    "hard swish, times 1/6": (lambda g: g("Mul", g("Mul", relu6(g), "x"), SIXTH), "HardSwish"),
    "hard sigmoid": (lambda g: g("Div", relu6(g), 6.0), "HardSigmoid"),
    "hard sigmoid, times 1/6": (lambda g: g("Mul", SIXTH, relu6(g)), "HardSigmoid"),
    "mish": (lambda g: g("Mul", "x", g("Tanh", g("Softplus", "x"))), "Mish"),
    "gelu, PyTorch": (lambda g: g("Mul", g("Mul", "x", phi(g)), 0.5), "Gelu"),
    "gelu, half first": (lambda g: g("Mul", g("Mul", "x", 0.5), phi(g)), "Gelu"),
    "gelu, TensorFlow": (lambda g: g("Mul", "x", g("Mul", 0.5, phi(g, g("Mul", "x", ROOT)))), "Gelu"),
    "gelu, tanh": (lambda g: g("Mul", g("Mul", 0.5, "x"), tanh_phi(g, g("Pow", "x", 3.0))), "Gelu"),
    "gelu, tanh, x * x * x": (
        lambda g: g("Mul", "x", g("Mul", tanh_phi(g, g("Mul", "x", g("Mul", "x", "x"))), 0.5)),
        "Gelu",
    ),
    "layer norm": (layer_norm, "LayerNormalization"),
    "layer norm, two deviations": (lambda g: layer_norm(g, twice=True), "LayerNormalization"),
    "layer norm, squared by Mul": (lambda g: layer_norm(g, squared="Mul"), "LayerNormalization"),
    "layer norm, no bias": (lambda g: layer_norm(g, biased=False), "LayerNormalization"),
    "layer norm, three axes": (lambda g: layer_norm(g, axes=(-3, -2, -1)), "LayerNormalization"),
    "group norm": (group_norm, "GroupNormalization"),
    "group norm, one group": (lambda g: group_norm(g, 1), "GroupNormalization"),
    "relu, then pooled": (lambda g: pooled(g, g("Relu", "x")), "MaxPool"),
}
ALL = pytest.mark.parametrize("name", list(SPELLINGS))
OPSETS = pytest.mark.parametrize("opset", [10, 17, 18])


def steps(model, training=False):
    """The forward pass's nodes that have steps."""
    if training:
        plan, _ = projection_plan(model, ["x"])
    else:
        plan = inference_plan(model.nodes, {}, model.output_names, model.weights, model.constants, threads=1)
    return [
        x for x in dict.fromkeys(plan.memory.labels) if x and not x.endswith(":gradient") and not x.startswith("loss")
    ]


def close(a, b, dtype):
    """To a few roundings of the largest value: of float32, in which the graph has 1/6, sqrt(2) and the like."""
    return np.max(np.abs(a - b)) <= (1e-6 if dtype == np.float64 else 1e-5) * np.max(np.abs(b))


@ALL
@OPSETS
@pytest.mark.parametrize("training", [False, True])
def test_a_spelling_runs_as_one(name, opset, training):
    g = Graph(opset)
    (label,) = steps(g.model(SPELLINGS[name][0](g)), training)
    assert label.count(" + ") == sum(node.op_type != "Constant" for node in g.nodes) - 1


@ALL
@OPSETS
def test_it_computes_what_its_nodes_compute(name, opset):
    g = Graph(opset)
    y = SPELLINGS[name][0](g)
    model = g.model(y)
    trained = list(g.arrays)
    for dtype in (np.float32, np.float64):
        plain = forward(model, {}, dtype, fuse=False)[y]
        results = [forward(model, {}, dtype, threads)[y] for threads in THREADS]
        assert close(results[0], plain, dtype)
        assert all(np.array_equal(result, results[0]) for result in results)
        gradients = []
        for fuse in (True, False):
            plan, _ = projection_plan(model, trained, dtype, fuse=fuse)
            plan.targets[y][...] = np.random.default_rng(1).standard_normal(plan.targets[y].shape)
            plan.run(until="update")
            gradients.append({w: plan.gradients[w].copy() for w in trained})
        assert all(close(gradients[0][w], gradients[1][w], dtype) for w in trained)


@ALL
def test_its_gradient_equals_differences(name):
    g = Graph()
    plan, weights = projection_plan(g.model(SPELLINGS[name][0](g)), list(g.arrays))
    errors = directional_error(plan, weights, np.random.default_rng(2))
    assert set(errors) == set(g.arrays) and max(errors.values()) < 1e-6


def unmatched(g, *outputs):
    """Whether each node runs by itself."""
    return not any(" + " in label for label in steps(g.model(*outputs)))


def test_inner_values_that_somebody_reads_stay():
    g = Graph()
    s = g("Sigmoid", "x")
    y = g("Mul", "x", s)
    assert unmatched(g, y, s)
    g("Neg", s)
    assert unmatched(g, y, g.nodes[-1].output[0])


def test_x_is_one_value():
    g = Graph()
    assert unmatched(g, g("Mul", "x", g("Sigmoid", g.weight(SHAPE))))


def test_other_numbers_are_another_function():
    for make in (
        lambda g: g("Mul", g("Mul", "x", phi(g)), 0.51),
        lambda g: g("Mul", g("Mul", "x", phi(g, g("Div", "x", 1.4))), 0.5),
        lambda g: g("Mul", "x", g("HardSigmoid", "x")),
        lambda g: g("Div", clip(g, g("Add", "x", 3.0), 0.0, 5.0), 6.0),
    ):
        g = Graph()
        assert unmatched(g, make(g))


def test_rows_are_the_last_axes_of_both_means():
    g = Graph()
    d = g("Sub", "x", mean(g, "x", (-1,)))
    deviation = g("Sqrt", g("Add", mean(g, g("Pow", d, 2.0), (-2, -1)), 1e-3))
    assert unmatched(g, g("Mul", g("Div", d, deviation), g.weight((7,))))
    g = Graph()
    assert unmatched(g, layer_norm(g, axes=(1,), scaled=False, biased=False))


def test_groups_are_normalised_without_a_scale_of_their_own():
    g = Graph()
    assert unmatched(g, group_norm(g, scale=2.0))


def test_pooling_that_is_asked_for_indices_stays():
    g = Graph()
    g.nodes.append(helper.make_node("MaxPool", [g("Relu", "x")], ["y", "i"], "pool", kernel_shape=[2, 2]))
    assert unmatched(g, "y", "i")


def test_pooling_after_a_rectifier_passes_nothing_on_where_nothing_is_positive():
    """Ties and a kink that differences cannot be taken at: zeros and negative numbers of either sign."""
    g = Graph(shape=(1, 1, 2, 8))
    g.arrays["x"] = np.array([[-1, -2, 0, -1, 2, 2, 3, -1], [-3, -1, -0.0, 0, 2, 1, -4, 3]]).reshape(1, 1, 2, 8)
    y = g("MaxPool", g("Relu", "x"), kernel_shape=[2, 2], strides=[2, 2])
    plan, _ = projection_plan(g.model(y), ["x"])
    plan.targets[y][...] = [[[[1, 2, 3, 4]]]]
    plan.run(until="update")
    assert plan.outputs[y].ravel().tolist() == [0, 0, 2, 3]
    assert plan.gradients["x"].reshape(2, 8).tolist() == [[0, 0, 0, 0, 3, 0, 4, 0], [0] * 8]


def test_a_bias_that_makes_the_result_larger_is_no_part_of_it():
    g = Graph(shape=(5, 7))
    y = layer_norm(g, biased=False)
    (first, second) = steps(g.model(g("Add", y, g.weight((2, 5, 7)))))
    assert first.count(" + ") == 7 and second.startswith("Add")


def test_a_number_that_is_trained_is_no_constant():
    g = Graph()
    half = g.weight((1,))
    g.arrays[half][...] = 0.5
    model = g.model(g("Mul", g("Mul", "x", phi(g)), half))
    plan, _ = projection_plan(model, ["x", half])
    assert not any(" + " in label for label in plan.memory.labels)
    (label,) = steps(model)  # at inference it is known
    assert label.count(" + ") == 4


def test_of_two_that_overlap_the_larger_is_taken():
    """HardSwish has HardSigmoid in it; of two activations end to end each is one."""
    g = Graph()
    y = g("Mul", "x", g("Div", relu6(g), 6.0))
    z = g("Mul", y, g("Sigmoid", y))
    assert [label.count(" + ") for label in steps(g.model(z))] == [3, 1]


@pytest.mark.parametrize("kind", ["Swish", "HardSwish"])
@pytest.mark.parametrize("mode", ["batch", "statistics", "frozen"])
def test_behind_a_normalisation(kind, mode):
    """One pass with it where statistics are the batch's; the running ones may not need x, of which z would come."""
    g = Graph()
    parameters = [g.weight((5,)) for _ in range(4)]
    b = g("BatchNormalization", "x", *parameters)
    y = g("Mul", b, g("Sigmoid", b) if kind == "Swish" else g("HardSigmoid", b, alpha=SIXTH, beta=0.5))
    model = g.model(y)
    assert len(steps(model)) == 1
    trained = ["x"] if mode == "statistics" else ["x", *parameters[:2]]
    results = []
    for fuse in (True, False):
        plan, weights = projection_plan(model, trained, batchnorm=mode, fuse=fuse)
        labels = {x for x in plan.memory.labels if " + " in x and not x.endswith(":gradient")}
        assert labels == (set() if not fuse else {" + ".join(labels)})
        if fuse:
            assert (max(labels).count(" + ") == 2) == (mode != "frozen")
        plan.targets[y][...] = np.random.default_rng(1).standard_normal(SHAPE)
        plan.run(until="update")
        results.append([plan.outputs[y].copy(), *(plan.gradients[w].copy() for w in trained)])
        if fuse:
            errors = directional_error(plan, weights, np.random.default_rng(2))
            assert max(errors.values()) < 1e-6
    assert all(close(a, b, np.float64) for a, b in zip(*results))


def test_behind_a_convolution():
    """The convolution with what it folds, then the activation; both layouts meet in it."""
    g = Graph()
    g.arrays["k"] = g.rng.standard_normal((5, 5, 3, 3)) / 5
    c = g("Conv", "x", "k", pads=[1, 1, 1, 1])
    b = g("BatchNormalization", c, *(g.weight((5,)) for _ in range(4)))
    y = g("Mul", b, g("Sigmoid", b))
    model = g.model(y)
    assert [label.count(" + ") for label in steps(model)] == [1, 1]
    assert close(forward(model, {})[y], forward(model, {}, fuse=False)[y], np.float32)
