#!/usr/bin/env python3
"""Measure which algorithm computes each convolution fastest on this machine, and write that down for cconv.

    python tools/tune.py --out schedule.json --model model.onnx --batch 16
    python tools/tune.py --out schedule.json --shapes tools/shapes/resnet_50_v1_5.txt tools/shapes/vgg_19.txt
    CCONV_SCHEDULE=schedule.json python train.py          cconv follows the table

Each pass (forward, gradient of the input, gradient of the weights) of each geometry that more than one algorithm can
compute is run by all of them in turn (A B A B), weights packed within as in a training step. Results are compared
before anything is timed. The built-in choice stays unless another algorithm is at least 3 % faster: the median of the
ratios of neighbouring runs.

A table is for the build it was measured with (CCONV_ISA) and for batches up to 4 times larger or smaller; give several,
as in `--batch 1,16`, to cover more. Choices do not depend on the number of threads a network is trained with: a table
gives the same bits at any. Another table may give others.

Progress goes to stderr, the table that people read to stdout. The file is written whole, at the end, or not at all.
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

WORTH = 1.03  # ratio from which on another algorithm replaces the built-in one: less may be noise
TURN = 0.01  # seconds; runs that are shorter are taken several at a turn

# Two right algorithms differ by float32's rounding, Winograd's by up to 1e-4 of the rms; a wrong tap makes 1e-1.
TOLERANCE = 1e-3

# Share of the peak of as many threads, each alone, that they should have together. Where other programs take their
# part, short loops wait for threads that are not running, and algorithms of many such loops look bad.
QUIET = 0.9

Pass = tuple[str, ConvGeometry]


@dataclass
class Measured:
    """One pass by all algorithms that can compute it.

    Attributes:
        names: of the layers that have it.
        seconds: by algorithm, of each turn; the turns of all are neighbours.
    """

    role: str
    geometry: ConvGeometry
    names: list[str]
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ms(self, algorithm: str) -> float:
        return 1e3 * statistics.median(self.seconds[algorithm])

    def gain(self, algorithm: str, precision: str) -> float:
        """How many times faster than the built-in choice."""
        builtin = self.seconds[algorithms.builtin(self.geometry, self.role, precision)]
        return statistics.median(a / b for a, b in zip(builtin, self.seconds[algorithm]))

    def choice(self, precision: str) -> str:
        """The fastest algorithm; the built-in one unless that is WORTH it."""
        able = algorithms.candidates(self.geometry, self.role, precision)
        best = max(able, key=lambda name: self.gain(name, precision))
        builtin = algorithms.builtin(self.geometry, self.role, precision)
        return best if self.gain(best, precision) >= WORTH else builtin


def passes_of_model(path: Path, batch: int) -> list[tuple[str, Pass]]:
    """The name of each convolution and each of its passes that a training step of all weights takes.

    Raises:
        CconvError: the model cannot be loaded or run, or a number of examples does not tell its shapes.
    """
    model = cconv.load(path)
    shapes = batch_shapes(batch, model.input_specs)
    specs = {name: Spec(shape, model.input_specs[name].dtype) for name, shape in shapes.items()}
    specs.update((name, Spec(array.shape, array.dtype)) for name, array in model.weights.items())
    reached = set(model.weights)
    found: list[tuple[str, Pass]] = []
    values = Values(specs, model.constants)
    for node, call in calls_of(needed_for(model.nodes, model.output_names), values, model.limits):
        if mark_needed_gradients(node, call, reached):
            reached.update(node.outputs)
        if isinstance(operator := node.operator, Convolution):
            geometry = operator.geometry(call)
            roles = [operator.role]
            roles += [operator.transposed_role] * call.needs_gradient(0) + ["weight_gradient"] * call.needs_gradient(1)
            found += [(node.name, (role, geometry)) for role in roles]
    return found


def passes_of_shapes(path: Path, batch: int) -> list[tuple[str, Pass]]:
    """All passes of the layers in a file in benchdnn's grammar; a layer's name once for each time it is there."""
    layers = [layer for line in path.read_text().splitlines() if (layer := parse(line, batch))]
    return [
        (layer.name, (role, layer.geometry))
        for layer in layers
        for role in algorithms.ROLES
        for _ in range(layer.count)
    ]


def measure(results: Sequence[Measured], threads: int, repeats: int) -> float:
    """Fill `seconds` of all results: one turn of each algorithm in each of so many rounds.

    A round goes through all passes, so that the turns of one pass lie some seconds apart: how fast processors exchange
    what each of them wrote may change by a factor of two for seconds, where a virtual machine is moved about.

    Returns:
        The FMA peak of all threads together as a share of what that many had if each were alone: the rounds' median.

    Raises:
        ArithmeticError: two algorithms do not agree.
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
    rng = np.random.default_rng(0)
    return {
        "x": random(rng, g.batch, *g.input, g.channels),
        "w": random(rng, g.outputs, g.channels // g.groups, *g.kernel),
        "dy": random(rng, g.batch, *g.output, g.outputs),
    }


def turns(measured: Measured, data: dict[str, np.ndarray], threads: int) -> None:
    """One turn of each algorithm, after a run of each whose results are compared."""
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
    """A row for each pass: its layer, milliseconds by algorithm, the choice and what it gains."""
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
    """What all choices together gain, each pass as often as the layers have it."""
    before = after = 0.0
    changed = 0
    for measured in results:
        builtin, chosen = algorithms.builtin(measured.geometry, measured.role), measured.choice("fast")
        before += len(measured.names) * measured.ms(builtin)
        after += len(measured.names) * measured.ms(chosen)
        changed += chosen != builtin
    return (
        f"{len(results)} passes, {changed} chosen otherwise than built in; all layers together "
        f"{before:.1f} ms before, {after:.1f} ms after: {before / after:.3f}x"
    )


def table_of(results: Sequence[Measured], threads: int) -> tuned.Table:
    """What is written."""
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
    result.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the table goes, JSON")
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, metavar="MODEL.onnx", help="its convolutions")
    source.add_argument("--shapes", type=Path, nargs="+", metavar="FILE", help="layers in benchdnn's grammar")
    result.add_argument("--batch", type=counts, default=[16], help="images; several separated by commas (16)")
    result.add_argument("--threads", type=count, help="default: one per processor")
    result.add_argument("--repeats", type=count, default=7, help="turns of each algorithm (7)")
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
    found: list[tuple[str, Pass]] = []
    try:
        for batch in args.batch:
            if args.model:
                found += passes_of_model(args.model, batch)
            else:
                found += [item for path in args.shapes for item in passes_of_shapes(path, batch)]
        layers: dict[Pass, list[str]] = {}
        for name, key in found:
            layers.setdefault(key, []).append(name)
        several = {key: names for key, names in layers.items() if len(algorithms.candidates(key[1], key[0])) > 1}
        say(f"{len(layers)} passes; {len(layers) - len(several)} of them have one algorithm and are not measured")
        results = [Measured(role, geometry, names) for (role, geometry), names in several.items()]
        share = measure(results, threads, args.repeats)
        table = table_of(results, threads)
        print(f"{table.processor}, {table.build}, {threads} threads, {table.date}")
        print(aligned(("milliseconds, medians", rows(results)), markdown=False))
        print(total(results) if results else "no pass has more than one algorithm; the table is empty")
        atomic_write(args.out, tuned.to_json(table).encode())
        if share < QUIET:
            say(
                f"tune.py: {threads} threads had {share:.0%} of {threads} times the peak of one: other programs run, "
                "or there are fewer processors. Choices may be wrong; measure again on a quiet machine."
            )
    except (CconvError, ArithmeticError) as error:
        say(f"tune.py: {error}")
        return 1
    except KeyboardInterrupt:
        say("tune.py: interrupted; nothing is written")
        return 130
    say(f"written: {args.out}; in force where CCONV_SCHEDULE={args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
