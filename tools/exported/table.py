"""docs/coverage.md out of the rows that tools/coverage.py has measured."""

from __future__ import annotations

import re
from typing import Any

Row = dict[str, Any]

# Seconds that loading and planning may take.
LOADING = {"resnet50": 2, "densenet121": 4, "efficientnet_b0": 4}

EXPORTERS = {"legacy": "TorchScript, `dynamo=False`", "dynamo": "`torch.export`, `dynamo=True`", "tf2onnx": "tf2onnx"}

# float64: files store constants (the root in an attention, a slope) in float32, PyTorch has them in
# float64; 1e-8 each, and more where few values are normalised. float32: fifty layers of 1e-7 each, as cconv.check.
# Differences: rounding of the loss over the step.
TOLERANCE = {"float64": 1e-5, "float32": 1e-3, "differences": 1e-4}

# A float32 gradient may also be as wrong as PyTorch's own in float32 is on half the batches, up to a limit.
MOST = 0.1

# What `cconv.check` asks of two float32 computations. Where they are further apart, float64 decides: the root mean
# square of cconv's error is at most NOISIER times onnxruntime's (what cconv promises of its convolutions), and LEAST.
CHECK = 1e-4
NOISIER, LEAST = 4, 1e-6


def exporters_of(library: str) -> tuple[str, ...]:
    """Those that a library's networks go through."""
    return ("tf2onnx",) if library == "keras" else ("legacy", "dynamo")


def fault(row: Row) -> str:
    """Why a row is red; "" if it is green."""
    if not row:
        return "not measured"
    if "error" in row:
        why = f"{row['stage']}: {row['error']}" if row.get("stage") else str(row["error"])
        return f"{why} - onnxruntime refuses the file too: {row['onnxruntime']}" if "onnxruntime" in row else why
    gradients = row["gradients"]
    if gradients["unmatched"]:
        return f"no weight in the file for {', '.join(gradients['unmatched'][:4])}"
    for kind in ("float64", "differences"):
        if kind in gradients and not gradients[kind] <= TOLERANCE[kind]:
            return f"gradient of {gradients['float64_weight']} ({kind}): {gradients[kind]:.1e}"
    if "float32" in gradients:
        limit = max(TOLERANCE["float32"], min(gradients["judge_float32"], MOST))
        if not gradients["float32"] <= limit:
            return f"gradient of {gradients['float32_weight']} in float32: {gradients['float32']:.1e}"
    return ""


def is_green(row: Row) -> bool:
    return not fault(row)


def short(row: Row) -> str:
    """One line for the terminal."""
    why = fault(row)
    return f"{'RED' if why else 'green':5}  {' | '.join(cells(row)) if 'default' in row else ''}  {why}".rstrip()


HEADER = (
    "opset", "nodes", "batch", "weights", "forward, float64", "forward, float32", "gradients, float64",
    "gradients, float32", "PyTorch's, float32", "after 3 steps",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    """The row's numbers, as HEADER says."""
    gradients, kinds = row["gradients"], [row["trainable"], row["default"]]
    return [
        str(row["opset"]),
        str(row["nodes"]),
        "free" if row["free_batch"] else "fixed",
        str(gradients["weights"]),
        _error(row["trainable"].get("float64")),
        _error(max(kind["forward"] for kind in kinds)) + (" †" if any(kind.get("roundings") for kind in kinds) else ""),
        _error(gradients["float64"]) if "float64" in gradients else f"{_error(gradients['differences'])} *",
        _error(gradients.get("float32")),
        _error(gradients.get("judge_float32")),
        _error(max(kind["after"] for kind in kinds)),
    ]


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}".replace("e-0", "e-").replace("0e+00", "0")


HEAD = """# Which published networks run and train

cconv is tested on published networks from torchvision, timm and Keras, with random weights. PyTorch's two exporters, or
tf2onnx for Keras, export each network to ONNX. cconv then loads, runs and trains the exported file.

A row is green if the files load, the outputs equal onnxruntime's in float32 and the framework's in float64, three steps
of SGD lower the loss, and the gradient of every weight equals PyTorch's. The section
[What green means](#what-green-means) gives the exact rules.
"""

MEANING = """## What green means

`python tools/coverage.py run` measures the networks and stores the results in `docs/coverage.json`.
`python tools/coverage.py write` writes this page from that file.

Two files are exported of each network. The "default" file is exported with the exporter's default options, which fold
BatchNorm into convolutions. The "trainable" file keeps BatchNorm (legacy exporter: `do_constant_folding=False` and
`training=TrainingMode.PRESERVE`; dynamo: `optimize=False`). A row is green if the following checks pass.

**Forward, float64.** Both files load. Computed by cconv in float64, their outputs equal the framework's in float64.
The largest accepted difference is {float64:.0e} of the largest output for the trainable file (shown in the column),
and {check:.0e} for the default file, because the exporter has rounded its folded weights to float32.

**Forward, float32.** `cconv.check` finds that the outputs of both files equal onnxruntime's within {check:.0e} of the
largest output. It runs batches of 2 images and, if the file's batch axis is free, also batches of 3. The column shows
the larger difference of the two files.

Networks with random weights can amplify the rounding of float32 a thousandfold, in onnxruntime as in cconv. If cconv
and onnxruntime therefore differ by more than {check:.0e}, both are compared with a float64 result (rows marked with
†; the section on rounding at the end of this page has the numbers). The row is green if the root mean square of
cconv's error is at most {noisier} times onnxruntime's, plus {least:.0e} of the largest output.

**Three steps.** Three steps of SGD have finite losses, and the third loss is lower than the first. The column *after
3 steps* is the check *forward, float32*, repeated with the trained weights.

**Gradients.** The gradients of every weight of the trainable file equal PyTorch's gradients of the same loss
(cross-entropy) on the same images; PyTorch computes them in float64. The error of a weight is its largest difference,
divided by its largest gradient. The column shows the weight with the largest error. If a weight's largest gradient is
below a thousandth (in float64, a millionth) of the network's largest gradient, that limit is the divisor instead: the
gradient of a bias before a BatchNorm, for example, is only rounding.

- The column *gradients, float64* is for gradients that cconv computes in float64, with BatchNorm in batch mode and
  frozen; it shows the worse of the two. The limit is {float64:.0e}. This check tells a right gradient rule from a
  wrong one.
- The column *gradients, float32* is for `Trainer.gradients` with BatchNorm frozen. The limit is {float32:.0e}.

**Kinks.** Some functions have a kink, such as Relu at 0. If a value is so close to a kink that rounding decides its
side, two correct computations can differ there, which changes the gradients of earlier weights by up to some ten
percent. A wrong rule or kernel is wrong on every batch of images, but a kink is hit only on some batches. Therefore
up to three batches are tried in float64, and the best batch counts. Up to eight are tried in float32, and the best
batch of each weight counts.

**Networks with kinks on every batch.** Some networks hit kinks on every batch, in PyTorch too. Their float32
gradients may be as wrong as PyTorch's own float32 gradients, but at most {most:g}. The column *PyTorch's, float32*
shows this limit: the error of PyTorch's worst weight, as the median over the batches.

**Names of weights.** Exporters may rename weights, so weights of the file are matched to PyTorch's parameters by
their values. Every parameter that has a gradient must have a matching weight in the file.

`*` marks Keras networks, whose gradients are compared with finite differences of the float64 loss instead. Keras
replaces BatchNorm by a product and a sum before export, so the weights in the file are not those of the network. The
finite differences are taken along one direction for each weight, and the limit is {differences:.0e}. If the step
crosses a kink, up to three other directions are tried.

**Weights and images.** Weights are random, and none is 0, 1 or equal to another. Running statistics are those of a
batch. BatchNorm scales are around 0.3, because larger scales make deep random networks amplify rounding a
thousandfold. Images have the size in the table, 2 images per batch.

**Epsilon.** Each epsilon is set to the float32 number nearest to the network's value, because ONNX files store
float32. With the original value, the framework and the file would be slightly different networks in float64. The
first rows were measured with the original value.
"""


def page(content: Row) -> str:
    """The whole of docs/coverage.md."""
    rows: dict[tuple[str, str], Row] = {}
    for key, row in content["rows"].items():
        name, exporter = key.split(" ")
        rows[name, exporter] = row
    libraries = {name: row["library"].split(".")[0] for (name, _), row in rows.items()}
    parts = [HEAD, _summary(rows, libraries, content)]
    for library in ("torchvision", "timm", "keras"):
        names = [name for name in libraries if libraries[name] == library]
        if names:
            parts.append(f"## {library}\n\n{_table(names, rows)}\n")
    red = [
        f"- **{name}**, {exporter}: {_reason(row)}"
        for name, library in libraries.items()
        for exporter in exporters_of(library)
        if not is_green(row := rows.get((name, exporter), {}))
    ]
    notes: dict[str, list[str]] = {}
    for (name, exporter), row in rows.items():
        if "note" in row and is_green(row):
            notes.setdefault(row["note"], []).append(f"**{name}**, {exporter}")
    otherwise = [f"- {'; '.join(names)}: {note}" for note, names in notes.items()]
    for title, lines in (("Red, and why", red), ("Exports that need other options", otherwise)):
        if lines:
            parts.append("\n".join([f"## {title}\n", *lines, ""]))
    parts.append(MEANING.format(check=CHECK, noisier=NOISIER, least=LEAST, most=MOST, **TOLERANCE))
    parts += [text for text in (_roundings(rows), _loading(content)) if text]
    return "\n".join(parts)


def _summary(rows: dict[tuple[str, str], Row], libraries: dict[str, str], content: Row) -> str:
    whole = [
        name
        for name, library in libraries.items()
        if all(is_green(rows.get((name, exporter), {})) for exporter in exporters_of(library))
    ]
    lines = [f"**{len(libraries)} architectures, {len(whole)} of them green with every exporter.**"]
    red = sorted({*libraries} - {*whole})
    lines += ["Green means that a network passed all checks with that exporter."]
    lines += [f"Not green ([why](#red-and-why)): {', '.join(red)}.\n"] if red else [""]
    lines += ["| exporter | networks | green |", "|---|---|---|"]
    for exporter, title in EXPORTERS.items():
        mine = [row for (_, other), row in rows.items() if other == exporter]
        if mine:
            lines.append(f"| {title} | {len(mine)} | {sum(map(is_green, mine))} |")
    versions = ", ".join(f"{name} {number}" for name, number in sorted(content["versions"].items()))
    lines.append(f"\nMeasured on {content['machine']}, with {versions}.\n")
    return "\n".join(lines)


def _table(names: list[str], rows: dict[tuple[str, str], Row]) -> str:
    lines = [f"| network | size | exporter | | {' | '.join(HEADER)} |", "|---" * (len(HEADER) + 4) + "|"]
    for name in names:
        for exporter in EXPORTERS:
            row = rows.get((name, exporter))
            if row is None:
                continue
            numbers = cells(row) if "default" in row else [""] * len(HEADER)
            state = "green" if is_green(row) else "**red**"
            lines.append(f"| {name} | {row['size']} | {exporter} | {state} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def _roundings(rows: dict[tuple[str, str], Row]) -> str:
    """Where float64 had to decide: how far from it cconv and onnxruntime are."""
    lines = [
        f"| {name} | {exporter} | {kind} | {ours:.1e} | {theirs:.1e} | {ours / theirs:.1f} |"
        for (name, exporter), row in rows.items()
        for kind in ("trainable", "default")
        for ours, theirs in row.get(kind, {}).get("roundings", [])
    ]
    if not lines:
        return ""
    head = "| network | exporter | file | cconv | onnxruntime | ratio |\n|---|---|---|---|---|---|\n"
    text = (
        "These are the rows marked with †. The columns *cconv* and *onnxruntime* are the root mean square of the "
        "errors of the float32 outputs, measured against float64 outputs on 16 images and divided by the largest "
        "output. The column *ratio* is cconv's error divided by onnxruntime's.\n\n"
    )
    return (
        f"## Rounding where cconv and onnxruntime differ by more than {CHECK:.0e}\n\n{text}{head}"
        + "\n".join(lines)
        + "\n"
    )


def _loading(content: Row) -> str:
    """Seconds to load and to lay out a training step, with the machine to itself."""
    lines = [
        f"| {name} | {exporter} | {nodes} | {seconds:.2f} | {LOADING[name]:g} |"
        for name in LOADING
        for exporter, (nodes, seconds) in content.get("loading", {}).get(name, {}).items()
    ]
    if not lines:
        return ""
    head = "| network | exporter | nodes | seconds | bound |\n|---|---|---|---|---|\n"
    text = (
        "The column *seconds* is the time from the file to a planned training step: `cconv.load` of the default file, "
        "construction of `cconv.Trainer`, and planning of its training step for one image of 224 x 224. Each "
        "measurement runs in a new process and excludes importing cconv; the median of three is shown. The column "
        "*bound* is the accepted maximum in seconds.\n\n"
    )
    return f"## Load and plan\n\n{text}{head}" + "\n".join(lines) + "\n"


def _reason(row: Row) -> str:
    why = re.sub(r"\s+", " ", fault(row)).replace("|", "\\|")
    return f"{row['note']} Recorded error: {why}" if "note" in row else why
