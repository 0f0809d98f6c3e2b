"""The first node that differs: operators of cconv are made wrong on purpose, one node at a time."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cconv.kernels.elementwise.elementwise as elementwise
from cconv import nn
from cconv.model import load
from cconv.ops import fused
from cconv.ops.catalogue import CATALOGUE
from cconv.prove import check
from cconv.prove.bisect import first_bad
from cconv.prove.judge import in_float64, with_pads

WRONG = 0.01


def block(channels, hidden):
    """An inverted residual of MobileNet's second version: expand, depthwise, project, add."""
    return nn.Residual(
        nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def mobilenet():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        *[block(16, 48) for _ in range(6)],
        nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(16, 10),
    ).build((3, 24, 24), seed=0)  # fmt: skip
    assert len(model.nodes) > 50
    rng = np.random.default_rng(3)
    for name in model.weights:
        if name.endswith("running_mean"):
            model.weights[name] = rng.normal(0, 0.3, model.weights[name].shape).astype(np.float32)
    return model


@pytest.fixture
def x(mobilenet):
    mobilenet.edited()
    return np.random.default_rng(1).standard_normal((3, 3, 24, 24)).astype(np.float32)


def spoil(monkeypatch, net, name, operator):
    """Let the node of this name give everything 1 % too large, where it runs by itself."""
    net.edited()  # plans made before are right
    operator = type(operator)
    right = operator.forward

    def forward(self, lower, call):
        results = list(right(self, lower, call))
        if call.name == name:
            factor = lower.external(np.full(results[0].shape, 1 + WRONG, lower.dtype), "wrong")
            wrong = lower.tensor(results[0].shape, results[0].layout)
            step = elementwise.Binary(lower.build, "mul", wrong.size)
            lower.emit(step, reads=[results[0], lower.as_layout(factor, wrong.layout)], writes=[wrong])
            results[0] = wrong
        return results

    monkeypatch.setattr(operator, "forward", forward)


@pytest.mark.parametrize("k", [0, 1, 2, 20, 27, 30, -3, -1])
def test_the_node_that_is_wrong_is_named(mobilenet, x, monkeypatch, k):
    monkeypatch.setattr("cconv.plan.plan.fused", lambda lower, items, visible: list(items))
    node = mobilenet.nodes[k]
    spoil(monkeypatch, mobilenet, node.name, node.operator)
    report = check(mobilenet, x, nodes=True)
    assert not report.ok
    (found,) = report.divergences
    assert found.node == node.name
    assert found.verdict == "cconv is wrong"
    assert found.ours == pytest.approx(found.theirs * (1 + WRONG), rel=1e-4)
    assert found.reference_theirs == pytest.approx(found.theirs, rel=1e-5)
    assert found.reference_ours == pytest.approx(found.theirs, rel=1e-5)
    assert not found.fused
    text = str(report)
    assert f"node '{node.name}' ({node.op_type})" in text
    assert "cconv is wrong" in text
    for name in node.inputs:
        assert f"input '{name}'" in text


def test_an_error_in_what_is_fused_is_found_where_it_shows(mobilenet, x, monkeypatch):
    """A wrong fused convolution, right as soon as its parts run one by one."""
    victim = [node for node in mobilenet.nodes if node.op_type == "Conv"][7]
    right = fused.Fusion.forward

    def forward(self, lower, call):
        (result,) = right(self, lower, call)
        if self.head.name != victim.name:
            return [result]
        factor = lower.as_layout(lower.external(np.full(result.shape, 1.01, lower.dtype), "wrong"), result.layout)
        wrong = lower.tensor(result.shape, result.layout)
        lower.emit(elementwise.Binary(lower.build, "mul", wrong.size), reads=[result, factor], writes=[wrong])
        return [wrong]

    monkeypatch.setattr(fused.Fusion, "forward", forward)
    mobilenet.edited()
    (found,) = check(mobilenet, x, nodes=True).divergences
    after = mobilenet.nodes[mobilenet.nodes.index(victim) + 1]
    assert found.node == after.name
    assert found.op_type == "BatchNormalization"
    assert found.verdict == "cconv is wrong"
    assert found.fused
    assert "only if the node is fused with the nodes before it" in str(found)


def test_nothing_is_searched_for_where_nothing_differs(mobilenet, x):
    report = check(mobilenet, x, nodes=True, optimization="all", batches=[1, 4])
    assert report.ok, str(report)
    assert not report.divergences
    assert len(report.runs) >= 8


def test_one_paragraph_for_all_runs_that_part_at_the_same_node(mobilenet, x, monkeypatch):
    monkeypatch.setattr("cconv.plan.plan.fused", lambda lower, items, visible: list(items))
    node = mobilenet.nodes[25]
    spoil(monkeypatch, mobilenet, node.name, node.operator)
    report = check(mobilenet, x, nodes=True, optimization=["off", "full"], batches=[1, 5])
    (found,) = report.divergences
    assert found.node == node.name
    titles = [f"CPU at {level}, batch {batch}" for level in ("off", "full") for batch in (1, 5)]
    assert found.runs == titles
    lines = str(report).splitlines()
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["CPU", level, batch] for level in ("off", "full") for batch in "15"
    ]


# Models of one or two nodes.


def model(nodes, inputs, arrays=(), outputs=("y",), functions=(), opset=21, domains=()):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, dims) for name, kind, dims in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in dict(arrays).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    proto = helper.make_model(graph, functions=list(functions), opset_imports=imports)
    proto.ir_version = 10
    return load(proto)


FLOAT = TensorProto.FLOAT


def test_nan_on_both_sides_is_no_difference(monkeypatch):
    """The square root of negative numbers; then a node that is wrong beside them."""
    nodes = [
        helper.make_node("Sqrt", ["x"], ["s"], name="sqrt"),
        helper.make_node("Mul", ["s", "s"], ["q"], name="square"),
        helper.make_node("Abs", ["q"], ["y"], name="abs"),
    ]
    net = model(nodes, [("x", FLOAT, ["N", 8])])
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    report = check(net, x, nodes=True)
    assert report.ok and not report.divergences
    assert np.isnan(net.run(x)).any()
    spoil(monkeypatch, net, "square", CATALOGUE["", "Mul"])
    (found,) = check(net, x, nodes=True).divergences
    assert found.node == "square"
    assert found.verdict == "cconv is wrong"
    (given,) = found.inputs
    assert given.not_finite == int((x < 0).sum())
    assert "not finite" in str(found)


def test_whole_numbers_must_be_equal(monkeypatch):
    nodes = [
        helper.make_node("Neg", ["x"], ["n"], name="neg"),
        helper.make_node("ArgMax", ["n"], ["y"], name="arg", axis=1),
    ]
    net = model(nodes, [("x", FLOAT, ["N", 8])])
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    assert check(net, x, nodes=True).ok
    right = CATALOGUE["", "ArgMax"].forward

    def forward(self, lower, call):
        wrong = call.inputs[0]
        call.inputs[0] = lower.external(np.arange(32, dtype=np.float32).reshape(4, 8), "wrong")
        results = right(lower, call)
        call.inputs[0] = wrong
        return results

    monkeypatch.setattr(type(CATALOGUE["", "ArgMax"]), "forward", forward)
    net.edited()
    report = check(net, x, nodes=True)
    (found,) = report.divergences
    assert found.node == "arg"
    assert found.ours == 7 != found.theirs == found.reference_theirs
    assert found.verdict == "cconv is wrong"


def test_functions_are_looked_into(monkeypatch):
    function = helper.make_function(
        "my", "Twice", ["a"], ["b"],
        [
            helper.make_node("Add", ["a", "a"], ["sum"], name="inner add"),
            helper.make_node("Sigmoid", ["sum"], ["b"], name="inner sigmoid"),
        ],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Neg", ["x"], ["n"], name="neg"),
        helper.make_node("Twice", ["n"], ["t"], name="call", domain="my"),
        helper.make_node("Abs", ["t"], ["y"], name="abs"),
    ]
    net = model(nodes, [("x", FLOAT, ["N", 8])], functions=[function], domains=["my"])
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    assert check(net, x, nodes=True).ok
    inner = next(node for node in net.nodes if node.op_type == "Sigmoid")
    spoil(monkeypatch, net, inner.name, inner.operator)
    (found,) = check(net, x, nodes=True).divergences
    assert (found.node, found.op_type) == (inner.name, "Sigmoid")
    assert found.verdict == "cconv is wrong"


def test_a_difference_within_an_if_is_that_of_the_if(monkeypatch):
    def branch(op_type):
        nodes = [helper.make_node(op_type, ["n"], [f"{op_type}.out"], name=f"{op_type} inside")]
        return helper.make_graph(nodes, op_type, [], [onnx.ValueInfoProto(name=f"{op_type}.out")])

    nodes = [
        helper.make_node("Neg", ["x"], ["n"], name="neg"),
        helper.make_node("If", ["yes"], ["c"], name="if", then_branch=branch("Sigmoid"), else_branch=branch("Abs")),
        helper.make_node("Abs", ["c"], ["y"], name="abs"),
    ]
    net = model(nodes, [("x", FLOAT, ["N", 8])], {"yes": np.array(True)})
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    assert check(net, x, nodes=True).ok
    spoil(monkeypatch, net, "Sigmoid inside", CATALOGUE["", "Sigmoid"])
    (found,) = check(net, x, nodes=True).divergences
    assert (found.node, found.op_type) == ("if", "If")
    assert found.verdict == "cconv is wrong"


def test_weights_that_differ_are_seen_at_the_node_that_reads_them(monkeypatch):
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w"], ["y"], name="conv"),
    ]
    w = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    net = model(nodes, [("x", FLOAT, ["N", 3, 6, 6])], {"w": w})
    exported = net.proto()
    net.weights["w"][1] += 0.1
    monkeypatch.setattr(net, "proto", lambda **options: exported)
    (found,) = check(net, rng.standard_normal((2, 3, 6, 6)).astype(np.float32), nodes=True).divergences
    assert found.node == "conv"
    assert found.verdict.startswith("both are right for their own inputs")
    apart = {given.name: given.apart for given in found.inputs}
    assert apart["r"] == 0 and apart["w"] == pytest.approx(0.1 / np.abs(net.weights["w"]).max(), rel=1e-3)


def test_both_right_where_a_node_makes_rounding_larger(monkeypatch):
    """1000 (s - 0.5) of a sigmoid near 0.5, checked more sharply than float32 allows."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"], name="sigmoid"),
        helper.make_node("Sub", ["s", "half"], ["d"], name="sub"),
    ]
    net = model(nodes, [("x", FLOAT, ["N", 64])], {"half": np.array(0.5, np.float32)}, outputs=["d"])
    x = np.random.default_rng(0).uniform(0, 1e-5, (4, 64)).astype(np.float32)
    report = check(net, x, nodes=True, tolerance=1e-3)
    if not report.ok:  # where the two round alike there is nothing to see
        (found,) = report.divergences
        assert found.node == "sub"
        assert found.verdict.startswith("both are right")


# The search by itself.


@pytest.mark.parametrize("wrong", range(12))
def test_first_bad_on_a_ladder(wrong):
    """Two rails with rungs; everything after the wrong node differs."""
    parents = [[k - 2] if k >= 2 else [] for k in range(12)]
    for k in (5, 8, 11):
        parents[k].append(k - 1)
    descends = {wrong}
    for k in range(12):
        if descends.intersection(parents[k]):
            descends.add(k)
    end = 11 if 11 in descends else 10
    assert end in descends
    assert first_bad(end, parents, lambda k: k in descends) == wrong


def test_first_bad_where_an_error_is_swallowed_on_the_way():
    """2 is wrong; its child 3 hides it, 4 does not; both go into 6. What cannot be told is passed over."""
    parents = [[], [0], [1], [2], [2], [3], [4, 5]]
    assert first_bad(6, parents, lambda k: k in (2, 4, 6)) == 2
    assert first_bad(6, parents, lambda k: None if k == 4 else k in (2, 6)) == 6
    assert first_bad(6, parents, lambda k: k >= 1) == 1


# The judge.


def alone(op_type, **attributes):
    """A node of a 3x2 window, its inputs, and what onnxruntime says of it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((2, 3, 10, 7)).astype(np.float32)}
    if "Conv" in op_type:
        arrays["w"] = rng.standard_normal((3, 3, 3, 2)).astype(np.float32)
    node = helper.make_node(op_type, list(arrays), ["y"], name="node", kernel_shape=[3, 2], **attributes)
    inputs = [helper.make_tensor_value_info(name, FLOAT, value.shape) for name, value in arrays.items()]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="y")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return node, arrays, session.run(None, arrays)[0]


WINDOWS = ["Conv", "MaxPool", "AveragePool", "ConvTranspose"]


@pytest.mark.parametrize("op_type", WINDOWS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    "padding",
    [
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
        {"pads": [1, 0, 1, 1]},
        {"pads": [0, 1, 2, 0]},
    ],
    ids=str,
)
def test_the_judge_pads_as_onnxruntime_does(op_type, stride, padding):
    node, arrays, expected = alone(op_type, strides=[stride, 1], **padding)
    found, why = in_float64(node, {"": 17}, arrays)
    assert not why
    assert found["y"].dtype == np.float64
    assert found["y"].shape == expected.shape
    assert np.allclose(found["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op_type", ["Conv", "MaxPool"])
def test_the_judge_counts_dilation_into_auto_pad(op_type):
    """onnxruntime 1.32 does not; its own shape inference, and the standard, do."""
    attributes = {"strides": [2, 1], "dilations": [2, 1]}
    node, arrays, expected = alone(op_type, pads=[1, 0, 2, 1], **attributes)
    node.attribute.remove(next(a for a in node.attribute if a.name == "pads"))
    node.attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    explicit = with_pads(node, {name: value.shape for name, value in arrays.items()})
    (pads,) = [list(a.ints) for a in explicit.attribute if a.name == "pads"]
    assert pads == [1, 0, 2, 1]
    found, _ = in_float64(node, {"": 17}, arrays)
    assert found["y"].shape == expected.shape == (2, 3, 5, 7)
    assert np.allclose(found["y"], expected, rtol=1e-5, atol=1e-5)


def test_the_judge_leaves_other_nodes_as_they_are():
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 0, 0])
    assert with_pads(node, {"x": (1, 1, 4, 4), "w": (1, 1, 2, 2)}) is node


def test_the_judge_says_why_it_has_no_answer():
    node = helper.make_node("NoSuchThing", ["x"], ["y"])
    found, why = in_float64(node, {"": 17}, {"x": np.ones(3, np.float32)})
    assert not found
    assert "NoSuchThing" in why
