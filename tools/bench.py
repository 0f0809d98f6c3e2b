#!/usr/bin/env python3
"""Benchmark cconv on this machine, against the machine's FMA peak and against PyTorch and onnxruntime.

    python tools/bench.py layers --shapes tools/shapes/resnet_50_v1_5.txt --batch 16 --threads 1
    python tools/bench.py nets --nets resnet18,vgg16 --batch 16 --modes train,infer --peers torch,onnxruntime
    python tools/bench.py frozen                  fine-tuning of ResNet-50's last layer
    python tools/bench.py small                   training steps of LeNet-5 and the demo's network, in microseconds

Machines may be shared and noisy, so no figure relies on a single absolute time. Runs of cconv alternate with runs of
the peer (A B A B), and the machine's peak is measured again beside each pair. Figures are medians, and the ratio is
the median of the ratios of neighbouring runs. Results are compared before anything is timed; if they disagree, nothing
is timed.

`nets`, `frozen` and `small` run each side in its own process, because an allocator is set up when a process starts.
While one side runs, the other process is stopped with all its threads. All sides read the same weights (from the ONNX
file that cconv and onnxruntime load) and the same batch of random images.

    train    forward, cross-entropy, backward, SGD with momentum. PyTorch in NCHW, in channels-last, and compiled by
             torch.compile (in channels-last)
    infer    forward. onnxruntime with all optimizations; PyTorch in evaluation mode under no_grad, in NCHW and in
             channels-last
    frozen   like train, but only the last layer is trained; PyTorch runs the others in evaluation mode under no_grad

"As installed", PyTorch returns its large tensors to the operating system after every step and pays for fresh pages in
the next. "Tuned", it is started with GLIBC_TUNABLES that make glibc keep them (Linux). To compare kernels, use
"tuned". PyTorch gets its images in the layout it works in; cconv converts them within the step. Memory is the peak of
the whole process, libraries included, over the timed steps.

Install the peers with `pip install '.[bench]'`. Progress goes to stderr, tables to stdout. If a side fails or
disagrees, the benchmark shows the end of its output and continues with the other sides; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from benchmark import contest, networks, report, sides
from benchmark.layers import PASSES, bench_layers
from benchmark.peak import peak_program

from cconv.kernels.schedule.algorithms import PRECISIONS

SMALL_BATCHES = [1, 8, 32]


def listed(*known: str) -> Callable[[str], list[str]]:
    """argparse type for a comma-separated list of names out of `known`."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"names out of {','.join(known)}, separated by commas; found {','.join(unknown)!r}"
            )
        return list(dict.fromkeys(names))

    return parse


def count(text: str) -> int:
    """argparse type for an integer >= 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number >= 1; found {text!r}")
    return int(text)


def counts(text: str) -> list[int]:
    """argparse type for a comma-separated list of integers >= 1."""
    return [count(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = result.add_subparsers(dest="command", required=True)
    layers = commands.add_parser("layers", help="convolution layers one by one")
    layers.add_argument("--shapes", required=True, help="file of layers in benchdnn's grammar (tools/shapes)")
    layers.add_argument("--batch", type=count, help="batch size; default: the one in the file, or 1")
    layers.add_argument("--threads", type=count, default=1)
    layers.add_argument("--passes", type=listed(*PASSES), default=["fwd"], help="names out of fwd,bwd_d,bwd_w")
    layers.add_argument("--peer", choices=["torch"])
    layers.add_argument(
        "--precision", choices=PRECISIONS, default=PRECISIONS[0], help="direct turns Winograd's algorithm off"
    )
    layers.add_argument(
        "--algorithm", help="kernel module to use instead of the one that kernels/schedule/algorithms.py chooses"
    )

    nets = commands.add_parser("nets", help="whole networks")
    names = list(networks.NETWORKS)
    nets.add_argument("--nets", type=listed(*names), default=names[:4], help=f"names out of {','.join(names)}")
    nets.add_argument(
        "--modes", type=listed("train", "infer"), default=["train", "infer"], help="names out of train,infer"
    )
    nets.add_argument("--size", type=count, help="height and width of the images; default: the size of each network")

    frozen = commands.add_parser("frozen", help="training of the last layer alone")
    frozen.add_argument("--nets", type=listed(*names), default=["resnet50"], help=f"names out of {','.join(names)}")
    frozen.add_argument("--size", type=count, help="height and width of the images; default: the size of each network")

    small = commands.add_parser("small", help="training steps of small networks, against PyTorch as installed, NCHW")
    small.add_argument(
        "--nets", type=listed("lenet5", "demo"), default=["lenet5", "demo"], help="names out of lenet5,demo"
    )

    for command in (nets, frozen, small):
        default = SMALL_BATCHES if command is small else [16]
        command.add_argument("--batch", type=counts, default=default, help="batch sizes, separated by commas")
        command.add_argument("--threads", type=count, default=2)
        command.add_argument(
            "--timeout", type=count, default=contest.TIMEOUT, help="seconds that a side may take for one answer"
        )
        command.add_argument(
            "--markdown", action="store_true", help="print tables in Markdown, for docs/performance.md"
        )
    for command in (nets, frozen):
        peers = ["torch", "onnxruntime"] if command is nets else ["torch"]
        command.add_argument("--peers", type=listed(*peers), default=peers, help=f"names out of {','.join(peers)}")
    for command in (layers, nets, frozen, small):
        command.add_argument("--repeats", type=count, default=7, help="runs of each side")
        command.add_argument("--json", type=Path, help="also write the results to this JSON file")
    return result


def rounds(args: argparse.Namespace) -> list[tuple[contest.Task, list[sides.Side]]]:
    """The tasks to run, each with the peers that take part in it."""
    if args.command == "small":
        return [
            (contest.Task(net, "train", batch), [sides.Side("torch", "NCHW")])
            for net in args.nets
            for batch in args.batch
        ]
    modes = args.modes if args.command == "nets" else ["frozen"]
    tasks = [contest.Task(net, mode, batch, args.size) for net in args.nets for mode in modes for batch in args.batch]
    return [(task, peers) for task in tasks if (peers := sides.opponents(task.mode, args.peers))]


def bench_networks(args: argparse.Namespace) -> list[contest.Score]:
    """Run all rounds and print their tables. After Ctrl-C, print the tables of the finished measurements."""
    peak = peak_program(args.threads)
    scores: list[contest.Score] = []
    try:
        for task, opponents in rounds(args):
            for score in contest.contest(task, opponents, args.threads, args.repeats, peak, args.timeout):
                scores.append(score)
    except KeyboardInterrupt:
        contest.say("interrupted; the tables show the measurements up to now")
    for line in report.machine(scores, args.threads):
        print(line)
    print()
    for table in report.tables(scores):
        print(report.aligned(table, args.markdown))
    return scores


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Exit with an error if the arguments are wrong, before any measurement starts."""
    if args.json and not args.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.absolute().parent}")
    if args.command == "layers":
        if not Path(args.shapes).is_file():
            parser.error(f"--shapes: there is no file {args.shapes}")
        needed = {args.peer} - {None}
    else:
        if args.command != "small":
            for net in args.nets:
                try:
                    networks.network(net, args.size)
                except ValueError as error:
                    parser.error(f"--size: {error}")
        runs = rounds(args)
        if not runs:
            parser.error(f"none of --peers {','.join(args.peers)} supports --modes {','.join(args.modes)}")
        needed = {side.engine for _, opponents in runs for side in opponents}
    missing = sorted(engine for engine in needed if not sides.installed(engine))
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; run pip install '.[bench]', or remove it from --peers")


def main(argv: list[str] | None = None) -> int:
    options = parser()
    args = options.parse_args(argv)
    check(args, options)
    failed = False
    if args.command == "layers":
        rows = bench_layers(args)
    else:
        scores = bench_networks(args)
        rows = [dataclasses.asdict(score) for score in scores]
        failed = any(score.failure for score in scores)
    if args.json:
        args.json.write_text(json.dumps({"argv": argv or sys.argv[1:], "rows": rows}, indent=1))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
