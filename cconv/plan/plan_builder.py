"""PlanBuilder: collects tensors and steps while a graph is lowered, then places them in memory.

It implements `cconv.ops.operator.Lowering`, the interface that operators, losses and optimizers use. Steps are emitted
in the order in which they run. A buffer's lifetime goes from the first step that writes it to the last that reads it.
So of the forward pass only what the backward pass reads stays in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import cconv.kernels.elementwise.elementwise as elementwise
from cconv.errors import DTypeError, UnsafeModelError, explain
from cconv.graph.limits import DEFAULT, Limits
from cconv.kernels import build_for
from cconv.kernels.core.control import CONTROL
from cconv.kernels.core.memory import Region, zeros
from cconv.kernels.core.step import Program, gains_by_threads
from cconv.kernels.core.threads import useful_threads
from cconv.kernels.move.copy import Copy
from cconv.ops.tensor import Buffer, Layout, Tensor
from cconv.plan.arena import Lifetime, place

Operands = Sequence[Tensor | None]

# Recompute threshold in FLOPs per byte. A feature map is recomputed in the backward pass if the step that reads it does
# at least this many FLOPs per byte of the map. ResNet-50 at batch 16 on a Xeon: memory falls from 1.68 to 1.52 GB, and
# a step takes 0.8 % longer.
RECOMPUTE_FLOPS_PER_BYTE = 200
# Smaller feature maps are never recomputed.
RECOMPUTE_BYTES = 1 << 20


@dataclass
class Emission:
    """A step with its operands, before they have addresses.

    Attributes:
        more: further operands that are read; they come after all others.
    """

    step: Any
    reads: tuple[Tensor | None, ...]
    updates: tuple[Tensor | None, ...]
    writes: tuple[Tensor | None, ...]
    label: str
    inplace: bool = False
    more: tuple[Tensor | None, ...] = ()

    @property
    def operands(self) -> tuple[Tensor | None, ...]:
        return self.reads + self.updates + self.writes + self.more

    def read_instead(self, old: Tensor, new: Tensor) -> None:
        """Let the step read `new`, a tensor of the same size, in place of `old`."""
        self.reads = tuple(new if t is old else t for t in self.reads)


@dataclass
class Memory:
    """The result of `PlanBuilder.finish`.

    Attributes:
        program: the bound steps, phase after phase.
        marks: index of the first step of each phase that was opened with `mark`.
        labels: for each step, the node (or other place) it came from.
        arena_bytes, scratch_bytes: memory taken; scratch is for all threads together.
        view: array on a tensor's memory, in the order in which it lies there.
    """

    program: Program
    marks: dict[str, int]
    labels: list[str]
    arena_bytes: int
    scratch_bytes: int
    view: Callable[[Tensor], np.ndarray]
    held: tuple[Any, ...]
    """Owners of all memory that the steps point to."""


@dataclass
class PlanBuilder:
    """A plan under construction. See `cconv.ops.operator.Lowering` for the methods operators use.

    Args:
        dtype: float32 or float64, what all floating-point tensors are computed in.
        training: whether nodes behave as in training.
        limits: memory beyond which the plan is refused.
        precision: "fast" or "direct"; see kernels/schedule/algorithms.py.
        fuse: whether chains of nodes are run as one where cconv can; see fuse.py.
        batchnorm: gives the mode of a BatchNormalization node by its name.
        differentiate: see Lowering; set for each node before it is lowered.
        is_trained: whether the weight in this buffer changes between runs.
        owned: whether this gradient belongs to a single value and is not an output of the plan. Only then may a step
            overwrite it.
    """

    dtype: np.dtype
    training: bool = False
    limits: Limits = DEFAULT
    precision: str = "fast"
    fuse: bool = True
    batchnorm: Callable[[str], str] = lambda name: "frozen"
    is_trained: Callable[[Buffer], bool] = lambda buffer: False
    owned: Callable[[Tensor], bool] = lambda gradient: False
    differentiate: Callable[[int, Sequence[int]], list[Tensor]] = field(init=False)
    label: str = ""
    emissions: list[Emission] = field(default_factory=list)
    prologue: list[Emission] = field(default_factory=list)
    late: list[Emission] = field(default_factory=list)
    checks_before_update: list[Emission] = field(default_factory=list)
    pinned: list[Tensor] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dtype = np.dtype(self.dtype)
        self.build = build_for(self.dtype)
        self.control = self.external(zeros((1,), CONTROL), "control")
        # id(source) -> (source, its copy in the other layout). Holding the source keeps its id unique.
        self._converted: dict[int, tuple[Tensor, Tensor]] = {}
        # ids of the buffers that the prologue writes. `prologue` holds the buffers.
        self._derived: set[int] = set()
        # id(tensor) -> (tensor, function that emits its recomputation)
        self._recomputable: dict[int, tuple[Tensor, Callable[[], Tensor]]] = {}
        # id(tensor) -> (tensor, its recomputation, the step that does it)
        self._recomputed: dict[int, tuple[Tensor, Tensor, Emission]] = {}

    def batchnorm_mode(self, name: str) -> str:
        return self.batchnorm(name)

    # Tensors.

    def tensor(
        self, shape: Sequence[int], layout: Layout = Layout.ROW_MAJOR, dtype: Any = None, name: str = ""
    ) -> Tensor:
        dtype = _plain(np.dtype(self.dtype if dtype is None else dtype), name or self.label)
        shape = tuple(int(n) for n in shape)
        layout = layout if len(shape) >= 3 else Layout.ROW_MAJOR
        return Tensor(Buffer(math.prod(shape) * dtype.itemsize, name or self.label), shape, dtype, layout)

    def external(self, array: np.ndarray, name: str) -> Tensor:
        """A row-major tensor on an array that lives outside the arena."""
        if not array.flags.c_contiguous:
            raise AssertionError(f"{name}: not contiguous")
        _plain(array.dtype, name)
        return Tensor(Buffer(array.nbytes, name, array), array.shape, array.dtype)

    def as_layout(self, tensor: Tensor, layout: Layout) -> Tensor:
        if tensor.layout is layout or len(tensor.shape) < 3:
            return tensor
        free = tensor.with_layout(layout)
        if free is not None:
            return free
        if id(tensor) not in self._converted:
            result = self.tensor(tensor.shape, layout, tensor.dtype, tensor.buffer.name)
            step = Copy(self.build, tensor.shape, tensor.strides, result.strides, itemsize=tensor.dtype.itemsize)
            self.emit(step, reads=[tensor], writes=[result])
            self._converted[id(tensor)] = (tensor, result)
        return self._converted[id(tensor)][1]

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        b = self.as_layout(b, a.layout)
        result = self.tensor(a.shape, a.layout)
        self.emit(elementwise.Binary(self.build, "add", a.size), reads=[a, b], writes=[result], inplace=True)
        return result

    # Steps.

    def mark(self, phase: str) -> None:
        """The next step is the first of `phase`."""
        self.marks[phase] = len(self.emissions)

    def emit(
        self,
        step: Any,
        reads: Operands = (),
        writes: Operands = (),
        updates: Operands = (),
        inplace: bool = False,
    ) -> None:
        self.emissions.append(Emission(step, tuple(reads), tuple(updates), tuple(writes), self.label, inplace))

    def statistics_epilogue(self, x: Tensor) -> tuple[Tensor | None, list[int] | None]:
        writer, _ = self._writer(x)
        add_statistics = getattr(writer.step, "add_statistics", None) if writer else None
        lengths = add_statistics() if add_statistics else None
        if writer is None or lengths is None:
            return None, None
        partials = self.tensor((len(lengths), 2, x.shape[1]), dtype=float)
        writer.writes += (partials,)
        return partials, lengths

    def parameter_sums_epilogue(
        self, dy: Tensor, activation: tuple[str, float, float] | None, reads: Operands
    ) -> tuple[Tensor | None, int]:
        writer, behind = self._writer(dy)
        # dz overwrites dy. That is not allowed if a later step uses dy, or if dy is also another value's gradient.
        if activation is not None and (_touches(behind, dy) or not self.owned(dy)):
            return None, 0
        add_parameter_sums = getattr(writer.step, "add_parameter_sums", None) if writer else None
        blocks = add_parameter_sums(activation) if add_parameter_sums else None
        if writer is None or blocks is None:
            return None, 0
        partials = self.tensor((blocks, 2, dy.shape[1]), dtype=float)
        writer.writes += (partials,)
        writer.more = tuple(reads)
        return partials, blocks

    def recomputable(self, tensor: Tensor, recompute: Callable[[], Tensor]) -> None:
        self._recomputable[id(tensor)] = (tensor, recompute)

    def recompute_or_keep(self, tensor: Tensor, flops: int) -> Tensor:
        key = id(tensor)
        if "backward" not in self.marks or key not in self._recomputable:
            return tensor
        if tensor.nbytes < RECOMPUTE_BYTES or flops < RECOMPUTE_FLOPS_PER_BYTE * tensor.nbytes:
            return tensor
        if key not in self._recomputed:
            copy = self._recomputable[key][1]()
            self._recomputed[key] = (tensor, copy, self.emissions[-1])
        return self._recomputed[key][1]

    def drop_needless_recomputations(self, begin: int) -> None:
        """Drop a recomputation if a step from index `begin` on still reads the original tensor: the original stays in
        memory anyway. Steps that read the recomputed tensor read the original instead."""
        for tensor, copy, emission in self._recomputed.values():
            if _touches(self.emissions[begin:], tensor):
                self.emissions = [e for e in self.emissions if e is not emission]
                for e in self.emissions[begin:]:
                    e.read_instead(copy, tensor)

    def accumulate(self, gradient: Tensor, more: Tensor, alone: bool) -> Tensor:
        """The sum of two gradients of one value.

        If the step that writes `more` can add a residual, it adds `gradient`, and the sum is `more` itself. Otherwise
        the sum is a new tensor.

        Args:
            alone: whether `more` is the gradient of this value only.
        """
        writer, behind = self._writer(more)
        add_residual = getattr(writer.step, "add_residual", None) if writer else None
        if (
            writer is None
            or add_residual is None
            or not alone
            or more.layout is not gradient.layout
            or _touches(behind, more)
            or _touches([writer, *behind], gradient)
            or (at := add_residual()) is None
        ):
            return self.add(gradient, more)
        writer.reads = (*writer.reads[:at], gradient, *writer.reads[at + 1 :])
        return more

    def _writer(self, x: Tensor) -> tuple[Emission | None, list[Emission]]:
        """The last step that writes x, and the steps after it."""
        for i in range(len(self.emissions) - 1, -1, -1):
            if any(t is x for t in self.emissions[i].writes):
                return self.emissions[i], self.emissions[i + 1 :]
        return None, []

    def derive(self, step: Any, reads: Operands, writes: Operands) -> None:
        # Tensors in the arena change from run to run, except those that the prologue computes.
        fixed = all(
            tensor is None
            or id(tensor.buffer) in self._derived
            or (tensor.buffer.array is not None and not self.is_trained(tensor.buffer))
            for tensor in reads
        )
        if not fixed:
            self.emit(step, reads, writes)
            return
        self.prologue.append(Emission(step, tuple(reads), (), tuple(writes), self.label))
        self._derived.update(id(tensor.buffer) for tensor in writes if tensor is not None)

    def after_update(self, step: Any, check: Any, reads: Operands = (), updates: Operands = ()) -> None:
        self.checks_before_update.append(Emission(check, tuple(reads), (), (), self.label))
        self.late.append(Emission(step, tuple(reads), tuple(updates), (), self.label))

    def pin(self, tensor: Tensor) -> None:
        """Keep the tensor's memory its own from the first step to the last."""
        self.pinned.append(tensor)

    def release(self) -> None:
        """Drop the functions that refer to the builder. These reference cycles would keep the weights and the plan's
        memory alive until the garbage collector runs."""
        self.__dict__.pop("differentiate", None)
        self._recomputable.clear()
        self._recomputed.clear()

    # Memory.

    def finish(self, threads: int) -> Memory:
        """Lay out the arena and give every step the addresses of its operands. The program can then run."""
        emissions = self.prologue + self.emissions + self.late
        offset = len(self.prologue)
        marks = {"body": offset, **{phase: offset + i for phase, i in self.marks.items()}}
        marks["late"] = offset + len(self.emissions)

        owner = _merge_inplace(emissions, self._derived.union(id(tensor.buffer) for tensor in self.pinned))
        lifetimes: dict[int, Lifetime] = {}
        for i, emission in enumerate(emissions):
            for tensor in emission.operands:
                if tensor is None or tensor.buffer.array is not None:
                    continue
                root = owner(tensor.buffer)
                life = lifetimes.setdefault(id(root), Lifetime(root.nbytes, i, i))
                life.nbytes = max(life.nbytes, tensor.buffer.nbytes)
                life.last = i
                # A result of the prologue that the body reads must survive all further runs.
                if id(tensor.buffer) in self._derived and i >= offset:
                    life.last = len(emissions)
        for tensor in self.pinned:
            if tensor.buffer.array is None:
                root = owner(tensor.buffer)
                lifetimes[id(root)] = Lifetime(root.nbytes, 0, len(emissions))

        offsets, arena_bytes = place(list(lifetimes.values()))
        offset_of = dict(zip(lifetimes, offsets))
        if arena_bytes > self.limits.arena_bytes:
            raise UnsafeModelError(
                explain(
                    "plan",
                    f"takes at most {self.limits.arena_bytes / 1e9:.1f} GB of memory (Limits.arena_bytes)",
                    f"{arena_bytes / 1e9:.1f} GB",
                    "Use smaller batches, or load the model with a higher limit.",
                )
            )
        arena = Region(arena_bytes)
        for emission in emissions:
            emission.step.weigh(sum(t.nbytes for t in emission.operands if t is not None), arena_bytes)
        # The program may start at its first step or at the body, and may stop before any phase.
        ends = [*marks.values(), len(emissions)]
        runs = [emission.step for emission in emissions]
        worth = any(gains_by_threads(runs[begin:end]) for begin in (0, offset) for end in ends if end > begin)
        threads = useful_threads(threads) if worth else 1
        per_thread = max((emission.step.scratch_bytes for emission in emissions), default=0)
        scratch = Region(per_thread * threads)

        def address(tensor: Tensor | None) -> int:
            if tensor is None:
                return 0
            if tensor.buffer.array is not None:
                return tensor.buffer.array.ctypes.data
            return arena.address + offset_of[id(owner(tensor.buffer))]

        for emission in emissions:
            emission.step.bind([address(t) for t in emission.operands], scratch.address, threads)

        def view(tensor: Tensor) -> np.ndarray:
            if tensor.buffer.array is not None:
                return tensor.buffer.array
            begin = offset_of[id(owner(tensor.buffer))]
            flat = np.asarray(arena)[begin : begin + tensor.nbytes].view(tensor.dtype)
            return flat.reshape(tensor.memory_shape)

        return Memory(
            # Training flushes subnormal numbers to zero. The momentum of a weight without gradient (a dead unit)
            # shrinks into that range and stays there. After about 800 steps a step then took 1.7 times as long for
            # LeNet-5 at batch 8, and 3.3 times for the demo's network at batch 1.
            program=Program([emission.step for emission in emissions], flush=self.training),
            marks=marks,
            labels=[emission.label for emission in emissions],
            arena_bytes=arena_bytes,
            scratch_bytes=scratch.nbytes,
            view=view,
            held=(arena, scratch, *(t.buffer.array for e in emissions for t in e.operands if t is not None)),
        )


def _plain(dtype: np.dtype, name: str) -> np.dtype:
    """The dtype, whose elements must be bytes that kernels may move: strings are references to Python's objects.

    Raises:
        DTypeError: they are not.
    """
    if dtype.hasobject:
        raise DTypeError(explain(f"value {name!r}", "holds numbers or bools", "strings"))
    return dtype


def _touches(emissions: Sequence[Emission], tensor: Tensor) -> bool:
    """Whether one of these steps reads or writes the tensor's memory."""
    return any(t is not None and t.buffer is tensor.buffer for e in emissions for t in e.operands)


def _merge_inplace(emissions: list[Emission], pinned: set[int]) -> Callable[[Buffer], Buffer]:
    """Let each `inplace` step overwrite its first input if no later step needs that input.

    Returns a function from a buffer to the buffer whose memory it shares.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, emission in enumerate(emissions):
        for tensor in emission.operands:
            if tensor is not None:
                first.setdefault(id(tensor.buffer), i)
                last[id(tensor.buffer)] = i
    merged: dict[int, Buffer] = {}

    def owner(buffer: Buffer) -> Buffer:
        while id(buffer) in merged:
            buffer = merged[id(buffer)]
        return buffer

    for i, emission in enumerate(emissions):
        if not emission.inplace or emission.reads[0] is None or emission.writes[0] is None:
            continue
        source, target = emission.reads[0].buffer, emission.writes[0].buffer
        root = owner(source)
        others = [t.buffer for t in emission.operands if t is not None and t is not emission.reads[0]]
        if (
            source.array is None
            and target.array is None
            and id(root) not in pinned
            and id(source) not in pinned
            and id(target) not in pinned
            and last[id(source)] == i
            and last[id(root)] == i
            and first[id(target)] == i
            and source.nbytes == target.nbytes
            and all(owner(other) is not root for other in others if other is not target)
        ):
            merged[id(target)] = root
            last[id(root)] = max(last[id(root)], last[id(target)])
    return owner
