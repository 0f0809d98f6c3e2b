"""Chooses the algorithm that computes a pass of a convolution.

    algorithm    the choice that a plan uses: that of the tuned table if it has this geometry, else that of `builtin`
    builtin      the built-in rule: conv_depthwise for depthwise convolutions; Winograd's algorithm for geometries in
                 WINOGRAD_PAYS; conv_scatter for input gradients with few channels if it saves SCATTER_PAYS;
                 conv_abreast for few output channels if it saves ABREAST_PAYS; else the direct algorithm
    candidates   all algorithms that can compute a pass; tools/tune.py measures these
    in_force     the tuned table, from the file that the environment variable CCONV_SCHEDULE names; see tuned.py

The choice depends on the geometry and on the table, never on the number of threads. So the number of threads does not
change a bit of any result. A different table may change results, because Winograd's algorithm rounds differently from
the direct one. The table is read once per process and applies to all plans.

An algorithm is a kernel module that provides

    packed_size(build, geometry, role)               elements of the packed weights; 0: weights are read unpacked
    Pack(build, geometry, role)                      the step that packs them
    Gather(build, geometry, role, bias, residual, clamp)
                                                     the step that computes the pass; role "forward" or
                                                     "input_gradient"; attribute `workspace`: elements; optional
                                                     method add_statistics(): see conv/direct.pyx

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

# For each pass: the algorithm that can compute every geometry, and Winograd's algorithm.
DIRECT = {"forward": "conv_direct", "input_gradient": "conv_direct", "weight_gradient": "conv_weight"}
WINOGRAD = {"forward": "conv_winograd", "input_gradient": "conv_winograd", "weight_gradient": "conv_winograd_weight"}
DEPTHWISE = "conv_depthwise"
SCATTER = "conv_scatter"
ABREAST = "conv_abreast"

# The modules of cconv.kernels.conv, by the names of algorithms in tables.
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
    """The kernel module of an algorithm. It is imported at the first call."""
    return importlib.import_module(f"cconv.kernels.conv.{MODULES[name]}")


class Limits(NamedTuple):
    """Smallest sizes of a convolution's geometry for which a rule holds."""

    channels: int  # lower limit of both the input and the output channels
    size: int  # lower limit of height and width, of both x and y

    def hold(self, g: ConvGeometry) -> bool:
        return min(g.channels, g.outputs) >= self.channels and min(*g.input[1:], *g.output[1:]) >= self.size


# Geometries for which the rms error of Winograd's algorithm is at most 5 times that of the direct algorithm. Of 179
# random geometries the worst had 4.6 times (512 channels at 4x4), most had 2.5 to 4 times. With 16 channels the factor
# is 3.5 at 6x6 and 4.2 at 4x4. Tables cannot choose Winograd's algorithm for smaller geometries. In weight gradients
# the worst had 9.7 times, most had 5 to 8 times.
ACCURATE = (Limits(channels=16, size=6), Limits(channels=64, size=4))

# The built-in rule uses Winograd's algorithm if any of these limits holds and two more conditions are met. Tiles of 4x4
# outputs must fill at least LEAST_FILLED of the map: 4x4 and 6x6 do, 5x5 does not, because 39 of 64 computed outputs
# would be discarded. There must be at least LEAST_TILES tiles in all images, so that transforming the weights pays.
# Otherwise the transforms cost more time than they save. See MEASURED.
WINOGRAD_PAYS = (Limits(channels=32, size=6), Limits(channels=64, size=4), Limits(channels=16, size=10))
LEAST_FILLED = 0.5
LEAST_TILES = 8
# Lanes of the widest vector of any build. Winograd's algorithm requires whole vectors of channels. The built-in rule
# requires multiples of WIDEST channels, so that it chooses the same algorithm on every build.
WIDEST = 16


# SCATTER_PAYS: conv_scatter is used for an input gradient if conv_direct computes at least this many times as many
# vectors of products. SCATTER_ADDS: adding a product to conv_scatter's buffer costs as much as summing over this many
# output channels. Measurements: factor saved; geometry as batch x channels -> outputs, size of x, kernel, stride, pad;
# milliseconds, direct / scatter (Zen 4, AVX-512, one thread).
#     saves 3.9   32 x 6 -> 16, 14, 5, 1, 0    1.74 / 0.24        1.25   16 x 10 -> 20, 24, 3, 1, 1   0.50 / 0.38
#     saves 3.8   16 x 3 -> 64, 64, 4, 2, 1    5.59 / 2.05        1.20   32 x 6 -> 16, 12, 3, 1, 1    0.20 / 0.15
#     saves 3.0   16 x 20 -> 50, 12, 5, 1, 0   1.69 / 0.59        1.05   16 x 40 -> 64, 12, 3, 2, 1   0.34 / 0.28
#     saves 2.1   16 x 64 -> 64, 12, 5, 1, 0   4.31 / 2.12        1.00   8 x 8 -> 8, 56, 3, 1, 1      0.55 / 0.56
#     saves 1.5   8 x 4 -> 4, 56, 3, 1, 1      0.30 / 0.18        0.94   16 x 32 -> 64, 32, 2, 2, 0   0.76 / 0.87
SCATTER_PAYS = 1.1
SCATTER_ADDS = 4

# conv_abreast is used if conv_direct or conv_weight multiplies at least this many times as many vectors. Measurements:
# factor saved; geometry as batch x channels -> outputs, size of x, kernel, stride; speed-up, forward pass / weight
# gradient (Zen 4, AVX-512, one thread).
#     saves 4.0   4 x 32 -> 1, 64, 5, 1    3.6 / 3.6        1.7   16 x 1 -> 6, 28, 5, 1     1.6 / 1.6
#     saves 3.0   4 x 64 -> 3, 64, 9, 1    2.7 / 2.8        1.6   8 x 3 -> 8, 64, 7, 2      1.5 / 1.6
#     saves 2.4   4 x 16 -> 2, 64, 3, 1    2.2 / 2.6        1.5   16 x 3 -> 8, 32, 3, 1     1.5 / 1.7
#     saves 2.0   4 x 64 -> 4, 64, 3, 1    1.8 / 1.9        1.1   4 x 16 -> 20, 32, 5, 1    1.05 / 1.01
ABREAST_PAYS = 1.2


class Measured(NamedTuple):
    """Times of a 3x3 convolution of stride 1 in ms, (direct, Winograd). Batch 16, AVX-512, 2 threads, square maps."""

    processor: str
    channels: int  # number of input channels and of output channels
    size: int  # height and width
    forward: tuple[float, float]
    weight_gradient: tuple[float, float]


# Times measured by tools/tune.py on tools/shapes/winograd.txt. An input gradient takes as long as a forward pass,
# within 5 %. With AVX2 and SSE2 the times differ, but the sizes from which Winograd's algorithm is faster hardly
# change.
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
    """The name of the algorithm that computes a pass of a convolution: that of the tuned table, or the built-in choice.

    Args:
        role: one of ROLES.
        precision: "fast" allows Winograd's algorithm, whose rms error is up to 5 times that of a direct float32
            convolution, in weight gradients up to 10 times. "direct" excludes it.
        build: the Build that computes. The tuned table applies only to the float32 build in use.

    Raises:
        ScheduleError: CCONV_SCHEDULE names a table that cannot be used.
    """
    table = in_force() if build is FLOAT32 else None
    choice = table.find(geometry, role) if table else None
    return choice.algorithms[precision] if choice else builtin(geometry, role, precision, build)


def builtin(geometry: ConvGeometry, role: str, precision: str = "fast", build: Build = FLOAT32) -> str:
    """The name of the algorithm that the built-in rule chooses, if no tuned table has the geometry."""
    able = candidates(geometry, role, precision, build)
    # A depthwise convolution has one input channel per output channel. As a matrix product it would use one column of a
    # register tile. With channels as vector lanes it is limited only by memory bandwidth.
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
    """Whether there are at least LEAST_TILES tiles of 4x4 outputs, filled with outputs to at least LEAST_FILLED."""
    tiles = math.prod(-(-size // 4) for size in g.output)
    return g.batch * tiles >= LEAST_TILES and math.prod(g.output) >= LEAST_FILLED * 16 * tiles


def scatter_saves(g: ConvGeometry) -> float:
    """Estimated speed-up of conv_scatter over conv_direct for an input gradient: the ratio of vectors of products.

    conv_direct computes vectors of channels for each tap and each pixel of dx, including the padding. conv_scatter
    computes, for each pixel of dy, vectors of all taps and channels of a kernel row. It also reads and writes the
    buffer to which these are added, which SCATTER_ADDS accounts for.
    """
    pixels = math.prod(g.input) / max(1, math.prod(g.stride) * math.prod(g.output))
    gathered = pixels * g.kernel[2] * -(-g.channels // WIDEST)
    scattered = -(-g.kernel[2] * g.channels // WIDEST) * (1 + SCATTER_ADDS / max(1, g.outputs))
    return gathered / max(1, scattered)


def candidates(geometry: ConvGeometry, role: str, precision: str = "fast", build: Build = FLOAT32) -> list[str]:
    """The names of all algorithms that can compute a pass of a convolution at a precision, "fast" or "direct"."""
    names = [DIRECT[role]]
    if geometry.groups == geometry.channels == geometry.outputs:
        names.append(DEPTHWISE)
    accurate = any(limits.hold(geometry) for limits in ACCURATE)
    if role == "input_gradient" and implementation("conv_scatter").supports(build, geometry):
        names.append(SCATTER)
    if role != "input_gradient" and implementation("conv_abreast").supports(build, geometry):
        names.append(ABREAST)
    if precision == "fast" and accurate and implementation("conv_winograd").supports(build, geometry):
        names.append(WINOGRAD[role])
    return names


@functools.cache
def named_table() -> Table | None:
    """The table in the file that CCONV_SCHEDULE names, even if it was tuned for another build. None: no file is named.

    Raises:
        ScheduleError: the file cannot be read or is not a table; or the table is for this build and chooses an
            algorithm that cannot compute the geometry.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    table = read(path)
    for choice in table.choices if table.build == FLOAT32.name else ():
        if choice.role not in ROLES or set(choice.algorithms) != set(PRECISIONS):
            rule = f"a choice must be for {', '.join(ROLES)}, with algorithms for {' and '.join(PRECISIONS)}"
            raise table.error(rule, f"{choice.role!r} with {dict(choice.algorithms)}")
        for precision in PRECISIONS:
            able = candidates(choice.geometry, choice.role, precision)
            if choice.algorithms[precision] not in able:
                rule = f"the {choice.role} of {choice.geometry}, {precision}, can be computed by {' or '.join(able)}"
                raise table.error(rule, choice.algorithms[precision])
    return table


@functools.cache
def in_force() -> Table | None:
    """The tuned table that `algorithm` uses. None: no table is named, or it was tuned for another build.

    A table for another build is ignored with a warning, not an error: CCONV_ISA may change between runs while
    CCONV_SCHEDULE stays, and the built-in choices are correct, if slower.

    Raises:
        ScheduleError: see named_table.
    """
    table = named_table()
    if table is None or table.build == FLOAT32.name:
        return table
    rule = f"applies only to the build it was tuned for, and {FLOAT32.name} is in use"
    fix = "The built-in choices are used instead. Tune this build with tools/tune.py, or unset CCONV_SCHEDULE."
    warnings.warn(explain(table.place, rule, table.build, fix), stacklevel=2)
    return None


def describe() -> str:
    """One line of text that says which table of algorithm choices is used, for show_versions."""
    try:
        table = named_table()
    except ScheduleError as error:
        return f"none. {error}"
    if table is None:
        return "built in"
    text = f"{table.path}: {len(table.choices)} choices, {table.build} on {table.processor}, {table.date}"
    return text if table.build == FLOAT32.name else f"built in, not {text}"
