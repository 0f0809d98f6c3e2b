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

Definitions of torchvision, timm and Keras with random weights, exported to ONNX by PyTorch's two exporters (by
tf2onnx), loaded by cconv, run and trained. Green: the files load, in float32 their outputs equal onnxruntime's and in
float64 the framework's, steps of SGD lower the loss, and the gradient of every weight equals PyTorch's; the rules are
[below](#what-green-means).
"""

MEANING = """## What green means

`python tools/coverage.py run` measures, `python tools/coverage.py write` writes this page out of `docs/coverage.json`.

Of every network two files are exported: one as the exporter makes it when nothing is asked for (BatchNorm is folded
into convolutions), and one that keeps BatchNorm (legacy: `do_constant_folding=False` and
`training=TrainingMode.PRESERVE`; dynamo: `optimize=False`). A row is green if all of this holds:

- **Both files** load. *Forward, float64*: computed by cconv in float64, the outputs equal the framework's in float64;
  at most {float64:.0e} of the largest output for the file that keeps BatchNorm (the column), {check:.0e} for the
  other one, whose folded weights the exporter has rounded to float32.
- *Forward, float32*: `cconv.check` finds the outputs equal to onnxruntime's within {check:.0e} of the largest, for
  batches of 2 and of 3 images where the file's batch axis is free. The largest difference of both files is shown.
  Random networks can enlarge the rounding of float32 a thousandfold, in onnxruntime as in cconv. So where two are
  further apart than that, float64 decides (†, numbers at the end): the root mean square of cconv's error against
  float64 is at most {noisier} times onnxruntime's, and {least:.0e} of the largest output.
- **Three steps** of SGD have finite losses, the third lower than the first; then *after 3 steps* is measured with the
  trained weights as *forward, float32* is before them, by the same rule.
- **Gradients** of every weight, on the file that keeps BatchNorm, equal PyTorch's of the same loss (cross-entropy)
  on the same images: largest difference over the weight's largest gradient (or over a thousandth, in float64 a
  millionth, of the network's largest, if that is more: the gradient of a bias before a BatchNorm is nothing but
  rounding). The worst weight counts. PyTorch always computes in float64.
  - *float64*: cconv's plan in float64, with BatchNorm by batch statistics and frozen, the worse of both; at most
    {float64:.0e}. This is what tells a right rule from a wrong one.
  - *float32*: `Trainer.gradients`, BatchNorm frozen; at most {float32:.0e}.
  - Where a value lies within rounding of a kink, such as a Relu's, its gradient goes the other way in one of two right
    computations, and moves the gradients of the weights before it by up to some ten percent. A wrong rule or kernel is
    wrong on every batch of images, a kink is met on some. So up to three batches may be tried in float64, of which the
    best counts, and up to eight in float32, of which the best of each weight counts. Networks that meet kinks on every
    batch, in PyTorch too, may then be as wrong as PyTorch's float32 is on half these batches (next column: the
    median of its worst weight), and at most {most:g}.
- Exporters' names of weights are mapped to PyTorch's by value; every parameter with a gradient must have one in the
  file.

`*` Keras folds BatchNorm to a product and a sum of its own before any exporter sees it, so the file's weights are
not the network's; their gradients are compared with finite differences of the loss in float64, along one direction
for each weight, at most {differences:.0e}; where a kink lies within the step, along one of three others.

Weights are random but none is neutral (zero, one, equal to another); running statistics are those of a batch; a
BatchNorm's scale is around 0.3, since otherwise deep random networks enlarge rounding a thousandfold. An epsilon is
the float32 number next to the constructor's, since that is what files store: with the constructor's own, which the
first rows were measured with, float64 gives two slightly different networks. Images are of the size that the table
says, 2 a batch.
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
    for title, lines in (("Red, and why", red), ("Exported otherwise", otherwise)):
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
    lines += [f"The others ([why](#red-and-why)): {', '.join(red)}.\n"] if red else [""]
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
    text = "† Root mean square of the outputs' error against float64 on 16 images, as a share of the largest.\n\n"
    return (
        f"## Rounding, where cconv and onnxruntime are further apart than {CHECK:.0e}\n\n{text}{head}"
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
        "`cconv.load` of the file that the exporter makes when nothing is asked for, `cconv.Trainer` and the layout of "
        "its training step for one image of 224 x 224, in a process of its own; importing cconv is not counted. Median "
        "of three.\n\n"
    )
    return f"## Load and plan\n\n{text}{head}" + "\n".join(lines) + "\n"


def _reason(row: Row) -> str:
    why = re.sub(r"\s+", " ", fault(row)).replace("|", "\\|")
    return f"{row['note']} {why}" if "note" in row else why
