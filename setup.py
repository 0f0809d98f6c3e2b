"""Compile the Cython kernels of cconv.

A kernel has two files. `cconv/kernels/pool/pool.pyx` holds its classes and is compiled once, to
`cconv.kernels.pool.pool`. `pool_loops.pyx` in the same folder holds its loops and is compiled once for each entry of
BUILDS: to `cconv.kernels.avx512.pool_loops`, `cconv.kernels.avx2.pool_loops`, `cconv.kernels.generic.pool_loops` and
`cconv.kernels.float64.pool_loops`. These modules have the same source, with a different vector width or a different
type `real` (see core/simd.h). At run time `cconv/kernels/__init__.py` selects the build that fits the processor.

Builds in place (`pip install -e .`, `python setup.py build_ext --inplace`) skip a module whose compiled file is newer
than its sources and was built with the same options. setuptools alone would compile every module again in each
`pip install -e .`: it builds into an empty temporary folder.

Environment variables:
    CCONV_BUILD_ISAS   comma-separated names from BUILDS; `native` stands for the build that this machine would select.
                       float64 is always added. Default: all builds for this processor architecture.
    CCONV_DEBUG=1      bounds checks, -O1, debug symbols, undefined-behaviour sanitizer.
    CCONV_OPENMP=0     build without OpenMP: one thread only, with bit-identical results.
"""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
KERNELS = Path("cconv/kernels")
HEADERS = [str(folder) for folder in sorted(KERNELS.iterdir()) if any(folder.glob("*.h"))]

X86 = platform.machine().lower() in ("x86_64", "amd64")
DEBUG = os.environ.get("CCONV_DEBUG") == "1"

# Build name -> compiler flags. All builds have the same sources; simd.h derives the vector width from the flags.
BUILDS: dict[str, list[str]] = {"generic": [], "float64": ["-DCCONV_FLOAT64"]}
if X86:
    BUILDS["avx2"] = ["-mavx2", "-mfma"]
    BUILDS["avx512"] = [
        "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512",
    ]  # fmt: skip

# -std=gnu11 instead of c11, because c11 disables FMA contraction. -ffast-math is not used, so that NaN and signed zero
# behave as in IEEE 754. errno and floating-point traps are given up, which lets the compiler vectorise comparisons.
FLAGS = ["-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wno-unused-function"]
FLAGS += ["-O1", "-g", "-fsanitize=undefined"] if DEBUG else ["-O3", "-g0"]
# The classes run when a plan is compiled, not in the inner loops, so -O1 is enough. It halves the compile time of -O3.
CLASS_FLAGS = ["-O1"]

# Cython directives. The kernels index raw pointers, to which boundscheck does not apply. wraparound stays on, because
# constructors index Python lists with negative numbers.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "annotation_typing": False,  # annotations such as `n: int` do not convert values
    "binding": False,
    "embedsignature": True,
    "freethreading_compatible": False,
    "auto_pickle": False,  # kernel objects are never pickled; pickling code takes 300 lines of C per class
}


def native_build() -> str:
    """The build that would be selected at run time on this machine."""
    sys.path.insert(0, str(ROOT / KERNELS))
    import cpu

    return cpu.best_build(tuple(BUILDS))


def selected_builds() -> list[str]:
    """The builds to compile, as chosen by CCONV_BUILD_ISAS."""
    requested = os.environ.get("CCONV_BUILD_ISAS", "")
    if not requested:
        return list(BUILDS)
    names = {native_build() if name == "native" else name for name in requested.split(",")} | {"float64"}
    if unknown := names - set(BUILDS):
        raise SystemExit(f"CCONV_BUILD_ISAS: unknown {sorted(unknown)}; this machine can build {list(BUILDS)}")
    return [name for name in BUILDS if name in names]


def openmp_flags() -> tuple[list[str], list[str]]:
    """(compile, link) flags that enable OpenMP, found by compiling a test program; empty lists if none works."""
    if os.environ.get("CCONV_OPENMP") == "0":
        return [], []
    candidates = [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "darwin":
        prefix = os.environ.get("LIBOMP_PREFIX", "/opt/homebrew/opt/libomp")
        candidates = [(["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"], [f"-L{prefix}/lib", "-lomp"])]
    compiler = os.environ.get("CC", "cc").split()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        for compile_flags, link_flags in candidates:
            command = [*compiler, *compile_flags, str(source), *link_flags, "-o", str(Path(folder, "probe"))]
            try:
                if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                    return compile_flags, link_flags
            except OSError:
                break
    print("cconv: no OpenMP found; building for one thread", file=sys.stderr)
    return [], []


def find(name: str) -> Path | None:
    """Find a header or `.pxd` file by name in the folders of kernels/; None if there is no such file."""
    return next(KERNELS.glob(f"*/{name}"), None)


@functools.cache  # each loops file is asked for once a build, and most files share headers
def used_by(source: Path) -> set[Path]:
    """Headers and `.pxd` files that a module uses, directly or through others. If one changes, it is compiled again."""
    text = source.read_text()
    names = [f"{name}.pxd" for name in re.findall(r"from cconv\.kernels\.\w+\.(\w+) cimport", text)]
    names += re.findall(r'(?:extern from|#include) "(\w+\.h)"', text)
    files = {path for path in map(find, names) if path}
    if source.suffix == ".pyx" and source.with_suffix(".pxd").exists():
        files.add(source.with_suffix(".pxd"))
    return files.union(*(used_by(path) for path in files))


def place_of(name: str) -> Path:
    """Where a module lies when it is built in place."""
    return Path(*name.split(".")).with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))


def drop_if_options_changed() -> None:
    """Remove the modules that were built in place with other options than today's. Their age would say nothing."""
    names = ("CCONV_OPENMP", "CC", "CFLAGS", "CPPFLAGS", "LDFLAGS")
    options = {
        "flags": FLAGS, "class flags": CLASS_FLAGS, "builds": BUILDS, "Cython": Cython.__version__,
        "environment": {name: os.environ.get(name, "") for name in names},
    }  # fmt: skip
    now = json.dumps(options, indent=1)
    record = Path("build", "inplace-options.json")
    if not record.exists() or record.read_text() != now:
        for path in KERNELS.glob(f"*/*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            path.unlink()
        for folder in [*Path("build").glob("lib*"), *Path("build").glob("temp*")]:
            shutil.rmtree(folder)
        record.parent.mkdir(exist_ok=True)
        record.write_text(now)


def is_current(name: str, source: Path) -> bool:
    """Whether a module was built in place after the last change to what it is made from."""
    built = place_of(name)
    sources = {source, Path("setup.py"), *used_by(source)}
    return built.exists() and built.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def translate(folder: str, modules: dict[str, Path], flags: list[str], link: list[str]) -> list[Extension]:
    """Translate Cython sources to C, and return the extension modules to compile.

    Args:
        folder: folder below build/cython for the generated C files.
        modules: module name -> source file.
        flags, link: additional compiler and linker flags.
    """
    extensions = cythonize(
        [Extension(name, sources=[str(source)]) for name, source in modules.items()],
        build_dir=f"build/cython/{folder}",
        compiler_directives=DIRECTIVES,
        include_path=["."],
        nthreads=os.cpu_count() or 1,
        quiet=True,
    )
    # Flags are set after cythonize, because cythonize caches them by source file and would reuse another build's.
    for module in extensions:
        module.include_dirs = HEADERS
        module.depends = sorted(map(str, used_by(Path(modules[module.name]))))
        module.extra_compile_args = FLAGS + flags
        module.extra_link_args = link + (["-fsanitize=undefined"] if DEBUG else [])
    return extensions


def extensions() -> list[Extension]:
    """All extension modules to compile."""
    sources = sorted(KERNELS.glob("*/*.pyx"))
    loops = [path for path in sources if path.stem.endswith("_loops")]
    once = {f"cconv.kernels.{path.parent.name}.{path.stem}": path for path in sources if path not in loops}
    threads = {name: once.pop(name) for name in ["cconv.kernels.core.threads"]}  # the only file that uses OpenMP
    groups = [("once", once, CLASS_FLAGS, []), ("threads", threads, *openmp_flags())]
    for build in selected_builds():
        groups.append((build, {f"cconv.kernels.{build}.{path.stem}": path for path in loops}, BUILDS[build], []))
    result = []
    if IN_PLACE:
        drop_if_options_changed()
    for folder, modules, flags, link in groups:
        current = [name for name, source in modules.items() if IN_PLACE and is_current(name, source)]
        outdated = {name: source for name, source in modules.items() if name not in current}
        result += [Extension(name, sources=[]) for name in current]
        if outdated:
            result += translate(folder, outdated, flags, link)
    return result


class ParallelBuild(build_ext):
    """build_ext that compiles on all processors in parallel."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext: Extension) -> None:
        if ext.sources:
            super().build_extension(ext)
            return
        target = Path(self.get_ext_fullpath(ext.name))
        if (
            target.resolve() != place_of(ext.name).resolve()
        ):  # else it is copied by copy_extensions_to_source, unchanged
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(place_of(ext.name), target)

    def copy_extensions_to_source(self) -> None:
        for build in BUILDS:  # build_ext --inplace does not create these folders
            if any(f".{build}." in module.name for module in self.extensions):
                Path(KERNELS, build).mkdir(exist_ok=True)
        super().copy_extensions_to_source()


IN_PLACE = "editable_wheel" in sys.argv or "--inplace" in sys.argv
building = {"build", "build_ext", "bdist_wheel", "install", "develop", "editable_wheel"} & set(sys.argv)
setup(ext_modules=extensions() if building else [], cmdclass={"build_ext": ParallelBuild})
