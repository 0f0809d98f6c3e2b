#!/usr/bin/env python3
"""Check the machine code of the hot loops: FMA instructions are used, and no vector is spilled to the stack.

    python tools/check_assembly.py

For every build with FMA instructions, this script disassembles the compiled modules with `objdump`. It finds the
innermost loops of the register tile (core/tile.h) and of depthwise convolutions (conv/depthwise.h) and checks them:

- A tile of n rows and v vectors has n * v FMAs per step; a depthwise loop has a multiple of its number of taps. Any
  other number means that the compiler split an FMA into multiply and add.
- A vector on the stack means that the compiler ran out of registers.

Loops with masked loads are skipped. They compute the last channels of a depthwise convolution and are not hot.

Prints one line per fault. The exit status is 1 if there is a fault.
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
    """A function in a compiled module.

    Attributes:
        unit: FMAs of one step of its loop. The compiler may unroll the loop, so a loop may have a multiple of them.
        code: its instructions as (address, mnemonic, operands).
    """

    name: str
    unit: int
    code: Code

    def loops(self) -> list[Code]:
        """The innermost loops that contain FMAs and no masked loads.

        A loop is the code from the target of a backward jump to the jump. Code that contains a return is no loop: the
        compiler places rare branches after the end of the function, and these jump backward.
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
        """Yield a message for each fault in the function's loops."""
        loops = self.loops()
        if not loops:
            yield f"{self.name}: no loop with FMAs"
        for loop in loops:
            fmas = sum(is_fma(mnemonic) for _, mnemonic, _ in loop)
            if fmas % self.unit:
                yield f"{self.name}: {fmas} FMAs in the loop, not a multiple of {self.unit}"
            spills = [operands for _, _, operands in loop if "%rsp" in operands or "%rbp)" in operands]
            if any(re.search(r"%[xyz]mm", operands) for operands in spills):
                yield f"{self.name}: vectors on the stack in the loop"


def is_fma(mnemonic: str) -> bool:
    return mnemonic.startswith(("vfmadd", "vfnmadd"))


def unit_of(name: str) -> int | None:
    """FMAs per step of the loop of the function `name`. None if the function has no hot loop."""
    if match := TILE.fullmatch(name):
        return int(match[1]) * int(match[2])
    if match := DEPTHWISE.fullmatch(name):
        return int(match[1])
    return None


def functions(path: Path) -> list[Function]:
    """The functions with hot loops in a compiled module."""
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
    """The faults of all builds and modules.

    Raises:
        SystemExit: no function with a hot loop was found.
    """
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
        raise SystemExit("check_assembly: no functions with hot loops found in the compiled modules")
    print(f"{seen} functions, {len(faults)} faults")
    return faults


if __name__ == "__main__":
    if shutil.which("objdump") is None:
        raise SystemExit("check_assembly: needs objdump (binutils)")
    problems = check()
    print("\n".join(problems))
    sys.exit(bool(problems))
