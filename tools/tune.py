#!/usr/bin/env python3
"""Measure which algorithm computes each convolution fastest on this machine, and write a table of choices for cconv.

    python tools/tune.py --out schedule.json --model model.onnx --batch 16
    python tools/tune.py --out schedule.json --shapes tools/shapes/resnet_50_v1_5.txt tools/shapes/vgg_19.txt
    CCONV_SCHEDULE=schedule.json python train.py          cconv uses the table

A pass is the forward pass, the gradient of the input or the gradient of the weights of a convolution. Each pass that
more than one algorithm can compute is timed with all of them alternately (A B A B), including packing of weights as in
a training step. Results are compared before anything is timed. The built-in choice stays unless another algorithm is at
least 3 % faster, by the median of the ratios of neighbouring runs.

A table applies to the build it was measured with (CCONV_ISA) and to batches up to 4 times larger or smaller than the
measured one. To cover more, give several batch sizes, as in `--batch 1,16`. The number of threads does not affect a
choice, so with a table results are bit-identical at any number of threads. Another table may give other bits.

Progress goes to stderr, a readable table to stdout. The file is written at the end, completely or not at all.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from bench import count, counts
from benchmark.layers import our_pass, parse, random
from benchmark.peak import peak_program, seconds
from benchmark.report import aligned

import cconv
from cconv import versions
from cconv.errors import CconvError
from cconv.files import atomic_write
from cconv.graph.nodes import needed_for
from cconv.graph.walk import Values, calls_of
from cconv.kernels import FLOAT32
from cconv.kernels.conv.geometry import ConvGeometry
from cconv.kernels.schedule import algorithms, tuned
from cconv.ops.conv import Convolution
from cconv.ops.tensor import Spec
from cconv.plan.gradient import mark_needed_gradients
from cconv.train.arrays import batch_shapes

# An algorithm replaces the built-in one if it is at least this many times as fast. A smaller ratio may be noise.
WORTH = 1.03
# Seconds. A measurement repeats the pass until it takes about this long.
TURN = 0.01

# Largest accepted difference of two algorithms, as a share of the root mean square of the result. Correct algorithms
# differ by float32 rounding, Winograd's by up to 1e-4; a wrong tap makes a difference of 1e-1.
TOLERANCE = 1e-3

# Warn if the FMA peak of all threads together is below this share of (number of threads) x (peak of one thread alone).
# The machine is then busy: short loops wait for threads that are not running, so algorithms with many short loops look
# slower than they are.
QUIET = 0.9

Pass = tuple[str, ConvGeometry]


@dataclass
class Measured:
    """The measurements of one pass of one geometry, with all algorithms that can compute it.

    Attributes:
        role: "forward", "input_gradient" or "weight_gradient".
        names: the layers that have this pass and geometry.
        seconds: for each algorithm, the time of each measurement. Measurement i of all algorithms was made in one turn.
    """

    role: str
    geometry: ConvGeometry
    names: list[str]
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ms(self, algorithm: str) -> float:
        """Median milliseconds of an algorithm."""
        return 1e3 * statistics.median(self.seconds[algorithm])

    def gain(self, algorithm: str, precision: str) -> float:
        """How many times as fast as the built-in choice the algorithm is."""
        builtin = self.seconds[algorithms.builtin(self.geometry, self.role, precision)]
        return statistics.median(a / b for a, b in zip(builtin, self.seconds[algorithm]))

    def choice(self, precision: str) -> str:
        """The fastest algorithm if it is at least WORTH times as fast as the built-in one, else the built-in one."""
        able = algorithms.candidates(self.geometry, self.role, precision)
        best = max(able, key=lambda name: self.gain(name, precision))
        builtin = algorithms.builtin(self.geometry, self.role, precision)
        return best if self.gain(best, precision) >= WORTH else builtin


def passes_of_model(path: Path, batch: int) -> list[tuple[str, Pass]]:
    """(layer name, pass) for each convolution pass in a training step of all weights of the model.

    Raises:
        CconvError: the model cannot be loaded or run, or its input shapes are not determined by the batch size.
    """
    model = cconv.load(path)
    shapes = batch_shapes(batch, model.input_specs)
    specs = {name: Spec(shape, model.input_specs[name].dtype) for name, shape in shapes.items()}
    specs.update((name, Spec(array.shape, array.dtype)) for name, array in model.weights.items())
    reached = set(model.weights)
    passes: list[tuple[str, Pass]] = []
    values = Values(specs, model.constants)
    for node, call in calls_of(needed_for(model.nodes, model.output_names), values, model.limits):
        if mark_needed_gradients(node, call, reached):
            reached.update(node.outputs)
        if isinstance(operator := node.operator, Convolution):
            geometry = operator.geometry(call)
            roles = [operator.role]
            roles += [operator.transposed_role] * call.needs_gradient(0) + ["weight_gradient"] * call.needs_gradient(1)
            passes += [(node.name, (role, geometry)) for role in roles]
    return passes


def passes_of_shapes(path: Path, batch: int) -> list[tuple[str, Pass]]:
    """(layer name, pass) for all passes of the layers in a file in benchdnn's grammar. A layer that occurs several
    times in the network is repeated."""
    layers = [layer for line in path.read_text().splitlines() if (layer := parse(line, batch))]
    return [
        (layer.name, (role, layer.geometry))
        for layer in layers
        for role in algorithms.ROLES
        for _ in range(layer.count)
    ]


def measure(results: Sequence[Measured], threads: int, repeats: int) -> float:
    """Fill `seconds` of all results: each of `repeats` rounds measures each algorithm of each pass once.

    A round goes through all passes, so the measurements of one pass are some seconds apart. On a virtual machine whose
    processors are reassigned, the speed of data exchange between cores may change by a factor of two for seconds.

    Returns:
        The FMA peak of all threads together, divided by (number of threads) x (peak of one thread alone). The median
        over the rounds.

    Raises:
        ArithmeticError: the results of two algorithms differ.
    """
    one, all_ = peak_program(1), peak_program(threads)
    shares = []
    by_geometry: dict[ConvGeometry, list[Measured]] = {}
    for measured in results:
        by_geometry.setdefault(measured.geometry, []).append(measured)
    for number in range(1, repeats + 1):
        alone, together = (flops / min(seconds(peak.run) for _ in range(2)) for peak, flops in (one, all_))
        shares.append(together / (threads * alone))
        for i, (geometry, passes) in enumerate(by_geometry.items(), 1):
            say(f"round {number} of {repeats}, layer {i} of {len(by_geometry)}: {passes[0].names[0]}")
            data = random_data(geometry)
            for measured in passes:
                turns(measured, data, threads)
    return statistics.median(shares)


def random_data(g: ConvGeometry) -> dict[str, np.ndarray]:
    """Random x and dy (channels-last) and w (ONNX's order) of a convolution."""
    rng = np.random.default_rng(0)
    return {
        "x": random(rng, g.batch, *g.input, g.channels),
        "w": random(rng, g.outputs, g.channels // g.groups, *g.kernel),
        "dy": random(rng, g.batch, *g.output, g.outputs),
    }


def turns(measured: Measured, data: dict[str, np.ndarray], threads: int) -> None:
    """Run all algorithms once and compare their results; then measure each of them once."""
    g, role = measured.geometry, measured.role
    able = {name: our_pass(role, g, data, threads, name) for name in algorithms.candidates(g, role)}
    for timed in able.values():
        timed.run()
    first, *others = able
    expected = able[first].result()
    size = np.sqrt(np.mean(np.square(expected, dtype=np.float64)))
    for name in others:
        worst = np.abs(able[name].result() - expected).max()
        if not worst <= TOLERANCE * size:
            raise ArithmeticError(f"{measured.names[0]}, {role}: {name} and {first} differ by {worst / size:.2g}")
    for name, timed in able.items():
        runs = max(1, round(TURN / seconds(timed.run)))
        taken = seconds(lambda timed=timed, runs=runs: [timed.run() for _ in range(runs)])
        measured.seconds.setdefault(name, []).append(taken / runs)


def rows(results: Sequence[Measured]) -> list[tuple[str, ...]]:
    """A table row for each pass: its layer, milliseconds of each algorithm, the choice, and its gain."""
    algorithms = list(dict.fromkeys(name for measured in results for name in measured.seconds))
    table = [("layer", "batch", "pass", *(f"{name} ms" for name in algorithms), "chosen", "against built-in")]
    for measured in results:
        first, more = measured.names[0], len(measured.names) - 1
        times = [f"{measured.ms(name):.3f}" if name in measured.seconds else "–" for name in algorithms]
        chosen = measured.choice("fast")
        table.append(
            (
                f"{first} and {more} more" if more else first,
                str(measured.geometry.batch),
                measured.role,
                *times,
                chosen,
                f"{measured.gain(chosen, 'fast'):.2f}x",
            )
        )
    return table


def total(results: Sequence[Measured]) -> str:
    """A line with the total time before and after all choices. A pass counts once for each layer that has it."""
    before = after = 0.0
    changed = 0
    for measured in results:
        builtin, chosen = algorithms.builtin(measured.geometry, measured.role), measured.choice("fast")
        before += len(measured.names) * measured.ms(builtin)
        after += len(measured.names) * measured.ms(chosen)
        changed += chosen != builtin
    return (
        f"{len(results)} passes, {changed} with another choice than the built-in one; all layers together "
        f"{before:.1f} ms before, {after:.1f} ms after: {before / after:.3f}x"
    )


def table_of(results: Sequence[Measured], threads: int) -> tuned.Table:
    """The table of choices that is written to the file."""
    choices = [
        tuned.Choice(
            measured.role,
            measured.geometry,
            {precision: measured.choice(precision) for precision in algorithms.PRECISIONS},
            {name: round(measured.ms(name), 4) for name in measured.seconds},
        )
        for measured in results
    ]
    today = datetime.date.today().isoformat()
    return tuned.Table(cconv.__version__, FLOAT32.name, versions.processor(), threads, today, choices)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="tune.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write the table to")
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, metavar="MODEL.onnx", help="measure the convolutions of this model")
    source.add_argument(
        "--shapes",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure the layers in these files, in benchdnn's grammar",
    )
    result.add_argument("--batch", type=counts, default=[16], help="batch sizes, separated by commas (16)")
    result.add_argument("--threads", type=count, help="default: one per processor")
    result.add_argument("--repeats", type=count, default=7, help="measurements of each algorithm (7)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    options = parser()
    args = options.parse_args(argv)
    if not args.out.absolute().parent.is_dir():
        options.error(f"--out: there is no folder {args.out.absolute().parent}")
    for path in args.shapes or [args.model]:
        if not path.is_file():
            options.error(f"there is no file {path}")
    threads = args.threads or cconv.get_num_threads()
    passes: list[tuple[str, Pass]] = []
    try:
        for batch in args.batch:
            if args.model:
                passes += passes_of_model(args.model, batch)
            else:
                passes += [item for path in args.shapes for item in passes_of_shapes(path, batch)]
        layers: dict[Pass, list[str]] = {}
        for name, key in passes:
            layers.setdefault(key, []).append(name)
        several = {key: names for key, names in layers.items() if len(algorithms.candidates(key[1], key[0])) > 1}
        say(f"{len(layers)} passes; {len(layers) - len(several)} of them have only one algorithm and are not measured")
        results = [Measured(role, geometry, names) for (role, geometry), names in several.items()]
        share = measure(results, threads, args.repeats)
        table = table_of(results, threads)
        print(f"{table.processor}, {table.build}, {threads} threads, {table.date}")
        print(aligned(("milliseconds, medians", rows(results)), markdown=False))
        print(total(results) if results else "no pass has more than one algorithm; the table is empty")
        atomic_write(args.out, tuned.to_json(table).encode())
        if share < QUIET:
            say(
                f"tune.py: {threads} threads reached only {share:.0%} of {threads} times the peak of one thread: other "
                "programs run, or there are fewer processors. Choices may be wrong; measure again on an idle machine."
            )
    except (CconvError, ArithmeticError) as error:
        say(f"tune.py: {error}")
        return 1
    except KeyboardInterrupt:
        say("tune.py: interrupted; nothing is written")
        return 130
    say(f"written: {args.out}; cconv uses it if CCONV_SCHEDULE={args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
