"""Versions: what a bug report needs to say about this installation."""

from __future__ import annotations

import platform
import sys

from cconv.kernels import FLOAT32, builds
from cconv.kernels.threads import available_processors, get_num_threads, has_openmp

PACKAGES = ("cconv", "numpy", "onnx", "onnx-ir", "onnxruntime", "safetensors")


def version(package: str) -> str:
    """The installed version of a package, found without importing it."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, str]:
    """What runs here: packages, the kernels' build, threads, the processor."""
    processors = available_processors()
    found = {package: version(package) for package in PACKAGES}
    found["kernels"] = f"{FLOAT32.name} (of {', '.join(builds())})"
    threads = f"{get_num_threads()} of {processors} processors"
    found["threads"] = threads if has_openmp() else "1 (built without OpenMP)"
    found["processor"] = _processor()
    found["python"] = f"{platform.python_version()} on {platform.platform()}"
    return found


def show_versions() -> None:
    """Print `versions()`."""
    found = versions()
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {value}")


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
                for line in lines:
                    if line.startswith("model name"):
                        return line.split(":", 1)[1].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()
