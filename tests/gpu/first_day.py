#!/usr/bin/env python3
"""What a short time on a machine with a GPU has to tell: tests, errors and times, as lines of JSON.

    python3 first_day.py OUT BUNDLE                      all steps, within 460 s
    python3 first_day.py OUT BUNDLE --only open,tests    some of them
    python3 table.py OUT/results.jsonl                   the tables of benches/results/gpu.md

BUNDLE comes from `make gpu-bundle`, packed or unpacked. The machine needs a driver, Python 3.8 or later and CUDA's compiler
(libnvrtc); PyTorch (of the python3 that TORCH_PYTHON names), NCCL, compute-sanitizer and ncu are used where they are.

OUT/results.jsonl gets an object a line, written at once: step, ok, seconds, and what there is to tell. What did not run has
`skipped`, the reason, and counts as nothing. OUT/log.txt has what every command said, also one that was cut off, and
OUT/torch.jsonl and OUT/bench.jsonl what was measured by then. The exit code is 1 where something
failed, or where a step that everybody needs did not run.
"""
import argparse
import array
import json
import math
import os
import platform
import re
import shutil
import sys
import time
from collections import namedtuple

from day import Day, printed, tail

# A step, its function, its limit in seconds, and whether the day is a failure without it.
Step = namedtuple("Step", "name work limit required")

# The backends' tests; NOT_RUN is how one of them says that something is missing.
TESTS = ["device::", "nn::", "comm::reduce", "wgan_gp::"]
NOT_RUN = re.compile(r"NOT RUN|not run|no GPU")
# How many failed tests run again alone.
AGAIN = 4
# Differences of the GPU from the processor that rounding explains: f64 sums of a solver that stops at a residual; f32 weights.
LIMITS = {"grm": 1e-6, "gblup": 1e-6, "mlp": 2e-3, "wgan": 1e-2}
KERNELS = "gather|onehot|smooth|counts|times_|cross|product_|adam"
COUNTERS = [
    "gpu__time_duration.sum",
    "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    "sm__inst_issued.avg.pct_of_peak_sustained_active",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
]

WGAN = "[training]\nepochs = 1\nbatch = {batch}\ncritic_steps = {critic}\nevaluate_every = 9\ncheckpoint_every = 999\n"
Sizes = namedtuple("Sizes", "tests bench herd genotypes mlp wgan genome")
FULL = Sizes(
    tests=TESTS,
    bench=[],
    herd="--animals 4000 --snps 20000 --traits 3",
    genotypes="--animals 512 --snps 5000 --traits 1",
    mlp="[training]\nepochs = 2\nbatch = 512\n",
    wgan='preset = "holstein-genome"\n' + WGAN.format(batch=128, critic=2),
    genome="--animals 2000 --snps 50161 --traits 1",
)
# For a processor that stands for a GPU (tests/shim).
TINY = Sizes(
    tests=["device::cuda::gpu", "device::cuda::network::staging", "device::tests::sums_over", "comm::reduce"],
    bench=["tiny"],
    herd="--animals 120 --snps 300 --traits 2",
    genotypes="--animals 60 --snps 100 --traits 1",
    mlp="[network]\nhidden = [16]\n[training]\nepochs = 2\nbatch = 64\n",
    wgan="[network]\nlatent = 8\nwidths = [8, 16]\n" + WGAN.format(batch=32, critic=2),
    genome=None,
)


def machine(day):
    """The GPU, its driver, the host, and where libraries are looked for."""
    models = re.findall(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    version = printed([day.program("genialearn"), "--version"], day.environment).strip()
    day.say(True, host=f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores", system=platform.platform(),
            date=time.strftime("%Y-%m-%d"), python=platform.python_version(), program=version, gpus=day.gpus,
            libraries=day.environment["LD_LIBRARY_PATH"].split(":"))
    fields = "name,driver_version,memory.total,clocks.max.sm,compute_cap"
    found = day.execute(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], environment=os.environ)
    if not found.ok:
        return day.skip(found.why, gpu=None)
    for line in found.text.strip().splitlines():
        day.say(True, gpu=dict(zip(fields.split(","), line.split(", "))))


def opens(day):
    """Whether the GPU opens: kernels are compiled, loaded and run. Without it, tests of backends would leave it out."""
    tiny = "simulate --animals 20 --snps 50 --traits 1 --out o.h5 --pheno o.tsv --device cuda"
    day.run([day.program("genialearn"), *tiny.split()])


def tests(day):
    """The backends' tests; what fails again alone, without asynchronous launches and under compute-sanitizer."""
    command = [day.program("libtest"), *day.sizes.tests]
    outcome = day.run([*command, "--test-threads=4", "--show-output"], 120)
    results = dict(re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", outcome.text, re.M))
    said = dict(re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^----|^successes:|^failures:|\Z)", outcome.text, re.M | re.S))
    for name, result in results.items():
        if result == "ignored" or result == "ok" and NOT_RUN.search(said.get(name, "")):
            day.skip(said.get(name, result).strip(), test=name)
        else:
            day.say(result == "ok", test=name)
    running = re.search(r"^running (\d+) test", outcome.text, re.M)
    if outcome.ok and (not results or running is None or int(running.group(1)) != len(results)):
        day.say(False, why=f"{len(results)} results in place of all: {running.group(0) if running else 'no tests'}")
    failed = [name for name, result in results.items() if result == "FAILED"]
    if outcome.started and not outcome.ok and not failed:
        # the process ended, or hung, in one of the first that have no result
        listed = re.findall(r"^(\S+): test$", printed([*command, "--list"], day.environment), re.M)
        failed = [name for name in listed if name not in results]
    for name in failed[:AGAIN]:
        alone = [day.program("libtest"), name, "--exact", "--test-threads=1"]
        day.run(alone, 30, {**day.environment, "CUDA_LAUNCH_BLOCKING": "1"}, test=name, under="CUDA_LAUNCH_BLOCKING")
        day.run([*sanitizer("memcheck"), *alone], 60, test=name, under="memcheck")


def sanitizer(tool):
    return ["compute-sanitizer", "--tool", tool, "--print-limit", "5", "--error-exitcode", "9"]


def ceilings(day):
    """What the GPU does at most, and PyTorch's times, by PyTorch with its own libraries."""
    query = "import torch; print(torch.__version__ if torch.cuda.is_available() else '')"
    version = printed([day.python, "-c", query], os.environ).strip()
    if not version:
        return day.skip("no PyTorch that sees a GPU")
    outcome = day.run([day.python, day.program("benches/gpu_torch.py")], environment=os.environ, pytorch=version)
    with open(day.kept("torch.jsonl"), "w") as file:
        for line in json_lines(outcome.text):
            file.write(json.dumps(line) + "\n")
            day.say(True, line.pop("seconds", 0.0), **line)


def json_lines(text):
    """The objects among the lines of a text; the last may be cut off."""
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def bench(day):
    """Every kernel's time beside its ceilings and PyTorch's, and the errors of long products."""
    torch, found = day.kept("torch.jsonl"), day.kept("bench.jsonl")
    open(torch, "a").close()
    day.run([day.program("gpu"), *day.sizes.bench, "--torch", torch, "--json", found])
    for line in json_lines(open(found).read() if os.path.exists(found) else ""):
        day.say(line.pop("ok", True), line.pop("seconds", 0.0), **line)


def numbers(path, columns=None):
    """The numbers of a table, of all columns or of some."""
    found = []
    with open(path) as file:
        head, *rows = (line.rstrip("\n").split("\t") for line in file)
    for row in rows:
        for name, field in zip(head, row):
            if columns is None or name in columns:
                try:
                    found.append(float(field))
                except ValueError:
                    pass  # an animal's name, or nothing
    return found


def losses(path):
    """A critic's losses; how good animals are is counted, and one of them makes a difference that is not small."""
    return numbers(path, ["critic_loss", "wasserstein", "penalty", "gradient_norm"])


def singles(path):
    """The numbers of a file of f32."""
    found = array.array("f")
    with open(path, "rb") as file:
        found.frombytes(file.read())
    return found


def same(day, what, files, read, limit):
    """Compares the numbers of two files, each difference relative to 1 + |number|; two that are none are equal."""
    try:
        first, second = (read(day.path(file)) for file in files)
    except OSError as e:
        return day.skip(f"{os.path.basename(e.filename)} is not there to compare", comparison=what)
    if len(first) != len(second) or len(first) < 2:
        return day.say(False, comparison=what, why=f"{len(first)} and {len(second)} numbers")
    differences = [abs(a - b) / (1 + abs(a)) for a, b in zip(first, second) if not (math.isnan(a) and math.isnan(b))]
    worst = max(differences, key=lambda d: math.inf if math.isnan(d) else d)
    return day.say(worst <= limit, comparison=what, worst=worst if math.isfinite(worst) else str(worst), limit=limit)


def genialearn(day, arguments, record, ranks=None, limit=60, **more):
    """Runs the program, on ranks where they are given; the phases of its run record become part of the line."""
    command, environment = [day.program("genialearn"), *arguments.split()], day.environment
    if ranks:
        command, environment = [day.program("mpirun"), "-n", str(ranks), *command], day.mpi_environment()
        more["ranks"] = ranks

    def phases():
        with open(day.path(f"{record}.run.json")) as file:
            return {"phases": {phase["name"]: round(phase["seconds"], 6) for phase in json.load(file)["phases"]}}

    return day.run(command, limit, environment, phases, **more).ok


def simulate(day, name, size):
    arguments = f"simulate {size} --out {name}.h5 --pheno {name}.tsv --device cpu"
    return genialearn(day, arguments, name, program=f"simulate {size}", device="cpu")


def write(day, name, text):
    with open(day.path(name), "w") as file:
        file.write(text)


# The commands that both devices run, their run record, the result that is compared, and how it is read.
PROGRAMS = {
    "grm": ("grm herd.h5 --out {0}.h5 --gcta {0}", "{0}", "{0}.grm.bin", singles),
    "gblup": ("gblup herd.h5 --pheno herd.tsv --h2 0.4 --solver pcg --tolerance 1e-10 --out {0}", "{0}", "{0}.ebv.tsv", numbers),
    "mlp": ("train mlp herd.h5 --pheno herd.tsv --config mlp.toml --out {0}.h5", "{0}", "{0}.curve.tsv", numbers),
    "wgan": ("train wgan few.h5 --config wgan.toml --out {0}.h5", "{0}", "{0}.curve.tsv", losses),
}


def programs(day):
    """The program on the processor and on the GPU: the same answers, and the time of each phase."""
    if not (simulate(day, "herd", day.sizes.herd) and simulate(day, "few", day.sizes.genotypes)):
        return
    write(day, "mlp.toml", day.sizes.mlp)
    write(day, "wgan.toml", day.sizes.wgan)
    for name, (arguments, record, result, read) in PROGRAMS.items():
        for device in ("cpu", "cuda", "cuda-bf16") if name in ("mlp", "wgan") else ("cpu", "cuda"):
            prefix = f"{name}-{device}"
            command = f"{arguments.format(prefix)} --device {device}"
            genialearn(day, command, record.format(prefix), program=name, device=device)
        same(day, name, [result.format(f"{name}-{device}") for device in ("cpu", "cuda")], read, LIMITS[name])


def nccl(day):
    """Sums of gradients over ranks: NCCL with 1 rank and with one for each GPU, page-locked buffers with two ranks."""
    if not os.path.exists(day.program("mpirun")):
        return day.skip("the bundle has no mpirun", exchange="nccl")
    if not os.path.exists(day.path("mlp-cuda.curve.tsv")):
        return day.skip("`programs` left no training of one process to compare with", exchange="nccl")
    ways = [("staged", 2)]
    if not day.has_library("libnccl.so"):
        day.skip("libnccl is not here", exchange="nccl", ranks=1)
    elif day.gpus < 2:
        ways.append(("nccl", 1))
        day.skip("there is one GPU", exchange="nccl", ranks=2)
    else:
        ways += [("nccl", 1), ("nccl", day.gpus)]
    for exchange, ranks in ways:
        prefix = f"{exchange}-{ranks}"
        arguments = f"train mlp herd.h5 --pheno herd.tsv --config mlp.toml --out {prefix}.h5 --exchange {exchange} --device cuda"
        if genialearn(day, arguments, prefix, ranks, exchange=exchange):
            curves = ["mlp-cuda.curve.tsv", f"{prefix}.curve.tsv"]
            same(day, f"mlp, {exchange}, ranks: {ranks}", curves, numbers, LIMITS["mlp"])


def genome(day):
    """A few iterations of a WGAN with the whole genome."""
    if day.sizes.genome is None:
        return day.skip("this is a dry run")
    if not simulate(day, "genome", day.sizes.genome):
        return
    write(day, "genome.toml", 'preset = "holstein-genome"\n' + WGAN.format(batch=128, critic=5))
    for device in ("cuda", "cuda-bf16"):
        prefix = f"genome-{device}"
        arguments = f"train wgan genome.h5 --config genome.toml --out {prefix}.h5 --device {device}"
        genialearn(day, arguments, prefix, limit=100, program="wgan, whole genome", device=device)


def racecheck(day):
    """Races in shared memory, where compute-sanitizer works."""
    outcome = day.execute([*sanitizer("racecheck"), day.program("libtest"), "--test-threads=1", "device::cuda::"])
    if outcome.ok or re.search(r"Race reported|[1-9]\d* error", outcome.text):
        return day.say(outcome.ok, outcome.seconds, why=outcome.why, tail=tail(outcome.text))
    day.skip(": ".join(filter(None, [outcome.why, tail(outcome.text)])))


def counters(day):
    """Counters of the kernels that matter, where ncu works."""
    command = ["ncu", "--clock-control", "none", "--csv", "--launch-count", "40", "-k", f"regex:{KERNELS}"]
    command += ["--metrics", ",".join(COUNTERS), day.program("gpu"), "once", *day.sizes.bench]
    outcome = day.execute(command)
    found = [re.findall(r'"([^"]*)"', line) for line in outcome.text.splitlines()]
    found = [cells for cells in found if len(cells) > 4 and cells[-3] in COUNTERS]
    for cells in found:
        day.say(True, counter=cells[-3], of=cells[4], unit=cells[-2], value=cells[-1])
    if not found:
        day.skip(": ".join(filter(None, [outcome.why or "no counters", tail(outcome.text)])))


STEPS = [
    Step("machine", machine, 20, True),
    Step("open", opens, 60, True),
    Step("tests", tests, 180, True),
    Step("ceilings", ceilings, 80, False),
    Step("bench", bench, 120, True),
    Step("programs", programs, 150, True),
    Step("nccl", nccl, 60, False),
    Step("genome", genome, 120, False),
    Step("racecheck", racecheck, 60, False),
    Step("counters", counters, 60, False),
]
# These always run; the others need a GPU that opens.
FIRST = ("machine", "open")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", help="a folder for results.jsonl and log.txt")
    parser.add_argument("bundle", metavar="BUNDLE", help="what `make gpu-bundle` made, or the folder that it unpacks to")
    parser.add_argument("--budget", type=float, default=460, metavar="SECONDS", help="all ends within them [460]")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="STEP,...",
                        default=[step.name for step in STEPS], help="of " + ", ".join(step.name for step in STEPS))
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, where a processor stands for a GPU")
    options = parser.parse_args()
    unknown = set(options.only) - {step.name for step in STEPS}
    if unknown:
        parser.error(f"no step is called {', '.join(sorted(unknown))}")
    return options


def summary(day, names):
    """Prints what failed, what was skipped and the kernels farthest from their ceilings; gives the exit code."""
    failed = [line for line in day.lines if not line["ok"] and "skipped" not in line]
    skipped = [line for line in day.lines if "skipped" in line]
    for word, lines in (("FAILED", failed), ("skipped", skipped)):
        for line in lines:
            print(word, json.dumps({key: value for key, value in line.items() if key not in ("ok", "seconds")})[:400])
    shares = [(line["bound"] / line["seconds"], line["kernel"]) for line in day.lines if line.get("bound")]
    for share, kernel in sorted(shares)[:8]:
        print(f"{100 * share:6.1f} % of its ceiling: {kernel}")
    did = {line["step"] for line in day.lines if line["ok"]}
    lacking = [step.name for step in STEPS if step.required and step.name in names and step.name not in did]
    if lacking:
        print("needed, but not run or wholly failed:", ", ".join(lacking))
    print(f"{len(day.lines) - len(failed) - len(skipped)} well, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or lacking else 0


def take(day, step):
    """One step. What goes wrong with the script itself is a line too, and the next step follows."""
    day.begin(step.name, step.limit)
    if step.name not in FIRST and not any(line["step"] == "open" and line["ok"] for line in day.lines):
        return day.skip("the GPU does not open")
    if day.left() < min(5, step.limit):
        return day.skip("no time left")
    try:
        step.work(day)
    except Exception as e:  # a day on a GPU is dear
        day.say(False, why=f"{type(e).__name__}: {e}")


def main():
    options = arguments()
    names = {*FIRST, *options.only}
    day = Day(options.out, options.bundle, options.budget)
    day.sizes = TINY if options.dry_run else FULL
    if options.dry_run:
        day.gpus = int(os.environ.get("SHIM_DEVICES", 1))
    try:
        for step in STEPS:
            if step.name in names:
                take(day, step)
        return summary(day, names)
    finally:
        shutil.rmtree(day.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
