"""Which kernel build suits this processor. Standard library only: setup.py asks it too."""

import platform
import sys

# What the flags of each build in setup.py let the compiler use, by the names Linux gives the features.
NEEDS: dict[str, frozenset[str]] = {
    "avx512": frozenset(("avx512f", "avx512vl", "avx512bw", "avx512dq", "fma", "avx2")),
    "avx2": frozenset(("avx2", "fma")),
    "generic": frozenset(),
}


def features() -> frozenset[str]:
    """Feature names of this processor, lower case; empty where the system does not tell."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return frozenset()
    if sys.platform == "darwin":
        import subprocess

        keys = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
        text = subprocess.run(["sysctl", "-n", *keys], capture_output=True, text=True, check=False).stdout
        return frozenset(text.lower().replace(".", "_").split())
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("flags"):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def best_build(present: tuple[str, ...]) -> str:
    """The widest of the builds in `present` that this processor runs; `generic` runs on all."""
    have = features()
    return next((name for name, needs in NEEDS.items() if name in present and needs <= have), "generic")
