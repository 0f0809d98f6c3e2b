"""Bisect: find the first node whose output differs between cconv and onnxruntime, and which of the two is wrong.

To compare an inner value, both engines run a graph that ends at this value. Each graph has the outputs of one node
only. With all inner values as outputs at once, neither engine could fuse nodes, and an error in a fusion would vanish.

The graph is searched in the way `git bisect` searches a history. Among the ancestors of a node that differs, the middle
one is tried. If the middle node differs, the search continues among its ancestors; if not, the node and its ancestors
are excluded. At the end the inputs of the remaining node are tried one by one, because an error may vanish on one path
(a ReLU sets it to zero) and continue on another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from cconv.errors import CconvError
from cconv.graph.functions import without_functions
from cconv.graph.nodes import Node, needed_for
from cconv.model import Model
from cconv.ops.tensor import Spec
from cconv.plan.plan import inference_plan
from cconv.plan.status import OutOfRange
from cconv.prove.compare import Comparison, compare
from cconv.prove.judge import in_float64
from cconv.prove.providers import NotAvailable, Refused, Running, Target


class Range(NamedTuple):
    """Range of values of one input of a node.

    Attributes:
        name, shape: of the input.
        low, high: smallest and largest finite value, as computed by cconv.
        not_finite: number of values that are NaN or infinite.
        apart: largest difference between cconv's and onnxruntime's values, relative to the largest value.
    """

    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    not_finite: int
    apart: float


@dataclass
class Divergence:
    """The first node whose output differs between cconv and onnxruntime.

    Attributes:
        runs: titles of the runs in which this node is the first that differs.
        node, op_type: name and operator of the node.
        comparison: comparison of the node's output; `comparison.worst` is the index of the element with the largest
            difference.
        ours, theirs: that element in cconv and in onnxruntime.
        reference_ours, reference_theirs: that element computed in float64 from cconv's inputs and from onnxruntime's
            inputs of the node; None if the reference evaluator failed.
        why_no_reference: the error message of the reference evaluator.
        inputs: ranges of the node's inputs.
        fused: whether the difference vanishes if the node's inputs are graph outputs too, which prevents the fusion of
            the node with the nodes before it.
        tolerance: largest accepted relative error.
        scale: largest absolute value of the output.
    """

    runs: list[str]
    node: str
    op_type: str
    comparison: Comparison
    ours: float
    theirs: float
    reference_ours: float | None = None
    reference_theirs: float | None = None
    why_no_reference: str = ""
    inputs: list[Range] = field(default_factory=list)
    fused: bool = False
    tolerance: float = 0.0
    scale: float = 0.0

    @property
    def verdict(self) -> str:
        """Which engine is wrong. Each is compared with a float64 reference computed from the engine's own inputs."""
        if self.comparison.worst is None:
            return self.comparison.note
        if self.reference_ours is None or self.reference_theirs is None:
            return f"no reference result: {self.why_no_reference}"
        wrong = []
        pairs = (("cconv", self.ours, self.reference_ours), ("onnxruntime", self.theirs, self.reference_theirs))
        for who, value, reference in pairs:
            if not _apart(value, reference) <= self.tolerance * self.scale:
                wrong.append(who)
        if len(wrong) == 2:
            return "both differ from the reference"
        if wrong:
            return f"{wrong[0]} is wrong"
        return "both are right for their own inputs, which differ: this node amplifies the difference"

    def __str__(self) -> str:
        c = self.comparison
        element = "" if c.worst is None else "[" + ", ".join(map(str, c.worst)) + "]"
        where = "; ".join(self.runs[:2]) + (f"; and {len(self.runs) - 2} more" if len(self.runs) > 2 else "")
        lines = [f"first difference, {where}: node '{self.node}' ({self.op_type}), output '{c.output}'"]
        if c.worst is not None:
            lines.append(
                f"  {element}: cconv {self.ours:.9g}, onnxruntime {self.theirs:.9g}; "
                f"difference {c.relative_error:.2g} of the largest value"
            )
            if self.reference_ours is not None and self.reference_theirs is not None:
                both = self.reference_ours == self.reference_theirs
                other = "" if both else f" (on cconv's inputs; {self.reference_theirs:.9g} on onnxruntime's)"
                lines.append(f"  float64 reference {self.reference_ours:.9g}{other}")
        lines.append(f"  {self.verdict}")
        if self.fused:
            lines.append("  only if the node is fused with the nodes before it: without fusion, the results agree")
        for r in self.inputs:
            shape = "x".join(map(str, r.shape)) or "scalar"
            odd = f", {r.not_finite} not finite" if r.not_finite else ""
            lines.append(f"  input '{r.name}' {shape}: {r.low:.6g} to {r.high:.6g}{odd}, difference {r.apart:.2g}")
        return "\n".join(lines)


class Bisector:
    """Search a model for the first node that differs between cconv and onnxruntime, for given inputs.

    Args:
        model: the model as cconv loaded it.
        feeds: input name -> array.
        target: the execution provider of onnxruntime.
        level: onnxruntime's level of graph optimization, a key of providers.LEVELS.
        tolerance: largest accepted relative error.

    Raises:
        ModelError: the model exceeds 2 GiB.
    """

    def __init__(self, model: Model, feeds: Mapping[str, np.ndarray], target: Target, level: str, tolerance: float):
        self._model, self._feeds = model, feeds
        self._target, self._level, self._tolerance = target, level, tolerance
        self._proto = model.proto(finished=False)
        if model.ir.functions:
            self._proto = ir.to_proto(without_functions(model.ir, model.limits))
        self._opsets = {opset.domain: opset.version for opset in self._proto.opset_import}
        self._protos = {name: node for node in self._proto.graph.node for name in node.output if name}
        self._nodes = [node for node in model.nodes if any(name in self._protos for name in node.outputs)]
        self._maker = {name: k for k, node in enumerate(self._nodes) for name in node.outputs if name}

    def search(self, outputs: Sequence[str]) -> Divergence | None:
        """Find the first node that differs, searching back from model outputs that differ; None if none is found."""
        starts = sorted({self._maker[name] for name in outputs if name in self._maker})
        start = next((k for k in starts if self._differs(k)), None)
        if start is None:
            return None
        parents = [sorted({self._maker[v] for v in node.inputs if v in self._maker}) for node in self._nodes]
        return self._look_at(first_bad(start, parents, self._differs))

    def starts_at(self, divergence: Divergence) -> bool:
        """Whether the node of `divergence` is the first that differs in this run too."""
        k = next(k for k, node in enumerate(self._nodes) if node.name == divergence.node)
        parents = {self._maker[name] for name in self._nodes[k].inputs if name in self._maker}
        return bool(self._differs(k)) and not any(self._differs(p) for p in parents)

    def _differs(self, k: int) -> bool | None:
        """Whether the outputs of node k differ; None if cconv or onnxruntime cannot run the graph that ends there."""
        compared = self._compared(list(filter(None, self._nodes[k].outputs)))
        return None if compared is None else any(not c.ok for c in compared[0])

    def _compared(
        self, names: Sequence[str]
    ) -> tuple[list[Comparison], dict[str, np.ndarray], dict[str, np.ndarray]] | None:
        """Compare inner values: their comparisons, cconv's arrays and onnxruntime's arrays; None if one cannot run."""
        try:
            theirs = Running(self._ending_at(names), self._target, self._level).run(self._feeds)
            ours = self._ours(names)
        except (NotAvailable, Refused, CconvError):
            return None
        tolerance = self._tolerance
        comparisons = [compare(self._target.name, name, ours[name], theirs[name], tolerance) for name in names]
        return comparisons, ours, theirs

    def _ours(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Compute inner values in cconv, by a plan whose outputs are these values."""
        model = self._model
        plan = inference_plan(
            needed_for(model.nodes, names),
            {name: Spec(value.shape, value.dtype) for name, value in self._feeds.items()},
            names,
            model.weights,
            model.constants,
            limits=model.limits,
        )
        plan.feed(self._feeds)
        try:
            plan.run()
        except OutOfRange as error:
            raise Refused("an index is outside of its axis") from error
        return {name: plan.outputs[name].copy() for name in names}

    def _ending_at(self, names: Sequence[str]) -> bytes:
        """Serialize a copy of the model whose outputs are `names`, without the nodes that these do not depend on."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        needed = {name for node in needed_for(self._nodes, names) for name in node.outputs if name}
        nodes = [node for node in self._proto.graph.node if needed.intersection(node.output)]
        del proto.graph.node[:], proto.graph.output[:]
        proto.graph.node.extend(nodes)
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        try:
            return bytes(proto.SerializeToString())
        except ValueError as error:  # protobuf raises ValueError if a message exceeds 2 GiB
            raise Refused("the model exceeds 2 GiB") from error

    def _look_at(self, k: int) -> Divergence:
        """Describe the difference at node k, the first that differs."""
        node = self._nodes[k]
        compared = self._compared(list(filter(None, node.outputs)))
        assert compared is not None
        comparisons, ours, theirs = compared
        worst = next(c for c in comparisons if not c.ok)
        inputs = list(dict.fromkeys(name for name in node.inputs if name in self._maker))
        # Run again with the node's inputs as outputs too. Each engine then computes the node from exactly these inputs.
        together = self._compared([*inputs, worst.output])
        fused = False
        if together is not None:
            fused = together[0][-1].ok
            if not fused:
                worst = together[0][-1]
                ours[worst.output], theirs[worst.output] = together[1][worst.output], together[2][worst.output]
            mine, other = together[1], together[2]
        else:
            mine, other = {}, {}
        initializers = {tensor.name: tensor for tensor in self._proto.graph.initializer}
        weights = {**self._model.weights, **self._model.constants}
        for name in dict.fromkeys(filter(None, node.inputs)):
            if name in self._feeds:
                mine[name] = other[name] = self._feeds[name]
            elif name in initializers:
                other[name] = onnx.numpy_helper.to_array(initializers[name])
                mine[name] = np.array(weights.get(name, other[name]))
        return self._judged(node, worst, ours[worst.output], theirs[worst.output], mine, other, fused)

    def _judged(
        self,
        node: Node,
        worst: Comparison,
        ours: np.ndarray,
        theirs: np.ndarray,
        mine: dict[str, np.ndarray],
        other: dict[str, np.ndarray],
        fused: bool,
    ) -> Divergence:
        """Compute the float64 reference of the worst element, from cconv's inputs and from onnxruntime's.

        Args:
            worst: comparison of the output with the difference.
            ours, theirs: the output in cconv and in onnxruntime.
            mine, other: inputs of the node by name, as cconv and as onnxruntime computed them.
            fused: see Divergence.
        """
        names = [name for name in dict.fromkeys(filter(None, node.inputs)) if name in mine and name in other]
        result = Divergence(
            runs=[],
            node=node.name,
            op_type=node.op_type,
            comparison=worst,
            ours=np.nan,
            theirs=np.nan,
            inputs=[_range(name, mine[name], other[name]) for name in names],
            fused=fused,
            tolerance=self._tolerance,
        )
        if worst.worst is None:
            return result
        at = worst.worst
        result.ours, result.theirs = _number(ours[at]), _number(theirs[at])
        result.scale = max(_largest(ours), _largest(theirs))
        proto = self._protos[worst.output]
        operator = node.operator
        alone = operator is not None and operator.per_example and node.inputs[0] in mine and len(at) > 0
        values = []
        for side in (mine, other):
            arrays = {name: side[name] for name in names}
            place = at
            if alone and arrays[node.inputs[0]].shape[:1] == ours.shape[:1]:  # evaluate one example only, to save time
                arrays[node.inputs[0]] = arrays[node.inputs[0]][at[0] : at[0] + 1]
                place = (0, *at[1:])
            outputs, why = in_float64(proto, self._opsets, arrays)
            if worst.output in outputs and len(place) == outputs[worst.output].ndim:
                values.append(_number(outputs[worst.output][place]))
            else:
                result.why_no_reference = why or "the output of onnx's evaluator has another shape"
                return result
        result.reference_ours, result.reference_theirs = values
        return result


def first_bad(bad: int, parents: Sequence[Sequence[int]], differs: Callable[[int], bool | None]) -> int:
    """Find a node that differs although none of its parents does, searching back from a node that differs.

    Args:
        bad: index of a node that differs.
        parents: for each node, the indices of the nodes that compute its inputs; all are smaller than its own index.
        differs: whether a node differs; None if unknown. Such a node is skipped.
    """
    known: dict[int, bool | None] = {bad: True}

    def ask(k: int) -> bool | None:
        if k not in known:
            known[k] = differs(k)
        return known[k]

    def ancestors(k: int) -> set[int]:
        result: set[int] = set()
        pending = list(parents[k])
        while pending:
            node = pending.pop()
            if node not in result:
                result.add(node)
                pending += parents[node]
        return result

    while True:
        candidates = sorted(ancestors(bad))
        while candidates:
            middle = candidates[len(candidates) // 2]
            answer = ask(middle)
            if answer:
                bad = middle
                keep = ancestors(middle)
                candidates = [k for k in candidates if k in keep]
            else:
                drop = {middle} if answer is None else {middle, *ancestors(middle)}
                candidates = [k for k in candidates if k not in drop]
        earlier = next((p for p in parents[bad] if ask(p)), None)
        if earlier is None:
            return bad
        bad = earlier


def _range(name: str, ours: np.ndarray, theirs: np.ndarray) -> Range:
    finite = ours[np.isfinite(ours)] if ours.dtype.kind in "fiub" else ours[:0]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    apart = compare("", name, ours, theirs, 0.0).relative_error
    return Range(name, ours.shape, low, high, int(ours.size - finite.size), apart)


def _number(value: np.generic | float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _largest(array: np.ndarray) -> float:
    if array.dtype.kind not in "fiub":
        return 0.0
    values = np.abs(array[np.isfinite(array)].astype(np.float64))
    return float(values.max(initial=0.0))


def _apart(value: float, reference: float) -> float:
    if value == reference or (np.isnan(value) and np.isnan(reference)):
        return 0.0
    return abs(value - reference)
