#!/usr/bin/env python3
"""Check the machine code of the micro-kernel: all FMAs there, no accumulator spilled to the stack.

    python tools/check_assembly.py

For every build that has FMA instructions, looks at each tile function (kernels/tile.h) in the compiled modules,
finds its innermost loop, and counts. A tile of n rows and v vectors takes n * v FMAs per step; any other number
means that the compiler split multiply and add, and a vector on the stack that it ran out of registers. Needs
`objdump`.

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

MODULES = ("conv_direct", "conv_weight", "conv_winograd", "conv_winograd_weight", "gemm")
FUNCTION = re.compile(r"^[0-9a-f]+ <(tile_(?:across|along)_(\d+)_(\d+))(?:\.\w+)*>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
JUMP = re.compile(r"^([0-9a-f]+) <")


@dataclass
class Tile:
    """One function's instructions: (address, mnemonic, operands)."""

    name: str
    rows: int
    vectors: int
    code: list[tuple[int, str, str]]

    def loop(self) -> list[tuple[int, str, str]]:
        """The shortest loop that holds an FMA: from the target of a backward jump to the jump."""
        best: list[tuple[int, str, str]] = []
        for i, (address, mnemonic, operands) in enumerate(self.code):
            target = JUMP.match(operands)
            if not mnemonic.startswith("j") or target is None or int(target[1], 16) > address:
                continue
            begin = next((j for j, line in enumerate(self.code) if line[0] == int(target[1], 16)), None)
            if begin is None:
                continue
            body = self.code[begin : i + 1]
            if any(is_fma(line[1]) for line in body) and (not best or len(body) < len(best)):
                best = body
        return best

    def faults(self) -> Iterator[str]:
        loop = self.loop()
        if not loop:
            yield f"{self.name}: no loop with FMAs"
            return
        expected = self.rows * self.vectors
        fmas = sum(is_fma(mnemonic) for _, mnemonic, _ in loop)
        # The compiler may unroll the loop, so a multiple will do.
        if fmas == 0 or fmas % expected:
            yield f"{self.name}: {fmas} FMAs in the loop instead of {expected}"
        spills = [operands for _, _, operands in loop if "%rsp" in operands or "%rbp)" in operands]
        if any(re.search(r"%[xyz]mm", operands) for operands in spills):
            yield f"{self.name}: vectors on the stack within the loop"


def is_fma(mnemonic: str) -> bool:
    return mnemonic.startswith(("vfmadd", "vfnmadd"))


def tiles(path: Path) -> list[Tile]:
    """All tile functions of a compiled module."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    ).stdout
    found: list[Tile] = []
    inside = False
    for line in text.splitlines():
        if match := FUNCTION.match(line):
            found.append(Tile(match[1], int(match[2]), int(match[3]), []))
            inside = True
        elif line.endswith(">:"):
            inside = False
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
                    for tile in tiles(path):
                        seen += 1
                        faults += [f"{build}/{module}: {fault}" for fault in tile.faults()]
    if not seen:
        raise SystemExit("check_assembly: no tile functions found in the compiled modules")
    print(f"{seen} tile functions, {len(faults)} faults")
    return faults


if __name__ == "__main__":
    if shutil.which("objdump") is None:
        raise SystemExit("check_assembly: needs objdump (binutils)")
    problems = check()
    print("\n".join(problems))
    sys.exit(bool(problems))
