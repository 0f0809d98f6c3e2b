"""Fusion: several nodes are replaced by one, in the plan only. Patterns come first (match.py), then chains.

A chain goes from a node to the only reader of its output, and on from there, as far as a fusion of cconv/ops/fused.py
accepts the nodes. A value that a second node reads, or that is read from outside the plan, must be computed, so it ends
a chain. The fused node takes the position of the chain's last node: all inputs are computed by then, and no node before
reads the output.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cconv.ops.fused import FUSIONS, ChainNode, Fusion
from cconv.ops.operator import Call, Lowering
from cconv.plan.gradient import Lowered
from cconv.plan.match import JoinedNode, matched, originals


def fused(lower: Lowering, items: Sequence[Lowered], visible: Collection[str]) -> list[Lowered]:
    """The nodes with patterns and chains replaced, in an order in which they can run.

    Args:
        items: nodes and calls in their order, with `gradients_needed` filled in, not yet lowered.
        visible: names of values that are read from outside.
    """
    items = matched(items, visible)
    readers: dict[str, list[tuple[int, int]]] = {}
    for i, item in enumerate(items):
        for at, name in enumerate(item.node.inputs):
            readers.setdefault(name, []).append((i, at))

    def follower(i: int) -> tuple[int, int] | None:
        """The only reader of node i's output: its index, and which of its inputs. None if there are several readers."""
        value, *others = items[i].node.outputs
        uses = readers.get(value, [])
        if not value or len(uses) != 1 or value in visible:
            return None
        if any(name and (name in readers or name in visible) for name in others):
            return None
        return uses[0]

    taken: set[int] = set()
    replaced: dict[int, Lowered] = {}
    for i in range(len(items)):
        if i in taken:
            continue
        for fusion in FUSIONS:
            chain, parts = [i], [_part(items[i])]
            if not fusion.starts(lower, parts[0]):
                continue
            while (step := follower(chain[-1])) is not None and step[0] not in taken:
                part = _part(items[step[0]], step[1])
                if not fusion.continues(lower, parts, part):
                    break
                chain.append(step[0])
                parts.append(part)
            if len(chain) > 1:
                taken.update(chain)
                replaced[chain[-1]] = _joined([items[k] for k in chain], fusion(parts))
                break
    return [replaced.get(i, item) for i, item in enumerate(items) if i in replaced or i not in taken]


def _part(item: Lowered, at: int | None = None) -> ChainNode:
    assert item.node.operator is not None
    return ChainNode(item.node.operator, item.call, at)


def _joined(chain: Sequence[Lowered], fusion: Fusion) -> Lowered:
    """The node and the call that stand for a chain."""
    first, last = chain[0].node, chain[-1].node
    name = " + ".join(item.node.name for item in chain)
    inputs: list[str] = []
    call = Call(name, fusion.type, first.opset, first.index, output_count=1)
    for item, part in zip(chain, fusion.parts):
        for i, value in enumerate(item.node.inputs):
            inside = i == part.at
            inputs.append("" if inside else value)
            call.specs.append(None if inside else part.call.specs[i])
            call.constants.append(None if inside else part.call.constants[i])
            call.gradients_needed.append(part.call.gradients_needed[i] and not inside)
    call.results = fusion.shapes(call)
    node = JoinedNode(
        first.index, name, fusion.type, "", first.opset, tuple(inputs), last.outputs[:1], {},
        tuple(node for item in chain for node in originals(item.node)), fusion,
    )  # fmt: skip
    return Lowered(node, call)
