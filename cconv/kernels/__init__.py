"""Kernels: arithmetic on pointers. Knows no graph, no ONNX, and no Python object inside a loop.

    cpu.py          which build suits this processor
    simd.h tile.h   vector type and register tile, for the ISA they are compiled for
    threads         parallel_for: chunks by shape, the only user of OpenMP
    memory          Region: the only allocator
    step            Step (bind, run) and Program (an array of steps, run without the GIL)
    conv/ gemm/ pool/ norm/ elementwise/ reduce/ move/ quantize/ recurrent/ loss/ update/
                    the kernels: a class, compiled once, and its loops, compiled once for each build
    schedule/       which algorithm computes which convolution; all tuning numbers

The builds are `avx512`, `avx2` and `generic` in float32, and `float64`. This file is the only place that picks one.
`CCONV_ISA` overrides the choice. A build that this processor cannot run is refused here, as it would end the process
with an illegal instruction.
"""

from __future__ import annotations

import importlib
import importlib.util
import os

import numpy as np

from cconv.kernels.cpu import NEEDS, best_build, features

# How many times a waiting thread of libgomp looks for work before it sleeps: about 50 microseconds in all. libgomp's
# default is 60 times as long. On processors that other programs use, too, threads then starve each other: with 20,000
# looks, a step of a small network took 2.3 ms; on one thread it takes 0.25 ms.
SPINS = 5_000

NOT_BUILT = (
    f"cconv: {os.path.dirname(__file__)} holds no compiled kernels. In a clone, build them with `pip install -e .`; "
    "if cconv is installed elsewhere, start Python in another folder."
)


def _load_threads() -> None:
    """Load libgomp, which reads its settings as it is loaded; leave the environment as it was."""
    ours = not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ)
    if ours:
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    try:
        importlib.import_module("cconv.kernels.core.threads")
    except ModuleNotFoundError:
        raise ImportError(NOT_BUILT) from None
    finally:
        if ours:
            del os.environ["GOMP_SPINCOUNT"]


_load_threads()

from cconv.kernels.core.build import Build  # noqa: E402  (libgomp must be loaded by _load_threads)


def builds() -> tuple[str, ...]:
    """Names of the float32 builds that are installed and that this processor can run, widest first."""
    have = features()
    return tuple(
        name for name, needs in NEEDS.items() if needs <= have and importlib.util.find_spec(f"cconv.kernels.{name}")
    )


def _choose() -> str:
    present = builds()
    if not present:
        raise ImportError(NOT_BUILT)
    wish = os.environ.get("CCONV_ISA")
    if not wish:
        return best_build(present)
    if wish not in present:
        raise ImportError(f"CCONV_ISA: {wish!r} is not one of the builds that run here: {', '.join(present)}")
    return wish


FLOAT32 = Build(_choose())
FLOAT64 = Build("float64")


def build_for(dtype: np.dtype | type) -> Build:
    """The build that computes in `dtype` (float32 or float64).

    Raises:
        TypeError: another dtype.
    """
    for build in (FLOAT32, FLOAT64):
        if np.dtype(dtype) == build.dtype:
            return build
    raise TypeError(f"kernels compute in float32 or float64, not in {np.dtype(dtype)}")
