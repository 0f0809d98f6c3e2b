"""BatchNormalization nodes that have no running statistics, but are given what other nodes compute.

PyTorch's exporters write the standardisation of weights so. It is another operator to a plan; the user's graph keeps
its nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from cconv.graph.nodes import Node
from cconv.ops.batchnorm import WithGivenStatistics
from cconv.ops.operator import Operator

# By the node's training_mode.
OPERATORS = {mode: WithGivenStatistics(mode) for mode in (False, True)}

# What exporters put between an initializer and a node that reads it.
STORES = ("Constant", "Identity")


@dataclass(frozen=True)
class GivenStatistics(Node):
    """A BatchNormalization that normalises with statistics computed by the model."""

    @property
    def operator(self) -> Operator:
        return OPERATORS[bool(self.attributes.get("training_mode", 0))]


def with_given_statistics(nodes: Iterable[Node]) -> list[Node]:
    """The nodes of one graph, and which BatchNormalization is given its mean or variance by another node."""
    nodes = list(nodes)
    computed = {name for node in nodes if node.op_type not in STORES for name in node.outputs if name}
    return [
        GivenStatistics(**{field.name: getattr(node, field.name) for field in fields(Node)})
        if (node.domain, node.op_type) == ("", "BatchNormalization") and not computed.isdisjoint(node.inputs[3:5])
        else node
        for node in nodes
    ]
