"""Which algorithm computes which convolution.

    algorithm    what a plan asks: the table in force where it knows the geometry, else the built-in rule
    builtin      the rule: depthwise convolutions by channels, Winograd's algorithm where WINOGRAD_PAYS, input gradients
                 of few channels by scattering where SCATTER_PAYS, few outputs with several pixels as one where
                 ABREAST_PAYS
    candidates   all algorithms that can compute a pass; tools/tune.py measures these
    in_force     the table that the environment variable CCONV_SCHEDULE names; see tuned.py

The choice depends on the geometry and on the table, never on the number of threads, so that it cannot change a bit
of a result. Another table may: Winograd's algorithm rounds otherwise than the direct one. The table is read once in a
process, and all plans follow it.

An algorithm is a kernel module that offers

    packed_size(build, geometry, role)               elements of the packed weights; 0: they are read in ONNX's order
    Pack(build, geometry, role)                      the step that packs them
    Gather(build, geometry, role, bias, residual, clamp)
                                                     role "forward" or "input_gradient"; .workspace elements;
                                                     .add_statistics(), if it can: see conv/direct.pyx

or, for the role "weight_gradient",

    WeightGradient(build, geometry)
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import warnings
from typing import Any, NamedTuple

from cconv.errors import ScheduleError, explain
from cconv.kernels import FLOAT32, Build
from cconv.kernels.conv.geometry import ConvGeometry
from cconv.kernels.schedule.tuned import Table, read

PRECISIONS = ("fast", "direct")
ROLES = ("forward", "input_gradient", "weight_gradient")
VARIABLE = "CCONV_SCHEDULE"

# By pass: the algorithm that can compute every geometry, and Winograd's.
DIRECT = {"forward": "conv_direct", "input_gradient": "conv_direct", "weight_gradient": "conv_weight"}
WINOGRAD = {"forward": "conv_winograd", "input_gradient": "conv_winograd", "weight_gradient": "conv_winograd_weight"}
DEPTHWISE = "conv_depthwise"
SCATTER = "conv_scatter"
ABREAST = "conv_abreast"

# Modules of cconv.kernels.conv by the names that tables use.
MODULES = {
    "conv_direct": "direct",
    "conv_weight": "weight",
    "conv_winograd": "winograd",
    "conv_winograd_weight": "winograd_weight",
    "conv_depthwise": "depthwise",
    "conv_scatter": "scatter",
    "conv_abreast": "abreast",
}


def implementation(name: str) -> Any:
    """The kernel module of an algorithm, imported when it is first asked for."""
    return importlib.import_module(f"cconv.kernels.conv.{MODULES[name]}")


class Limits(NamedTuple):
    """The least sizes of a geometry."""

    channels: int  # channels or outputs, the fewer of them
    size: int  # height or width, before or after, the smallest of them

    def hold(self, g: ConvGeometry) -> bool:
        return min(g.channels, g.outputs) >= self.channels and min(*g.input[1:], *g.output[1:]) >= self.size


# Winograd's rms error stays within 5 times the direct algorithm's: of 179 geometries drawn at random the worst had 4.6
# times (512 channels at 4x4), most 2.5 to 4; with 16 channels it is 3.5 times at 6x6, 4.2 at 4x4. No table goes below.
# (In weight gradients the worst had 9.7 times, most 5 to 8.)
ACCURATE = (Limits(channels=16, size=6), Limits(channels=64, size=4))

# From any of these on Winograd's algorithm saves time, where tiles of 4x4 outputs fill the map (4x4, 6x6 and more, but
# not 5x5, of which 39 in 64 outputs would be thrown away) and are as many in all as a weight's transform is worth.
# Elsewhere its transforms cost more than they save. See MEASURED.
WINOGRAD_PAYS = (Limits(channels=32, size=6), Limits(channels=64, size=4), Limits(channels=16, size=10))
LEAST_FILLED = 0.5
LEAST_TILES = 8
# Whole vectors of channels on every build, so that all of them choose alike.
WIDEST = 16


# Where conv_scatter computes at least so many times fewer vectors than conv_direct, it is faster; adding a product to
# the buffer costs as much as summing over so many outputs. Zen 4, AVX-512, one thread, milliseconds, direct / scatter;
# batch, channels, outputs, size of x, kernel, stride, pad:
#     saves 3.9   32 x 6 -> 16, 14, 5, 1, 0    1.74 / 0.24        1.25   16 x 10 -> 20, 24, 3, 1, 1   0.50 / 0.38
#     saves 3.8   16 x 3 -> 64, 64, 4, 2, 1    5.59 / 2.05        1.20   32 x 6 -> 16, 12, 3, 1, 1    0.20 / 0.15
#     saves 3.0   16 x 20 -> 50, 12, 5, 1, 0   1.69 / 0.59        1.05   16 x 40 -> 64, 12, 3, 2, 1   0.34 / 0.28
#     saves 2.1   16 x 64 -> 64, 12, 5, 1, 0   4.31 / 2.12        1.00   8 x 8 -> 8, 56, 3, 1, 1      0.55 / 0.56
#     saves 1.5   8 x 4 -> 4, 56, 3, 1, 1      0.30 / 0.18        0.94   16 x 32 -> 64, 32, 2, 2, 0   0.76 / 0.87
SCATTER_PAYS = 1.1
SCATTER_ADDS = 4

# Where conv_abreast multiplies so many times fewer vectors than conv_direct and conv_weight, it is faster. Zen 4,
# AVX-512, one thread, times as fast, forward / weight gradient; batch, channels, outputs, size of x, kernel, stride:
#     saves 4.0   4 x 32 -> 1, 64, 5, 1    3.6 / 3.6        1.7   16 x 1 -> 6, 28, 5, 1     1.6 / 1.6
#     saves 3.0   4 x 64 -> 3, 64, 9, 1    2.7 / 2.8        1.6   8 x 3 -> 8, 64, 7, 2      1.5 / 1.6
#     saves 2.4   4 x 16 -> 2, 64, 3, 1    2.2 / 2.6        1.5   16 x 3 -> 8, 32, 3, 1     1.5 / 1.7
#     saves 2.0   4 x 64 -> 4, 64, 3, 1    1.8 / 1.9        1.1   4 x 16 -> 20, 32, 5, 1    1.05 / 1.01
ABREAST_PAYS = 1.2


class Measured(NamedTuple):
    """Milliseconds of a 3x3 convolution of stride 1, direct and Winograd: batch 16, AVX-512, 2 threads, square maps."""

    processor: str
    channels: int  # and outputs
    size: int
    forward: tuple[float, float]
    weight_gradient: tuple[float, float]


# An input gradient takes as long as a forward pass, within 5 %. By tools/tune.py on tools/shapes/winograd.txt; the
# builds for AVX2 and SSE2 change the times, but hardly where one algorithm overtakes the other.
MEASURED = (
    Measured("Zen 5", 64, 56, (7.83, 3.48), (8.41, 3.70)),
    Measured("Zen 5", 128, 28, (7.53, 2.80), (8.41, 3.51)),
    Measured("Zen 5", 256, 14, (7.66, 3.99), (8.69, 4.07)),
    Measured("Zen 5", 512, 7, (8.38, 4.21), (8.90, 3.66)),
    Measured("Zen 4", 64, 4, (0.103, 0.077), (0.121, 0.057)),
    Measured("Zen 4", 128, 4, (0.405, 0.213), (0.454, 0.174)),
    Measured("Zen 4", 32, 6, (0.083, 0.067), (0.068, 0.050)),
    Measured("Zen 4", 64, 6, (0.267, 0.154), (0.247, 0.137)),
    Measured("Zen 4", 32, 7, (0.081, 0.065), (0.086, 0.048)),
    Measured("Zen 4", 64, 7, (0.305, 0.153), (0.299, 0.131)),
    Measured("Zen 4", 128, 7, (1.23, 0.474), (1.14, 0.441)),
    Measured("Zen 4", 512, 7, (17.9, 8.61), (20.0, 7.31)),
    Measured("Zen 4", 16, 10, (0.040, 0.036), (0.044, 0.041)),
    Measured("Zen 4", 16, 14, (0.070, 0.060), (0.082, 0.067)),
    Measured("Zen 4", 32, 14, (0.267, 0.158), (0.293, 0.140)),
    Measured("Zen 4", 64, 14, (1.04, 0.465), (1.11, 0.448)),
    Measured("Zen 4", 256, 14, (17.0, 7.66), (19.2, 8.11)),
    Measured("Zen 4", 16, 28, (0.279, 0.179), (0.329, 0.25)),
    Measured("Zen 4", 32, 28, (1.06, 0.442), (1.23, 0.503)),
    Measured("Zen 4", 64, 28, (4.23, 1.52), (4.66, 1.79)),
    Measured("Zen 4", 128, 28, (16.8, 5.63), (18.7, 6.95)),
    Measured("Zen 4", 16, 56, (1.11, 0.689), (1.35, 0.976)),
    Measured("Zen 4", 32, 56, (4.38, 1.81), (4.9, 2.32)),
    Measured("Zen 4", 64, 56, (17.0, 6.63), (19.9, 7.99)),
    Measured("Zen 4", 32, 112, (17.8, 7.73), (19.6, 11.0)),
)


def algorithm(geometry: ConvGeometry, role: str, precision: str = "fast", build: Build = FLOAT32) -> str:
    """Name of the kernel module that computes this pass of this geometry.

    Args:
        role: one of ROLES.
        precision: "fast" also allows Winograd's algorithm, whose rms error is up to 5 times a direct float32
            convolution's, in weight gradients up to 10 times; "direct" does not.
        build: the build that computes; a table speaks for the float32 build in use alone.

    Raises:
        ScheduleError: CCONV_SCHEDULE names a table that cannot be used.
    """
    table = in_force() if build is FLOAT32 else None
    choice = table.find(geometry, role) if table else None
    return choice.algorithms[precision] if choice else builtin(geometry, role, precision, build)


def builtin(geometry: ConvGeometry, role: str, precision: str = "fast", build: Build = FLOAT32) -> str:
    """The choice where no table has one."""
    able = candidates(geometry, role, precision, build)
    # A depthwise convolution has one input channel per output: as a matrix product it would use one row of
    # a tile; by channels it is bound by memory, as it should be.
    if geometry.depthwise:
        return DEPTHWISE
    pays = (
        geometry.channels % WIDEST == geometry.outputs % WIDEST == 0
        and WINOGRAD[role] in able
        and any(limits.hold(geometry) for limits in WINOGRAD_PAYS)
        and winograd_fills(geometry)
    )
    if pays:
        return WINOGRAD[role]
    if SCATTER in able and scatter_saves(geometry) >= SCATTER_PAYS:
        return SCATTER
    if ABREAST in able and implementation("conv_abreast").saves(build, geometry) >= ABREAST_PAYS:
        return ABREAST
    return DIRECT[role]


def winograd_fills(g: ConvGeometry) -> bool:
    """Whether tiles of 4x4 outputs are enough, and enough of each is wanted."""
    tiles = math.prod(-(-size // 4) for size in g.output)
    return g.batch * tiles >= LEAST_TILES and math.prod(g.output) >= LEAST_FILLED * 16 * tiles


def scatter_saves(g: ConvGeometry) -> float:
    """How many times as many vectors of products conv_direct computes for an input gradient as conv_scatter.

    The one has a vector of channels for each tap and pixel of dx, borders included, the other a kernel row's taps and
    channels side by side for each pixel of dy, and what these are added to is read and written again.
    """
    pixels = math.prod(g.input) / max(1, math.prod(g.stride) * math.prod(g.output))
    gathered = pixels * g.kernel[2] * -(-g.channels // WIDEST)
    scattered = -(-g.kernel[2] * g.channels // WIDEST) * (1 + SCATTER_ADDS / max(1, g.outputs))
    return gathered / max(1, scattered)


def candidates(geometry: ConvGeometry, role: str, precision: str = "fast", build: Build = FLOAT32) -> list[str]:
    """Names of all kernel modules that can compute this pass of this geometry as precisely as asked for."""
    found = [DIRECT[role]]
    if geometry.groups == geometry.channels == geometry.outputs:
        found.append(DEPTHWISE)
    accurate = any(limits.hold(geometry) for limits in ACCURATE)
    if role == "input_gradient" and implementation("conv_scatter").supports(build, geometry):
        found.append(SCATTER)
    if role != "input_gradient" and implementation("conv_abreast").supports(build, geometry):
        found.append(ABREAST)
    if precision == "fast" and accurate and implementation("conv_winograd").supports(build, geometry):
        found.append(WINOGRAD[role])
    return found


@functools.cache
def named_table() -> Table | None:
    """The table in the file that CCONV_SCHEDULE names, for whichever build; None: it names none.

    Raises:
        ScheduleError: the file cannot be read, is no table, or has this build compute a geometry by an algorithm that
            cannot.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    table = read(path)
    for choice in table.choices if table.build == FLOAT32.name else ():
        if choice.role not in ROLES or set(choice.algorithms) != set(PRECISIONS):
            rule = f"a choice is for {', '.join(ROLES)}, with algorithms for {' and '.join(PRECISIONS)}"
            raise table.error(rule, f"{choice.role!r} with {dict(choice.algorithms)}")
        for precision in PRECISIONS:
            able = candidates(choice.geometry, choice.role, precision)
            if choice.algorithms[precision] not in able:
                rule = f"the {choice.role} of {choice.geometry}, {precision}, is computed by {' or '.join(able)}"
                raise table.error(rule, choice.algorithms[precision])
    return table


@functools.cache
def in_force() -> Table | None:
    """The table that `algorithm` follows.

    One that was tuned for another build is left aside with a warning, not refused: CCONV_ISA may change from run to run
    while CCONV_SCHEDULE stays, and what the built-in rule chooses is right, if slower.

    Raises:
        ScheduleError: see named_table.
    """
    table = named_table()
    if table is None or table.build == FLOAT32.name:
        return table
    rule = f"is used by the build it was tuned for, and {FLOAT32.name} is in use"
    fix = "The built-in choices are in force; tune this build with tools/tune.py, or unset CCONV_SCHEDULE."
    warnings.warn(explain(table.place, rule, table.build, fix), stacklevel=2)
    return None


def describe() -> str:
    """The schedule in force, for show_versions."""
    try:
        table = named_table()
    except ScheduleError as error:
        return f"none. {error}"
    if table is None:
        return "built in"
    text = f"{table.path}: {len(table.choices)} choices, {table.build} on {table.processor}, {table.date}"
    return text if table.build == FLOAT32.name else f"built in, not {text}"
