#!/usr/bin/env python3
"""How fast is cconv on this machine, against its FMA peak and against peers.

    python tools/bench.py layers --shapes tools/shapes/resnet_50_v1_5.txt --batch 16 --threads 1
    python tools/bench.py nets --nets resnet18,vgg16 --batch 16 --modes train,infer --peers torch,onnxruntime
    python tools/bench.py frozen                  fine-tuning of ResNet-50's last layer
    python tools/bench.py small                   LeNet-5 and the demo's network: microseconds a step

Machines may be shared and noisy, so nothing here is a time alone. Runs alternate with the peer's (A B A B), the
machine's peak is measured again beside each pair, figures are medians, and the ratio is the median of the ratios
of neighbouring runs. Results are compared before anything is timed; sides that disagree are not timed.

`nets`, `frozen` and `small` give each side a process of its own, because allocators are set up when a process
starts; while one side has its turn, the other one is stopped, its threads included. All sides read the same
weights (of the ONNX file that cconv and onnxruntime load) and the same batch of random images.

    train    forward, cross-entropy, backward, SGD with momentum. PyTorch in NCHW, channels-last, and compiled by
             torch.compile (on channels-last)
    infer    forward. onnxruntime with all optimizations; PyTorch in evaluation mode under no_grad, NCHW and
             channels-last
    frozen   as train, for the last layer alone; PyTorch has the others in evaluation mode under no_grad

"As installed" PyTorch returns its large tensors to the system after every step and pays for fresh pages in the
next. *Tuned*, it is started with GLIBC_TUNABLES that make glibc keep them (Linux): the fair opponent for kernels.
PyTorch gets its images in the layout it works in; cconv converts them within the step. Memory is the peak of the
whole process, libraries included, over the timed steps.

Peers come with `pip install '.[bench]'`. Progress goes to stderr, tables to stdout. The exit status is 1 if a side
failed or disagreed; its last lines are shown, and the others go on.
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
    """Type of an argument that is several of `known`, separated by commas."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"of {','.join(known)}, separated by commas; found {','.join(unknown)!r}")
        return list(dict.fromkeys(names))

    return parse


def count(text: str) -> int:
    """Type of an argument that is a whole number >= 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number >= 1; found {text!r}")
    return int(text)


def counts(text: str) -> list[int]:
    return [count(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = result.add_subparsers(dest="command", required=True)
    layers = commands.add_parser("layers", help="convolution layers one by one")
    layers.add_argument("--shapes", required=True, help="file in benchdnn's grammar")
    layers.add_argument("--batch", type=count, help="images; default: the file's, or 1")
    layers.add_argument("--threads", type=count, default=1)
    layers.add_argument("--passes", type=listed(*PASSES), default=["fwd"], help="of fwd,bwd_d,bwd_w")
    layers.add_argument("--peer", choices=["torch"])
    layers.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="direct: without Winograd")
    layers.add_argument("--algorithm", help="kernel module instead of the one in kernels/schedule/algorithms.py")

    nets = commands.add_parser("nets", help="whole networks")
    names = list(networks.NETWORKS)
    nets.add_argument("--nets", type=listed(*names), default=names[:4], help=f"of {','.join(names)}")
    nets.add_argument("--modes", type=listed("train", "infer"), default=["train", "infer"], help="of train,infer")
    nets.add_argument("--size", type=count, help="of the images; default: the networks' own")

    frozen = commands.add_parser("frozen", help="training of the last layer alone")
    frozen.add_argument("--nets", type=listed(*names), default=["resnet50"], help=f"of {','.join(names)}")
    frozen.add_argument("--size", type=count, help="of the images; default: the networks' own")

    small = commands.add_parser("small", help="training steps of small networks, against PyTorch as installed, NCHW")
    small.add_argument("--nets", type=listed("lenet5", "demo"), default=["lenet5", "demo"], help="of lenet5,demo")

    for command in (nets, frozen, small):
        default = SMALL_BATCHES if command is small else [16]
        command.add_argument("--batch", type=counts, default=default, help="images; several separated by commas")
        command.add_argument("--threads", type=count, default=2)
        command.add_argument("--timeout", type=count, default=contest.TIMEOUT, help="seconds for one answer of a side")
        command.add_argument("--markdown", action="store_true", help="tables for docs/performance.md")
    for command in (nets, frozen):
        peers = ["torch", "onnxruntime"] if command is nets else ["torch"]
        command.add_argument("--peers", type=listed(*peers), default=peers, help=f"of {','.join(peers)}")
    for command in (layers, nets, frozen, small):
        command.add_argument("--repeats", type=count, default=7, help="runs of each side")
        command.add_argument("--json", type=Path, help="write the rows here")
    return result


def rounds(args: argparse.Namespace) -> list[tuple[contest.Task, list[sides.Side]]]:
    """What is to be run, each with its opponents."""
    if args.command == "small":
        return [
            (contest.Task(net, "train", batch), [sides.Side("torch", "NCHW")])
            for net in args.nets
            for batch in args.batch
        ]
    modes = args.modes if args.command == "nets" else ["frozen"]
    tasks = [contest.Task(net, mode, batch, args.size) for net in args.nets for mode in modes for batch in args.batch]
    return [(task, found) for task in tasks if (found := sides.opponents(task.mode, args.peers))]


def bench_networks(args: argparse.Namespace) -> list[contest.Score]:
    """Run all rounds and print their tables; Ctrl-C ends the rounds, and what was measured is printed."""
    peak = peak_program(args.threads)
    scores: list[contest.Score] = []
    try:
        for task, opponents in rounds(args):
            for score in contest.contest(task, opponents, args.threads, args.repeats, peak, args.timeout):
                scores.append(score)
    except KeyboardInterrupt:
        contest.say("interrupted; the tables hold what was measured until now")
    for line in report.machine(scores, args.threads):
        print(line)
    print()
    for table in report.tables(scores):
        print(report.aligned(table, args.markdown))
    return scores


def check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse now what would fail after minutes."""
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
            parser.error(f"--peers {','.join(args.peers)} do not take part in --modes {','.join(args.modes)}")
        needed = {side.engine for _, opponents in runs for side in opponents}
    missing = sorted(engine for engine in needed if not sides.installed(engine))
    if missing:
        parser.error(f"not installed: {', '.join(missing)}; try pip install '.[bench]', or leave it out of --peers")


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
