"""show_versions: what a report of a problem should say about the machine and the packages."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata

from cconv import __version__
from cconv.kernels import FLOAT32, builds
from cconv.kernels.core.threads import available_processors, get_num_threads, has_openmp
from cconv.kernels.schedule import algorithms

PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "safetensors")


def versions() -> dict[str, str]:
    """What `show_versions` prints, by name. No package is imported for it."""
    others = [name for name in builds() if name != FLOAT32.name]
    found = {
        "cconv": __version__,
        "build": f"{FLOAT32.name} (here as well: {', '.join(others) or 'none'})",
        "schedule": algorithms.describe(),
        "OpenMP": "yes" if has_openmp() else "no: one thread",
        "threads": f"{get_num_threads()} of {available_processors()} processors",
        "processor": processor(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["Python"] = platform.python_version()
    found["platform"] = platform.platform()
    return found


def show_versions() -> None:
    """Print versions, the kernel build and the schedule in use, OpenMP and threads, processor and platform."""
    found = versions()
    width = max(len(name) for name in found)
    for name, value in found.items():
        print(f"{name.ljust(width)}  {value}")


def processor() -> str:
    """The processor's model, as the system names it."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
