#!/usr/bin/env python3
"""dry_run.py SHIM: takes a bundle of what is built for tests through first_day.py, where the processor stands for a GPU (the
folder SHIM has its driver), and checks what is written: once as it is, once with planted failures, once with a GPU too old."""
import glob
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

# What stands for the bundle's programs in the run with failures: one test fails, and the bench hangs after a large error.
PLANTED = {
    "libtest": """echo 'test device::fine ... ok'; echo 'test device::planted ... FAILED'; exit 101""",
    "gpu": """echo '{"error": "planted", "value": 1.0, "limit": 0.1, "ok": false}' > "$5"; sleep 100""",
}


def first_day(out, bundle, *options, **environment):
    """The exit code, the lines, and what was printed."""
    command = ["setarch", "-R", sys.executable, f"{HERE}/first_day.py", out, bundle, "--dry-run", *options]
    run = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, universal_newlines=True)
    with open(f"{out}/results.jsonl") as file:
        return run.returncode, [json.loads(line) for line in file], run.stdout


def check(holds, what, printed):
    if not holds:
        sys.exit(f"{printed}\nfirst_day.py, dry run: FAILED, expected {what}")


def well(folder, archive):
    code, lines, printed = first_day(f"{folder}/well", archive, "--budget", "150")
    check(code == 0 and all(line["ok"] or "skipped" in line for line in lines), "no failure", printed)

    def count(key, *names):
        return len([line for line in lines if line["ok"] and (line.get(key) in names if names else key in line)])

    check(count("test") > 5, "tests that pass", printed)
    check(count("ceiling", "copy", "download") == 2 and count("kernel") == 24, "times and ceilings of the bench", printed)
    check(count("error") == 26, "errors of long products", printed)
    check(count("comparison", "grm", "gblup", "mlp", "wgan") == 4, "four programs on both devices", printed)
    check(count("comparison", "mlp, staged, ranks: 2") == 1, "two ranks with the bundle's mpirun", printed)
    nccl = 2 if glob.glob(f"{os.environ['LD_LIBRARY_PATH']}/libnccl.so*") else 0
    check(count("comparison", "mlp, nccl, ranks: 1", "mlp, nccl, ranks: 2") == nccl, "NCCL where something stands for it", printed)
    table = [sys.executable, f"{HERE}/table.py", f"{folder}/well/results.jsonl"]
    text = subprocess.run(table, stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    for words in ("## Measured ceilings", "| copy |", "| grm |", "cuda-bf16: Z W", "| [X; Y]' D", "not run: "):
        check(words.replace("| [X", "[X") in text, f"{words} in the tables", text)
    return lines


def planted(folder, bundle):
    for name, script in PLANTED.items():
        os.remove(f"{bundle}/{name}")
        with open(f"{bundle}/{name}", "w") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(f"{bundle}/{name}", 0o755)
    code, lines, printed = first_day(f"{folder}/planted", bundle, "--only", "tests,bench,nccl", "--budget", "15")
    check(code == 1, "exit code 1 where a test fails", printed)
    found = {line.get("test"): line["ok"] for line in lines if "under" not in line}
    check(found.get("device::fine") is True and found.get("device::planted") is False, "one test well, one failed", printed)
    again = [line["under"] for line in lines if "under" in line and line["test"] == "device::planted"]
    check(again == ["CUDA_LAUNCH_BLOCKING", "memcheck"], "the failed test again in two ways", printed)
    check(any(line.get("error") == "planted" and not line["ok"] for line in lines), "the error that is too large", printed)
    check(any("out of time" in line.get("why", "") for line in lines), "the bench ended at its limit", printed)
    check(any(line["step"] == "nccl" and "skipped" in line for line in lines), "a step without time skipped", printed)
    check("FAILED" in printed and "device::planted" in printed, "the failures in what is printed", printed)


def too_old(folder, bundle):
    code, lines, printed = first_day(f"{folder}/old", bundle, "--only", "tests", SHIM_CARD="75")
    check(code == 1, "exit code 1 where the GPU does not open", printed)
    check(any(line["step"] == "open" and "compute capability 7.5" in line.get("tail", "") for line in lines), "its reason", printed)
    check(not any("test" in line for line in lines), "no test without a GPU", printed)
    check("needed, but not run" in printed and "tests" in printed, "what is lacking in what is printed", printed)


def main():
    if platform.machine() != "x86_64":
        print("first_day.py, dry run: NOT RUN, the bundle is for x86-64 only")
        return 77
    shim = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/bundle.tar"
        subprocess.run([f"{HERE}/bundle.sh", archive, "debug"], check=True)
        os.environ.update(LD_LIBRARY_PATH=shim, SHIM_CARD="90", SHIM_SEED="0", SHIM_DEVICES="2")
        lines = well(folder, archive)
        bundle = f"{folder}/bundle"
        with tarfile.open(archive) as packed:
            packed.extractall(bundle)
        planted(folder, bundle)
        too_old(folder, bundle)
    did = sum(line["ok"] for line in lines)
    print(f"first_day.py, dry run: {did} results well, {len(lines) - did} skipped; planted failures are seen")
    return 0


if __name__ == "__main__":
    sys.exit(main())
