"""Compile the kernels.

A kernel has two files. `cconv/kernels/pool/pool.pyx` holds its classes and is compiled once, to
`cconv.kernels.pool.pool`. `pool_loops.pyx` beside it holds its loops and is compiled once for each build of the table
BUILDS, to `cconv.kernels.avx512.pool_loops`, `cconv.kernels.avx2.pool_loops`, `cconv.kernels.generic.pool_loops` and
`cconv.kernels.float64.pool_loops`: the same text with another vector width or another `real` (see core/simd.h). At
run time `cconv/kernels/__init__.py` asks the processor and picks a build.

Builds in place (`pip install -e .`, `python setup.py build_ext --inplace`) skip a module whose compiled file is newer
than its sources and was built with the same options. setuptools alone would compile every module again in each
`pip install -e .`: it builds into an empty temporary folder.

Environment:
    CCONV_BUILD_ISAS   comma-separated subset of the table, or `native`: only what this machine would pick,
                       and float64. Default: all that the target's compiler can make.
    CCONV_DEBUG=1      bounds checks, no optimisation, debug symbols, undefined-behaviour sanitizer.
    CCONV_OPENMP=0     build without OpenMP (one thread; the results are the same bits).
"""

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

# build: flags. Each build is compiled from the same sources; simd.h reads the vector width off the flags.
BUILDS: dict[str, list[str]] = {"generic": [], "float64": ["-DCCONV_FLOAT64"]}
if X86:
    BUILDS["avx2"] = ["-mavx2", "-mfma"]
    BUILDS["avx512"] = [
        "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512",
    ]  # fmt: skip

# gnu11 and not c11, which would switch FMA contraction off. No -ffast-math: NaN and signed zero keep their
# meaning; errno and floating-point traps do not, which lets the compiler vectorise comparisons.
FLAGS = ["-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wno-unused-function"]
FLAGS += ["-O1", "-g", "-fsanitize=undefined"] if DEBUG else ["-O3", "-g0"]
# Classes run when a plan is made, not in the loops: -O1 takes half of -O3's time to compile.
CLASS_FLAGS = ["-O1"]

# Kernels index pointers, which no directive touches; lists in the constructors keep Python's negative indices.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "annotation_typing": False,  # `n: int` is for readers, not a conversion
    "binding": False,
    "embedsignature": True,
    "freethreading_compatible": False,
    "auto_pickle": False,  # steps are not pickled; the code for it is 300 lines of C a class
}


def native_build() -> str:
    """The build that this machine would pick, by the same test as at run time."""
    sys.path.insert(0, str(ROOT / KERNELS))
    import cpu

    return cpu.best_build(tuple(BUILDS))


def selected_builds() -> list[str]:
    wish = os.environ.get("CCONV_BUILD_ISAS", "")
    if not wish:
        return list(BUILDS)
    names = {native_build() if name == "native" else name for name in wish.split(",")} | {"float64"}
    if unknown := names - set(BUILDS):
        raise SystemExit(f"CCONV_BUILD_ISAS: unknown {sorted(unknown)}; this machine can build {list(BUILDS)}")
    return [name for name in BUILDS if name in names]


def openmp_flags() -> tuple[list[str], list[str]]:
    """(compile, link) flags that give OpenMP here, found by compiling; empty when none does."""
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
    """The header or `.pxd` of that name in one of the folders of kernels/."""
    return next(KERNELS.glob(f"*/{name}"), None)


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
    """Extensions for {module name: source}, their generated C in a folder of its own."""
    extensions = cythonize(
        [Extension(name, sources=[str(source)]) for name, source in modules.items()],
        build_dir=f"build/cython/{folder}",
        compiler_directives=DIRECTIVES,
        include_path=["."],
        nthreads=os.cpu_count() or 1,
        quiet=True,
    )
    # Set only now: cythonize keeps flags by source file and would hand one build's to the next.
    for module in extensions:
        module.include_dirs = HEADERS
        module.depends = sorted(map(str, used_by(Path(modules[module.name]))))
        module.extra_compile_args = FLAGS + flags
        module.extra_link_args = link + (["-fsanitize=undefined"] if DEBUG else [])
    return extensions


def extensions() -> list[Extension]:
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
    """build_ext that compiles on all processors."""

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
        for build in BUILDS:  # build_ext --inplace does not make these folders
            if any(f".{build}." in module.name for module in self.extensions):
                Path(KERNELS, build).mkdir(exist_ok=True)
        super().copy_extensions_to_source()


IN_PLACE = "editable_wheel" in sys.argv or "--inplace" in sys.argv
building = {"build", "build_ext", "bdist_wheel", "install", "develop", "editable_wheel"} & set(sys.argv)
setup(ext_modules=extensions() if building else [], cmdclass={"build_ext": ParallelBuild})
