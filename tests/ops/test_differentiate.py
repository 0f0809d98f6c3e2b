"""Gradients as values of a graph: against finite differences, and what is refused."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv
from cconv.errors import DTypeError, ModelError, UnsupportedOpError

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((2, 3, 5, 5)), RNG.standard_normal((4, 3, 3, 3))
node = helper.make_node


def gradient(inputs, outputs, **attributes):
    return node("Gradient", inputs, outputs, "gradient", domain="ai.onnx.preview.training", **attributes)


def network(*nodes, outputs, weights=None, kind=TensorProto.DOUBLE):
    """A convolution, its tanh h, and the sum y of h^2; then the nodes given."""
    body = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("Tanh", ["c"], ["h"], "tanh"),
        node("Mul", ["h", "h"], ["s"], "mul"),
        node("ReduceSum", ["s"], ["y"], "sum", keepdims=0),
        *nodes,
    ]
    inputs = {"x": X.shape, **({} if weights else {"w": W.shape})}
    graph = helper.make_graph(
        body,
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.preview.training", 1)]
    return cconv.load(helper.make_model(graph, opset_imports=imports, ir_version=10))


def directional(run, x, gradient):
    """(numeric, analytic) derivative along one direction; the difference quotient is good to about 1e-8."""
    along, step = np.random.default_rng(1).standard_normal(x.shape), 1e-6
    return (run(x + step * along) - run(x - step * along)) / (2 * step), np.sum(gradient * along)


def test_of_two_inputs():
    model = network(gradient(["x", "w"], ["dx", "dw"], xs=["x", "w"], y="y"), outputs=["y", "dx", "dw"])
    found = model.run({"x": X, "w": W})
    assert found["dx"].shape == X.shape and found["dw"].shape == W.shape
    for name, value in (("x", X), ("w", W)):

        def run(v, name=name):
            return model.run({"x": X, "w": W, name: v})["y"]

        numeric, exact = directional(run, value, found[f"d{name}"])
        assert numeric == pytest.approx(exact, rel=1e-7)


def test_of_a_value_inside_and_of_an_output_that_is_used_on():
    """d(sum of h^2) / dh = 2h, whatever h follows from."""
    nodes = [gradient(["h"], ["dh"], xs=["h"], y="y"), node("Neg", ["dh"], ["n"])]
    found = network(*nodes, outputs=["h", "n"]).run({"x": X, "w": W})
    np.testing.assert_allclose(found["n"], -2 * found["h"], rtol=1e-14)


def test_of_a_weight_that_is_written_to():
    weights = {"w": W.astype(np.float32)}
    ask = gradient(["w"], ["dw"], xs=["w"], y="s")
    model = network(ask, outputs=["dw"], weights=weights, kind=TensorProto.FLOAT)
    before = model.run(X.astype(np.float32))
    model.weights["w"][...] *= 2
    after = model.run(X.astype(np.float32))
    assert not np.array_equal(before, after)
    model.weights["w"][...] /= 2
    assert np.array_equal(model.run(X.astype(np.float32)), before)


def test_of_what_does_not_matter_is_zero():
    model = network(gradient(["x", "w"], ["dx", "dw"], xs=["x", "w"], y="x"), outputs=["dx", "dw"])
    found = model.run({"x": X, "w": W})
    assert np.array_equal(found["dx"], np.ones_like(X)) and np.array_equal(found["dw"], np.zeros_like(W))


@pytest.mark.parametrize(
    "nodes, error, says",
    [
        ([gradient(["c"], ["d"], xs=["x"], y="y")], UnsupportedOpError, "tensors that xs and zs name"),
        ([gradient(["x"], ["d"], y="y")], ModelError, "names xs and y"),
        ([gradient(["x"], ["d"], xs=["x"])], ModelError, "names xs and y"),
        (
            [node("Cast", ["y"], ["n"], to=TensorProto.INT64), gradient(["x"], ["d"], xs=["x"], y="n")],
            DTypeError,
            "'n' holds floating-point numbers; found int64",
        ),
        (
            [gradient(["x"], ["dx"], xs=["x"], y="y"), gradient(["x"], ["d"], xs=["x"], y="dx")],
            UnsupportedOpError,
            "which has none here",
        ),
    ],
)
def test_refused(nodes, error, says):
    with pytest.raises(error, match=says):
        network(*nodes, outputs=["d"]).run({"x": X, "w": W})
