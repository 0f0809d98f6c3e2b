#!/usr/bin/env python3
"""Measure which published networks cconv loads, runs and trains, and write the results to docs/coverage.md.

    python tools/coverage.py run                     measure all networks, with all exporters
    python tools/coverage.py run --resume            only rows that are missing or not green in docs/coverage.json
    python tools/coverage.py run --only resnet18,dla34 --exporters dynamo
    python tools/coverage.py load                    measure seconds to load and plan three networks (idle machine)
    python tools/coverage.py write                   write docs/coverage.md from docs/coverage.json

A row is the result for one network and one exporter. Each row is measured by exported/measure.py in its own process,
with a time limit, and stored at once, so a failure loses only its own row. The exit status is 1 if a row failed.

Weights are random; nothing is downloaded. The script needs torch, torchvision, timm and onnxscript. The networks of
Keras need tensorflow and tf2onnx, which may be installed in another environment: run `--exporters tf2onnx` in that one
and `--exporters legacy,dynamo` in the first.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from exported.networks import NETWORKS, NOTES, find
from exported.table import EXPORTERS, LOADING, is_green, page, short

ROOT = Path(__file__).parent.parent
ROWS = ROOT / "docs" / "coverage.json"
PAGE = ROOT / "docs" / "coverage.md"
TOOLS = Path(__file__).parent
PACKAGES = ("torch", "torchvision", "timm", "onnxscript", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnxruntime")

# Loading is timed in this many processes; the median counts.
REPEATS = 3

Rows = dict[str, dict[str, Any]]


def stored() -> dict[str, Any]:
    """The content of docs/coverage.json: `machine`, `versions`, and `rows` by "network exporter"."""
    if ROWS.exists():
        content: dict[str, Any] = json.loads(ROWS.read_text())
        return content
    return {"machine": "", "versions": {}, "rows": {}}


def save(content: dict[str, Any]) -> None:
    """Write docs/coverage.json atomically, with sorted rows."""
    content["rows"] = dict(sorted(content["rows"].items()))
    partial = ROWS.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    partial.replace(ROWS)


def versions() -> dict[str, str]:
    """Versions of the PACKAGES that are installed. PyTorch and TensorFlow may be in different environments."""
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def note(key: str, row: dict[str, Any]) -> None:
    """Store a row in docs/coverage.json. Other processes may store rows at the same time."""
    with changed() as content:
        content["rows"][key] = row


@contextlib.contextmanager
def changed() -> Iterator[dict[str, Any]]:
    """Context manager: the content of docs/coverage.json under a lock. Changes to it are saved at the end."""
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = stored()
        content["machine"] = machine()
        content["versions"].update(versions())
        yield content
        save(content)


def child() -> dict[str, Any]:
    """Keyword arguments of subprocess calls for a process that can import the package `exported`."""
    paths = [str(TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"cwd": TOOLS, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}}


def measured(name: str, exporter: str, seconds: float) -> dict[str, Any]:
    """Measure the row of one network and exporter in a process that may take `seconds` seconds."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "exported.measure", name, exporter],
            capture_output=True, text=True, timeout=seconds, check=False, **child(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"stage": "", "error": f"took more than {seconds:g} s"}
    try:
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {"stage": "", "error": f"ended with status {done.returncode}: {last[0]}"[:600]}
    return row


def machine() -> str:
    """The processor's name and the number of threads."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return f"{name}, {len(os.sched_getaffinity(0))} threads"


def run(arguments: argparse.Namespace) -> int:
    """Measure the requested rows and store them; returns the exit status."""
    wanted = [find(name) for name in arguments.only] if arguments.only else NETWORKS
    failed = 0
    for network in wanted:
        for exporter in network.exporters:
            if exporter not in arguments.exporters:
                continue
            key = f"{network.name} {exporter}"
            if arguments.resume and is_green(stored()["rows"].get(key, {})):
                continue
            result = measured(network.name, exporter, arguments.seconds)
            row = {"library": network.library, "size": network.size, **result}
            if key in NOTES:
                row["note"] = NOTES[key]
            note(key, row)
            failed += not is_green(row)
            print(f"{key:40} {short(row)}", flush=True)
    return int(failed > 0)


def load(arguments: argparse.Namespace) -> int:
    """Measure how long the networks of LOADING take to load and plan (exported/loading.py), and store the times."""
    python = [sys.executable, "-W", "ignore", "-m", "exported.loading"]
    with tempfile.TemporaryDirectory() as folder:
        for name in LOADING:
            for exporter in find(name).exporters:
                path = str(Path(folder, f"{name}-{exporter}.onnx"))
                subprocess.run([*python, "export", name, exporter, path], check=True, capture_output=True, **child())
                runs = [subprocess.check_output([*python, "time", path], **child()) for _ in range(REPEATS)]
                results = [json.loads(run) for run in runs]
                seconds = statistics.median(result["seconds"] for result in results)
                with changed() as content:
                    content.setdefault("loading", {}).setdefault(name, {})[exporter] = [results[0]["nodes"], seconds]
                print(f"{name:20} {exporter:10} {seconds:.2f} s")
    return 0


def write(arguments: argparse.Namespace) -> int:
    """Write docs/coverage.md, or with --check compare it; returns the exit status."""
    text = page(stored())
    if arguments.check:
        return int(not PAGE.exists() or PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="coverage.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = result.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="measure rows")
    command.add_argument(
        "--only", type=lambda text: text.split(","), help="names of networks to measure, separated by commas"
    )
    command.add_argument(
        "--exporters",
        type=lambda text: text.split(","),
        default=list(EXPORTERS),
        help=f"names out of {','.join(EXPORTERS)}; default all",
    )
    command.add_argument("--resume", action="store_true", help="skip rows that are already green")
    command.add_argument("--seconds", type=float, default=600, help="time limit for one row (default 600)")
    command.set_defaults(call=run)
    command = commands.add_parser("load", help="measure how long loading and planning takes")
    command.set_defaults(call=load)
    command = commands.add_parser("write", help="write docs/coverage.md")
    command.add_argument("--check", action="store_true", help="write nothing; exit status 1 if it is not up to date")
    command.set_defaults(call=write)
    return result


def main() -> int:
    arguments = parser().parse_args()
    result: int = arguments.call(arguments)
    return result


if __name__ == "__main__":
    sys.exit(main())
