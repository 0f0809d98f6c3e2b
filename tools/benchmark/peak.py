"""The machine's FMA peak, and programs of single steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import cconv.kernels.gemm.peak as peak
from cconv.kernels import FLOAT32
from cconv.kernels.core.memory import Region
from cconv.kernels.core.step import Program


@dataclass
class Bound:
    """A program with the memory that its steps point to."""

    program: Program
    held: object

    def run(self) -> None:
        self.program.run()


def bound(steps_and_operands: list, threads: int) -> Bound:
    """A program of steps, each bound to its arrays."""
    scratch = Region(max(step.scratch_bytes for step, _ in steps_and_operands) * threads)
    for step, operands in steps_and_operands:
        step.bind([0 if a is None else a.ctypes.data for a in operands], scratch.address, threads)
    return Bound(Program([step for step, _ in steps_and_operands]), (scratch, steps_and_operands))


def peak_program(threads: int) -> tuple[Bound, float]:
    step = peak.Peak(FLOAT32, 200_000, threads * 4)
    operands = [np.array([0.5, 0.5, 0.1], np.float32), np.empty(threads * 4, np.float32)]
    return bound([(step, operands)], threads), step.flops


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
