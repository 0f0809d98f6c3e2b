"""Which BatchNormalization is given its statistics by other nodes."""

import pytest

from cconv.graph.nodes import Node
from cconv.graph.statistics import with_given_statistics


def node(op_type, inputs, outputs, domain=""):
    return Node(0, outputs[0], op_type, domain, 17, tuple(inputs), tuple(outputs), {"epsilon": 0.5})


@pytest.mark.parametrize(
    ("before", "given"),
    [("ReduceMean", True), ("Relu", True), ("Identity", False), ("Constant", False), (None, False)],
)
@pytest.mark.parametrize("place", [3, 4])
def test_statistics_that_a_node_computes(before, given, place):
    inputs = ["x", "scale", "bias", "mean", "variance"]
    nodes = [node(before, ["w"], [inputs[place]])] if before else []
    nodes += [node("Relu", ["w"], ["scale"]), node("BatchNormalization", inputs, ["y"])]
    *others, last = with_given_statistics(nodes)
    assert others == nodes[:-1]
    assert last.operator.averages is not given
    for field in ("index", "name", "op_type", "inputs", "outputs", "attributes"):
        assert getattr(last, field) == getattr(nodes[-1], field)


def test_other_domains_and_operators_stay():
    mean = node("ReduceMean", ["w"], ["mean"])
    for each in (
        node("BatchNormalization", ["x", "a", "b", "mean", "mean"], ["y"], "other"),
        node("Sum", ["mean"] * 5, ["y"]),
    ):
        assert with_given_statistics([mean, each]) == [mean, each]
