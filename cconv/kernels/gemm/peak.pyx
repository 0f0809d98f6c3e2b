"""Measures the peak rate of FMA instructions of this machine, with which benchmarks compare the kernels."""

from cconv.kernels.core.build cimport Build
from cconv.kernels.core.step cimport Step


cdef class Peak(Step):
    """Runs a loop of FMA instructions only.

    Args:
        build: the Build whose compiled loop runs.
        rounds: iterations of the loop in each chunk.
        chunks: number of independent runs of the loop, which threads share.

    Attributes:
        flops: floating-point operations of one run of the step.

    Operands: seed (3,), the start values of the FMA chains; results (chunks,), their sums.
    """

    cdef Py_ssize_t rounds
    cdef readonly double flops

    def __init__(self, Build build, Py_ssize_t rounds, Py_ssize_t chunks):
        self.operands = 2
        self.loop = build.loop("peak", "multiply_adds")
        self.arguments = &self.rounds
        self.rounds, self.chunks = rounds, chunks
        self.flops = 2.0 * rounds * chunks * build.table("peak", "SIZES")["chains"] * build.lanes
