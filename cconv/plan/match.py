"""Patterns of cconv/ops/patterns.py found among the nodes, and replaced by the one operator that computes them.

What lies within a pattern may be read by nobody else. The one node stands where the expression's last stood: by then
all inputs are there, and nobody has asked for the output before. The user's graph keeps its nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from cconv.errors import CconvError
from cconv.graph.nodes import Node
from cconv.ops.catalogue import find
from cconv.ops.operator import Call, Operator
from cconv.ops.patterns import COMMUTATIVE, OPSET, PATTERNS, Either, Expression, Match, Pattern, Scalar, Term, Value
from cconv.plan.gradient import Lowered


@dataclass(frozen=True)
class JoinedNode(Node):
    """A node that stands for several of the graph's.

    Attributes:
        chain: those.
        own: its operator, which the catalogue need not have.
    """

    chain: tuple[Node, ...]
    own: Operator

    @property
    def operator(self) -> Operator:
        return self.own


def originals(node: Node) -> tuple[Node, ...]:
    """The nodes of the graph that a node stands for."""
    return node.chain if isinstance(node, JoinedNode) else (node,)


def matched(items: Sequence[Lowered], visible: Collection[str]) -> list[Lowered]:
    """The nodes with patterns replaced, in an order in which they can run.

    Args:
        items: nodes and calls in their order, `gradients_needed` filled in, not yet lowered.
        visible: names of values that are read from outside.
    """
    return Matcher(items, visible).replaced()


class Matcher:
    """The nodes, and who makes and reads their values; see `matched`."""

    def __init__(self, items: Sequence[Lowered], visible: Collection[str]) -> None:
        self.items = items
        self.visible = visible
        self.makers = {item.node.outputs[0]: i for i, item in enumerate(items) if item.node.outputs}
        self.readers: dict[str, set[int]] = {}
        for i, item in enumerate(items):
            for name in item.node.inputs:
                self.readers.setdefault(name, set()).add(i)
        self.taken: set[int] = set()

    def replaced(self) -> list[Lowered]:
        result = list(self.items)
        # From the end, so that of two patterns one within the other the larger is found.
        for root in range(len(self.items) - 1, -1, -1):
            if root not in self.taken and (found := self.first(root)) is not None:
                result[root], match = found
                self.taken.update(match.nodes)
        return [item for i, item in enumerate(result) if i not in self.taken or item is not self.items[i]]

    def first(self, root: int) -> tuple[Lowered, Match] | None:
        """What stands for the first pattern whose expression node `root` gives the value of."""
        for pattern in PATTERNS:
            for match in self.matches(pattern.expression, root, Match()):
                if self.alone(match) and (one := self.one(pattern, match)) is not None:
                    return one, match
        return None

    def matches(self, expression: Expression, i: int, match: Match) -> Iterator[Match]:
        """All ways in which node i's output can be this expression's value, each with what is so known of its names."""
        if isinstance(expression, Either):
            for choice in expression.choices:
                yield from self.matches(choice, i, match)
        elif isinstance(expression, Term):
            node, call = self.items[i].node, self.items[i].call
            operator, terms = node.operator, expression.inputs
            if (node.domain, node.op_type) != ("", expression.type) or len(node.inputs) < len(terms):
                return
            assert operator is not None
            if not expression.test(operator, call):
                return
            named = {**match.named, expression.name: i} if expression.name else match.named
            nodes = match.nodes if i in match.nodes else (*match.nodes, i)
            for order in permutations(range(len(terms))) if node.op_type in COMMUTATIVE else [range(len(terms))]:
                yield from self.inputs(list(zip(terms, order)), i, replace(match, nodes=nodes, named=named))

    def inputs(self, rest: list[tuple[Expression, int]], i: int, match: Match) -> Iterator[Match]:
        """All ways in which node i's inputs of these numbers can be these expressions."""
        if not rest:
            yield match
            return
        (expression, at), *others = rest
        for found in self.input(expression, i, at, match):
            yield from self.inputs(others, i, found)

    def input(self, expression: Expression, i: int, at: int, match: Match) -> Iterator[Match]:
        """All ways in which node i's input number `at` can be this expression."""
        node, call = self.items[i].node, self.items[i].call
        name, known = node.inputs[at], call.constants[at]
        if isinstance(expression, Value):
            if name and match.values.get(expression.name, name) == name:
                yield replace(match, values={**match.values, expression.name: name})
        elif isinstance(expression, Scalar):
            if known is not None and known.size == 1 and expression.fits(known.item()):
                scalars = {**match.scalars, expression.name: call.constant(at, "a factor").item()}
                yield replace(match, scalars=scalars)
        elif name in self.makers:
            yield from self.matches(expression, self.makers[name], match)

    def alone(self, match: Match) -> bool:
        """Whether nobody but the matched nodes reads what they give, the expression's value aside."""
        value = self.items[match.nodes[0]].node.outputs[0]
        for i in match.nodes:
            for name in self.items[i].node.outputs:
                if name and name != value and (name in self.visible or self.readers.get(name, set()) - {*match.nodes}):
                    return False
        return self.taken.isdisjoint(match.nodes)

    def one(self, pattern: Pattern, match: Match) -> Lowered | None:
        """The node and the call that stand for a match; None if its operator is not that after all."""
        parts = {}
        for name, i in match.named.items():
            operator = self.items[i].node.operator
            assert operator is not None
            parts[name] = operator, self.items[i].call
        attributes = pattern.attributes(match.scalars, parts)
        if attributes is None:
            return None
        last = self.items[match.nodes[0]]
        names = tuple(match.values[name] for name in pattern.inputs)
        specs, constants, wanted = {}, {}, set()
        for i in match.nodes:
            call = self.items[i].call
            for at, name in enumerate(self.items[i].node.inputs):
                if name in names:
                    specs[name], known = call.specs[at], call.constants[at]
                    if known is not None:
                        constants[name] = known
                    if call.gradients_needed[at]:
                        wanted.add(name)
        chain = tuple(self.items[i].node for i in sorted(match.nodes))
        label = " + ".join(node.name for node in chain)
        index, outputs = last.node.index, last.node.outputs[:1]
        own = pattern.operator or find("", pattern.type)
        assert own is not None
        node = JoinedNode(index, label, pattern.type, "", OPSET, names, outputs, attributes, chain, own)
        try:
            call = node.call({name: spec for name, spec in specs.items() if spec is not None}, constants)
        except CconvError:  # shapes that broadcast in the expression, but not there
            return None
        call.gradients_needed = [name in wanted for name in names]
        return Lowered(node, call) if _same(call, last.call) else None


def _same(one: Call, other: Call) -> bool:
    """Whether the first outputs have the same shape and dtype."""
    return one.results[0] == other.results[0]
