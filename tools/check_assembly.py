#!/usr/bin/env python3
"""Check the machine code of the hot loops: all FMAs there, no vector spilled to the stack.

    python tools/check_assembly.py

For every build that has FMA instructions, looks at the functions of the micro-kernel (core/tile.h) and of depthwise
convolutions (conv/depthwise.h) in the compiled modules, finds their innermost loops, and counts. A tile of n rows
and v vectors takes n * v FMAs per step, a depthwise loop a multiple of its taps; any other number means that the
compiler split multiply and add, and a vector on the stack that it ran out of registers. Loops of masked loads, which
the last channels of a depthwise convolution go through, are not hot and not looked at. Needs `objdump`.

Exit status 1 and one line per fault.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = (
    "direct_loops",
    "scatter_loops",
    "weight_loops",
    "winograd_loops",
    "winograd_weight_loops",
    "depthwise_loops",
    "gemm_loops",
)
TILE = re.compile(r"tile_(?:across|along)_(\d+)_(\d+)")
DEPTHWISE = re.compile(r"depthwise_(?:sum_)?(\d+)(?:_\d+)?")
FUNCTION = re.compile(r"^[0-9a-f]+ <(\w+)(?:\.\w+)*>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
JUMP = re.compile(r"^([0-9a-f]+) <")
MASKED = re.compile(r"\{%k|^vmaskmov")

Code = list[tuple[int, str, str]]


@dataclass
class Function:
    """One function's instructions: (address, mnemonic, operands).

    Attributes:
        unit: FMAs of one step of its loop; the compiler may unroll the loop, so a multiple will do.
    """

    name: str
    unit: int
    code: Code

    def loops(self) -> list[Code]:
        """The innermost loops that hold FMAs and no masked loads: from the target of a backward jump to the jump.

        With a return in between it is none: the compiler puts rare branches behind the function's end.
        """
        places = {address: i for i, (address, _, _) in enumerate(self.code)}
        found: list[tuple[int, int]] = []
        for i, (_, mnemonic, operands) in enumerate(self.code):
            target = JUMP.match(operands)
            begin = places.get(int(target[1], 16)) if mnemonic.startswith("j") and target else None
            if begin is None or begin > i or any(begin <= first for first, _ in found if first <= i):
                continue
            body = [mnemonic for _, mnemonic, _ in self.code[begin : i + 1]]
            if any(map(is_fma, body)) and not any(mnemonic.startswith("ret") for mnemonic in body):
                found.append((begin, i))
        bodies = [self.code[begin : end + 1] for begin, end in found]
        return [body for body in bodies if not any(MASKED.search(f"{line[1]} {line[2]}") for line in body)]

    def faults(self) -> Iterator[str]:
        loops = self.loops()
        if not loops:
            yield f"{self.name}: no loop with FMAs"
        for loop in loops:
            fmas = sum(is_fma(mnemonic) for _, mnemonic, _ in loop)
            if fmas % self.unit:
                yield f"{self.name}: {fmas} FMAs in the loop, no multiple of {self.unit}"
            spills = [operands for _, _, operands in loop if "%rsp" in operands or "%rbp)" in operands]
            if any(re.search(r"%[xyz]mm", operands) for operands in spills):
                yield f"{self.name}: vectors on the stack within the loop"


def is_fma(mnemonic: str) -> bool:
    return mnemonic.startswith(("vfmadd", "vfnmadd"))


def unit_of(name: str) -> int | None:
    """FMAs of a step of a function's loop; None: it is none to be looked at."""
    if match := TILE.fullmatch(name):
        return int(match[1]) * int(match[2])
    if match := DEPTHWISE.fullmatch(name):
        return int(match[1])
    return None


def functions(path: Path) -> list[Function]:
    """The functions of a compiled module that hold hot loops."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    ).stdout
    found: list[Function] = []
    inside = False
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            unit = unit_of(match[1])
            inside = unit is not None
            if unit is not None:
                found.append(Function(match[1], unit, []))
        elif inside and (instruction := INSTRUCTION.match(line)):
            found[-1].code.append((int(instruction[1], 16), instruction[2], instruction[3]))
    return found


def check() -> list[str]:
    """All faults; raises if there is nothing to look at."""
    faults, seen = [], 0
    for build in ("avx512", "avx2"):
        for module in MODULES:
            spec = importlib.util.find_spec(f"cconv.kernels.{build}")
            if spec is None or spec.submodule_search_locations is None:
                continue
            for folder in spec.submodule_search_locations:
                for path in Path(folder).glob(f"{module}.*.so"):
                    for function in functions(path):
                        seen += 1
                        faults += [f"{build}/{module}: {fault}" for fault in function.faults()]
    if not seen:
        raise SystemExit("check_assembly: no hot functions found in the compiled modules")
    print(f"{seen} functions, {len(faults)} faults")
    return faults


if __name__ == "__main__":
    if shutil.which("objdump") is None:
        raise SystemExit("check_assembly: needs objdump (binutils)")
    problems = check()
    print("\n".join(problems))
    sys.exit(bool(problems))
