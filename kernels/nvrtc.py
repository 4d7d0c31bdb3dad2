#!/usr/bin/env python3
"""nvrtc.py FOLDER ARCH...: compiles every file of kernels with the libnvrtc in FOLDER as the program does, without a GPU.

The options and the headers are read out of src/device/cuda/compile.rs. Fails on an error or a warning, and on a spill for
the GPUs that kernels are tuned for, where CUOBJDUMP names that tool.
"""

import ctypes
import glob
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(HERE, "../src/device/cuda/compile.rs")


# A100, H100 and H200.
TUNED = ("sm_80", "sm_90")


def read(name):
    with open(os.path.join(HERE, name), "rb") as file:
        return file.read()


def of_the_program():
    """The options, with a place for the architecture, and the names of the headers that the program gives to NVRTC."""
    with open(PROGRAM, encoding="utf-8") as file:
        text = file.read()
    options = re.findall(r'"(--[^"]+)"', re.search(r"let options = \[(.*?)\];|let options = \[(.*?)\]\.map", text, re.S)[0])
    headers = re.findall(r'Source \{ name: "([^"]+\.cuh)"', text)
    if not any("sm_{major}{minor}" in option for option in options) or not headers:
        sys.exit(f"{PROGRAM}: the options and headers of NVRTC are not where nvrtc.py looks for them")
    return options, headers


def texts(strings):
    return (ctypes.c_char_p * len(strings))(*strings)


def load(folder):
    """Opens the library once in each process; its builtins first, which it finds no other way."""
    global nvrtc
    for name in ("libnvrtc-builtins.so.*", "libnvrtc.so.*"):
        nvrtc = ctypes.CDLL(glob.glob(os.path.join(folder, name))[0], mode=ctypes.RTLD_GLOBAL)


def version(folder):
    load(folder)
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def spills(program):
    """The kernels of a compiled program that keep registers in memory, if it can be read."""
    reader, size = os.environ.get("CUOBJDUMP"), ctypes.c_size_t()
    if not reader:
        return ""
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    binary = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, binary)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.raw)
        file.flush()
        said = subprocess.run([reader, "-res-usage", file.name], stdout=subprocess.PIPE, universal_newlines=True, check=True)
    kernels = re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+)", said.stdout)
    if not kernels:
        return "no kernels found in what cuobjdump says"
    return "\n".join(f"SPILLS: {kernel}, {stack} bytes" for kernel, stack in kernels if stack != "0")


def compile_one(task):
    """What the compiler has to say of one file, if anything."""
    name, arch, options, headers = task
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = [option.replace("sm_{major}{minor}", arch).encode() for option in options]
    contents = texts([read(header) for header in headers])
    names = texts([header.encode() for header in headers])
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), read(name), name.encode(), len(headers), contents, names)
    failed = nvrtc.nvrtcCompileProgram(program, len(options), texts(options))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    log = log.value.decode().strip() or (not failed and arch in TUNED and spills(program)) or ""
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    result = nvrtc.nvrtcGetErrorString(failed).decode()
    return f"FAILED: {name} for {arch} ({result})\n{log}" if failed or log else None


def main(folder, archs):
    start = time.time()
    options, headers = of_the_program()
    files = sorted(os.path.basename(path) for path in glob.glob(os.path.join(HERE, "*.cu")))
    tasks = [(name, arch, options, headers) for name in files for arch in archs]
    with multiprocessing.Pool(initializer=load, initargs=(folder,)) as pool:
        of = pool.apply(version, (folder,))
        said = [text for text in pool.imap_unordered(compile_one, tasks) if text]
    print("\n".join(said + [""]) if said else "", end="")
    found = f"{len(said)} FAILED" if said else "no error, no warning" + ("" if "CUOBJDUMP" not in os.environ else ", no spill")
    architectures = f"{len(archs)} architectures ({' '.join(archs)})"
    print(f"NVRTC {of}: {len(files)} files x {architectures}, {found}, {time.time() - start:.0f} s")
    return 1 if said else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
