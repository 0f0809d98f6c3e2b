"""`layers`: convolutions one by one, in GFLOP/s."""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.peak import bound, peak_program, seconds
from cconv.kernels import FLOAT32
from cconv.kernels.conv.geometry import ConvGeometry
from cconv.kernels.core.memory import zeros
from cconv.kernels.schedule.algorithms import algorithm, implementation

PASSES = {"fwd": "forward", "bwd_d": "input_gradient", "bwd_w": "weight_gradient"}


@dataclass(frozen=True)
class Layer:
    """A convolution of a network, and how often the network has it."""

    name: str
    count: int
    geometry: ConvGeometry


def parse(line: str, batch: int | None) -> Layer | None:
    """A line in benchdnn's grammar (tools/shapes/README.md); None for a comment or an empty one."""
    line = line.split("#")[0].strip()
    if not line:
        return None
    head, _, name = line.partition('n"')
    name = name.rstrip('"')
    label, _, count = name.partition("*")
    values = {key: int(value) for key, value in re.findall(r"([a-z]+)(\d+)", head.replace("_", ""))}

    def axis(kind: str) -> tuple[int, int, int]:
        """Values along depth, height, width; a later axis equals the one before it if that is stated."""
        absent = 0 if kind in "pd" else 1
        result, last = [], absent
        for name in "dhw":
            last = values.get(kind + name, last)
            result.append(last)
        return result[0], result[1], result[2]

    kernel, stride, pad = axis("k"), axis("s"), axis("p")
    dilation = tuple(n + 1 for n in axis("d"))
    sizes = axis("i")
    # An axis of size 1 under a kernel of size 1 is one that the line has only to fill up three: no padding.
    pad = tuple(0 if i == k == 1 else p for i, k, p in zip(sizes, kernel, pad))
    if values.keys() & {"od", "oh", "ow"}:
        output = axis("o")
    else:
        output = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(sizes, pad, dilation, kernel, stride)
        )
    geometry = ConvGeometry(
        batch=batch or values.get("mb", 1),
        channels=values["ic"],
        outputs=values["oc"],
        groups=values.get("g", 1),
        input=sizes,
        output=output,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pad=pad,
    )
    return Layer(label.split(":")[-1] or head, int(count or 1), geometry)


def random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    array = zeros(shape, np.float32)
    rng.standard_normal(out=array, dtype=np.float32)
    return array


@dataclass
class Timed:
    """Something to run again and again, and the numbers it leaves behind."""

    run: Callable[[], object]
    result: Callable[[], np.ndarray]


def our_pass(role: str, g: ConvGeometry, data: dict[str, np.ndarray], threads: int, name: str) -> Timed:
    """cconv's kernel; weights are packed within the timed run, as they are once in every training step."""
    kernels = implementation(name)
    x, w, dy = data["x"], data["w"], data["dy"]
    if role == "weight_gradient":
        step = kernels.WeightGradient(FLOAT32, g)
        out = zeros(w.shape, np.float32)
        steps = [(step, [x, dy, zeros((step.partial_size,), np.float32), out])]
    else:
        size = kernels.packed_size(FLOAT32, g, role)
        packed = zeros((size,), np.float32) if size else w
        out = zeros((dy if role == "forward" else x).shape, np.float32)
        source = x if role == "forward" else dy
        step = kernels.Gather(FLOAT32, g, role)
        workspace = zeros((step.workspace,), np.float32)
        operands = [source, packed, None, None, out, workspace]
        steps = [(step, operands)]
        if size:
            steps.insert(0, (kernels.Pack(FLOAT32, g, role), [w, packed]))
    for step, operands in steps:  # as in a plan: small ones run on one thread
        step.weigh(sum(a.nbytes for a in operands if a is not None))
    return Timed(bound(steps, threads).run, lambda: out)


def torch_pass(role: str, g: ConvGeometry, data: dict[str, np.ndarray], threads: int) -> list[Timed]:
    """PyTorch's kernel in both layouts."""
    import torch

    torch.set_num_threads(threads)
    result = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x, w, dy = (torch.from_numpy(data[name]) for name in ("x", "w", "dy"))
        x, dy = (t[:, 0].permute(0, 3, 1, 2).contiguous(memory_format=layout) for t in (x, dy))
        w = w[:, :, 0].contiguous(memory_format=layout)
        stride, pad, dilation = (list(v[1:]) for v in (g.stride, g.pad, g.dilation))
        mask = (role == "input_gradient", role == "weight_gradient", False)
        keep: list = [None]

        def run(x=x, w=w, dy=dy, stride=stride, pad=pad, dilation=dilation, mask=mask, keep=keep) -> None:
            with torch.no_grad():
                if role == "forward":
                    keep[0] = torch.conv2d(x, w, None, stride, pad, dilation, g.groups)
                else:
                    grads = torch.ops.aten.convolution_backward(
                        dy, x, w, None, stride, pad, dilation, False, [0, 0], g.groups, mask
                    )
                    keep[0] = grads[0 if role == "input_gradient" else 1]

        def value(keep=keep) -> np.ndarray:
            array = keep[0].contiguous().numpy()
            return array if role == "weight_gradient" else np.moveaxis(array, 1, -1)

        result.append(Timed(run, value))
    return result


def bench_layers(args: argparse.Namespace) -> list[dict]:
    rng = np.random.default_rng(0)
    layers = [layer for line in Path(args.shapes).read_text().splitlines() if (layer := parse(line, args.batch))]
    peak, peak_flops = peak_program(args.threads)
    rows = []
    header = f"{'layer':24}{'pass':8}{'GFLOP/s':>9}{'% peak':>8}"
    print(header + (f"{args.peer:>9}{'ratio':>7}" if args.peer else ""))
    for layer in layers:
        g = layer.geometry
        data = {
            "x": random(rng, g.batch, *g.input, g.channels),
            "w": random(rng, g.outputs, g.channels // g.groups, *g.kernel),
            "dy": random(rng, g.batch, *g.output, g.outputs),
        }
        for name in args.passes:
            role = PASSES[name]
            chosen = args.algorithm or algorithm(g, role, args.precision)
            ours = our_pass(role, g, data, args.threads, chosen)
            peers = torch_pass(role, g, data, args.threads) if args.peer else []
            for timed in [ours, *peers]:
                timed.run()
            for timed in peers:
                a, b = ours.result().ravel(), timed.result().ravel()
                worst = np.abs(a - b).max() / np.sqrt(np.mean(b.astype(np.float64) ** 2))
                assert worst < 1e-3, f"{layer.name} {name}: differs from the peer by {worst:.2g} of its rms"
            times: list[list[float]] = [[] for _ in range(1 + len(peers))]
            peaks = []
            for _ in range(args.repeats):  # peak, ours, peers, peak, ours, peers, ...
                peaks.append(seconds(peak.run))
                for timed, list_ in zip([ours, *peers], times):
                    list_.append(seconds(timed.run))
            rate = g.flops / statistics.median(times[0]) / 1e9
            top = peak_flops / statistics.median(peaks) / 1e9
            row = {
                "layer": layer.name,
                "count": layer.count,
                "pass": name,
                "gflops": rate,
                "percent": 100 * rate / top,
                "peak": top,
            }
            text = f"{layer.name:24}{name:8}{rate:9.1f}{row['percent']:8.1f}"
            if peers:
                row["peer"] = g.flops / min(statistics.median(t) for t in times[1:]) / 1e9
                row["ratio"] = rate / row["peer"]
                text += f"{row['peer']:9.1f}{row['ratio']:7.2f}"
            rows.append(row)
            print(text, flush=True)
    for name in args.passes:
        mine = [row for row in rows if row["pass"] == name]
        text = f"median {name}: {statistics.median(row['percent'] for row in mine):.1f} % of the FMA peak"
        if args.peer:
            text += f", {statistics.median(row['ratio'] for row in mine):.2f} of {args.peer}"
        print(text)
    return rows
