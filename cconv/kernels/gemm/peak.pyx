"""The FMA peak of this machine: the limit that benchmarks compare with."""

from cconv.kernels.core.build cimport Build
from cconv.kernels.core.step cimport Step


cdef class Peak(Step):
    """Loops of nothing but FMAs.

    Args:
        build: whose loop runs.
        rounds: of the loop, in a chunk.
        chunks: independent runs of the loop.

    Attributes:
        flops: floating-point operations of a run of the step.

    Operands: seed (3,), results (chunks,).
    """

    cdef Py_ssize_t rounds
    cdef readonly double flops

    def __init__(self, Build build, Py_ssize_t rounds, Py_ssize_t chunks):
        self.operands = 2
        self.loop = build.loop("peak", "multiply_adds")
        self.arguments = &self.rounds
        self.rounds, self.chunks = rounds, chunks
        self.flops = 2.0 * rounds * chunks * build.table("peak", "SIZES")["chains"] * build.lanes
