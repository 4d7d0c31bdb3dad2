#!/usr/bin/env python3
"""sass.py CUOBJDUMP FOLDER [--write]: holds the machine code of kernels to the numbers kept in sass.txt.

FOLDER has the cubins that compile.sh made: sm_80/NAME.cubin, sm_90/NAME.cubin. After a change that is meant, this writes
the table anew (compile.sh says where it put both): kernels/compile.sh target/nvcc --write

Fails where registers or the instructions of the hottest loop or of a stage grew by more than 5 %, where other
tensor-core instructions or other asynchronous copies are in the kernel than before, where a number lives in local
memory, and where f64 on Hopper goes by another instruction than DMMA.16x8x4, which is the fast one there.
"""

import collections
import glob
import multiprocessing
import os
import re
import subprocess
import sys

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sass.txt")
HEAD = """# Machine code of the kernels, written by sass.py (see there): the instructions of the hottest loop (of the whole kernel
# where there is none) and of the loop around it that begins asynchronous copies, the tensor-core instructions in the
# hottest loop, and the widths in bits of asynchronous copies in the kernel.
"""
COLUMNS = ["file", "arch", "kernel", "registers", "loop", "stage", "tensor", "copies"]
GROWTH = 1.05

Kernel = collections.namedtuple("Kernel", COLUMNS)
Instruction = collections.namedtuple("Instruction", ["address", "name", "target"])


def dumped(cuobjdump, what, cubin):
    return subprocess.run([cuobjdump, what, cubin], capture_output=True, text=True, check=True).stdout


def instructions_of(text):
    """Of each kernel its instructions."""
    kernels, current = {}, None
    for line in text.splitlines():
        if found := re.search(r"Function : (\S+)", line):
            current = kernels.setdefault(found[1], [])
        elif found := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?(\S+)([^;]*);", line):
            target = re.search(r"0x([0-9a-f]+)", found[3]) if found[2].startswith("BRA") else None
            current.append(Instruction(int(found[1], 16), found[2], target and int(target[1], 16)))
    return kernels


def is_tensor(instruction):
    return instruction.name.split(".")[0].endswith("MMA")


def is_copy(instruction):
    return instruction.name.startswith("LDGSTS")


def loops(kernel):
    """Its loops as (first, last) place: what a jump back repeats."""
    place = {instruction.address: at for at, instruction in enumerate(kernel)}
    return [(place[i.target], at) for at, i in enumerate(kernel) if i.target is not None and i.target < i.address]


def hottest(kernel):
    """The shortest loop with the most tensor-core instructions; without those the longest that has no loop in it, or all."""
    found = sorted(loops(kernel), key=lambda loop: loop[1] - loop[0])
    tensor = [sum(map(is_tensor, kernel[first : last + 1])) for first, last in found]
    if not found:
        return 0, len(kernel) - 1
    if max(tensor) > 0:
        return found[tensor.index(max(tensor))]
    return [x for x in found if not any(x != y and x[0] <= y[0] and y[1] <= x[1] for y in found)][-1]


def stage(kernel, hot):
    """The shortest loop around the hottest one that also begins asynchronous copies, if one does."""
    around = [x for x in loops(kernel) if x[0] <= hot[0] and hot[1] <= x[1]]
    around = [x for x in around if any(map(is_copy, kernel[x[0] : x[1] + 1]))]
    return min((last - first + 1 for first, last in around), default="-")


def counted(names):
    counts = collections.Counter(names)
    return ",".join(f"{count}x{name}" for name, count in sorted(counts.items())) or "-"


def measured(task):
    """The kernels of one cubin, and what is wrong with them whatever was kept."""
    cuobjdump, cubin = task
    kernels, wrong = [], []
    file, arch = os.path.basename(cubin)[: -len(".cubin")] + ".cu", os.path.basename(os.path.dirname(cubin))
    registers = dict(re.findall(r"Function (\S+):\s+REG:(\d+)", dumped(cuobjdump, "-res-usage", cubin)))
    for name, kernel in sorted(instructions_of(dumped(cuobjdump, "-sass", cubin)).items()):
        first, last = hot = hottest(kernel)
        tensor = counted(i.name for i in kernel[first : last + 1] if is_tensor(i))
        copies = "+".join(sorted({"128" if ".128" in i.name else "32" for i in kernel if is_copy(i)})) or "-"
        sizes = [int(registers[name]), last - first + 1, stage(kernel, hot)]
        kernels.append(Kernel(file, arch, name, *sizes, tensor, copies))
        wrong += (f"{file} {arch} {name}: {problem}" for problem in never(arch, kernel))
    return kernels, wrong


def never(arch, kernel):
    """What no kernel may have."""
    if local := sum(i.name.split(".")[0] in ("LDL", "STL") for i in kernel):
        yield f"{local} instructions of local memory"
    doubles = {i.name for i in kernel if i.name.startswith("DMMA")}
    if arch.startswith("sm_90") and doubles - {"DMMA.16x8x4"}:
        yield f"{' '.join(sorted(doubles))} instead of DMMA.16x8x4"


def kept():
    with open(TABLE, encoding="utf-8") as file:
        rows = [line.split() for line in file if not line.startswith("#")]
    numbers = [[int(x) if x != "-" else x for x in row[3:6]] for row in rows[1:]]
    return {tuple(row[:3]): Kernel(*row[:3], *sizes, *row[6:]) for row, sizes in zip(rows[1:], numbers)}


def kinds(tensor):
    """Which instructions, however many."""
    return {part.split("x", 1)[1] for part in tensor.split(",") if part != "-"}


def compared(now, before):
    where = f"{now.file} {now.arch} {now.kernel}"
    if before is None:
        yield f"{where}: not in the table"
        return
    for column in ("registers", "loop", "stage"):
        new, old = getattr(now, column), getattr(before, column)
        if (new == "-") != (old == "-") or new != "-" and new > GROWTH * old:
            yield f"{where}: {column} {new}, was {old}"
    if kinds(now.tensor) != kinds(before.tensor):
        yield f"{where}: tensor-core instructions {now.tensor}, were {before.tensor}"
    if now.copies != before.copies:
        yield f"{where}: asynchronous copies of {now.copies} bits, were of {before.copies}"


def write(kernels):
    rows = [COLUMNS] + [[str(x) for x in kernel] for kernel in kernels]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    with open(TABLE, "w", encoding="utf-8") as file:
        file.write(HEAD)
        for row in rows:
            file.write("  ".join(x.ljust(w) for x, w in zip(row, widths)).rstrip() + "\n")


def main(cuobjdump, folder, writes):
    cubins = sorted(glob.glob(os.path.join(folder, "sm_*", "*.cubin")))
    with multiprocessing.Pool() as pool:
        parts = pool.map(measured, [(cuobjdump, cubin) for cubin in cubins], chunksize=1)
    kernels, wrong = ([x for part in parts for x in part[i]] for i in (0, 1))
    if not kernels:
        sys.exit(f"sass.py: no kernels in {folder}")
    if writes:
        write(kernels)
    table = kept()
    found = {tuple(kernel[:3]) for kernel in kernels}
    wrong += [f"{' '.join(key)}: in the table, but not there" for key in table if key not in found]
    for kernel in kernels:
        wrong += compared(kernel, table.get(tuple(kernel[:3])))
    for line in wrong:
        print(f"SASS: {line}")
    state = f"{len(wrong)} FAILED (kernels/sass.py tells how to keep what is meant)" if wrong else "as kept in sass.txt"
    print(f"SASS: {len(kernels)} kernels, {state}")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["--write"]):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], len(sys.argv) == 4))
