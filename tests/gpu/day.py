"""A day on a GPU: the unpacked bundle, where libraries are, the time that is left, and what was written down."""
import glob
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import namedtuple

# What a command said, its seconds, and why it is not well: nothing, or one sentence. It may not have been started.
Outcome = namedtuple("Outcome", "ok started text seconds why")


class Day:
    """Runs commands within a budget of seconds and writes a line of JSON for everything that is known."""

    def __init__(self, out, bundle, budget):
        self.end = self.until = time.monotonic() + budget
        os.makedirs(out, exist_ok=True)
        self.results = open(os.path.join(out, "results.jsonl"), "a")
        self.out = os.path.abspath(out)
        self.lines = []
        self.work = tempfile.mkdtemp(prefix="first-day-")
        self.bundle = self.unpack(bundle)
        self.python = shutil.which(os.environ.get("TORCH_PYTHON", "python3")) or sys.executable
        self.gpus = len(re.findall(r"^GPU \d+:", printed(["nvidia-smi", "-L"]), re.M))
        self.environment = self.own_environment()

    def unpack(self, bundle):
        if os.path.isdir(bundle):
            return os.path.abspath(bundle)
        folder = self.path("bundle")
        with tarfile.open(bundle) as archive:
            archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        return folder

    def own_environment(self):
        """For what the bundle holds. Its libraries come last: those of the GPU's own software go before."""
        folders = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(":") if f]
        folders += [self.links(), *self.cuda_folders(), self.program("lib")]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(folders),
            "GENIALEARN_CACHE": self.path("cache"),
            "GENIALEARN_ROOT": self.bundle,
            "OPENBLAS_NUM_THREADS": "1",
        }

    def mpi_environment(self):
        """Where Open MPI of the bundle finds its plug-ins and texts; root and more ranks than cores are allowed. It asks
        for a home, which some containers lack."""
        return {
            **self.environment,
            "OPAL_PREFIX": self.bundle,
            "OMPI_MCA_mca_base_component_path": self.program("lib/openmpi"),
            "PMIX_MCA_mca_base_component_path": self.program("lib/pmix"),
            "HOME": os.environ.get("HOME", self.work),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "OMPI_MCA_hwloc_base_binding_policy": "none",
        }

    def cuda_folders(self):
        """Folders of CUDA's libraries: in PyTorch's wheels, an installation of CUDA, the driver's."""
        paths = printed([self.python, "-c", "import sys; print('\\n'.join(sys.path))"]).split("\n")
        parts = ("cu[0-9]*", "cuda_nvrtc", "cublas", "nccl")
        patterns = [f"{path}/nvidia/{part}/lib" for path in paths if path for part in parts]
        patterns += ["/usr/local/cuda*/lib64", "/usr/local/nvidia/lib64"]
        return [folder for pattern in patterns for folder in sorted(glob.glob(pattern), reverse=True)]

    def links(self):
        """A folder of links: the compiler of the driver's own CUDA, and NCCL, under the names that are asked for."""
        folder = self.path("links")
        os.makedirs(folder)
        driver = re.search(r"CUDA Version: (\d+)", printed(["nvidia-smi"]))
        newest = int(driver.group(1)) if driver else sys.maxsize
        for name, most in (("libnvrtc", newest), ("libnccl", sys.maxsize)):
            found = [f for at in self.cuda_folders() for f in glob.glob(f"{at}/{name}.so.[0-9]*")]
            fitting = [f for f in found if major(f) <= most]
            if fitting:
                os.symlink(max(fitting, key=major), os.path.join(folder, f"{name}.so"))
        return folder

    def has_library(self, name):
        """Whether programs of the bundle find a library."""
        folders = self.environment["LD_LIBRARY_PATH"].split(":")
        return any(glob.glob(f"{folder}/{name}*") for folder in folders) or name in printed(["ldconfig", "-p"])

    def path(self, name):
        """A file in the folder of work."""
        return os.path.join(self.work, name)

    def kept(self, name):
        """A file that stays, also when the machine is taken away in the middle of a command."""
        return os.path.join(self.out, name)

    def program(self, name):
        """A file of the bundle."""
        return os.path.join(self.bundle, name)

    def begin(self, step, limit):
        """From here on all belongs to a step, which has `limit` seconds."""
        self.step = step
        self.until = min(self.end, time.monotonic() + limit)

    def left(self):
        """Seconds that the step has left."""
        return self.until - time.monotonic()

    def say(self, ok, seconds=0.0, **more):
        """One line of the results, on disk at once."""
        line = {"step": self.step, "ok": bool(ok), "seconds": round(seconds, 9), **more}
        self.lines.append(line)
        self.results.write(json.dumps(line) + "\n")
        self.results.flush()
        return line["ok"]

    def skip(self, reason, **more):
        self.say(False, skipped=reason, **more)

    def execute(self, command, limit=math.inf, environment=None):
        """Runs a command in the folder of work and ends it, with all that it started, at its limit or the step's."""
        limit = min(limit, self.left())
        if shutil.which(command[0]) is None:
            return Outcome(False, False, "", 0.0, f"{os.path.basename(command[0])} is not here")
        if limit < 1:
            return Outcome(False, False, "", 0.0, "no time left")
        start = time.monotonic()
        with open(self.kept("log.txt"), "a+", errors="replace") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.work,
                                       start_new_session=True, env=environment or self.environment)
            try:
                code = process.wait(timeout=limit)
                why = f"exit code {code}" if code else ""
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                why = f"out of time after {limit:.0f} s"
            seconds = time.monotonic() - start
            log.seek(begin)
            text = log.read()
            log.write(f"\n[{why or 'well'}, {seconds:.1f} s]\n\n")
        return Outcome(not why, True, text, seconds, why)

    def run(self, command, limit=math.inf, environment=None, add=dict, **more):
        """Executes a command and says how it went; where it went well, with what `add` gives."""
        outcome = self.execute(command, limit, environment)
        if not outcome.started:
            self.skip(outcome.why, **more)
        elif outcome.ok:
            self.say(True, outcome.seconds, **more, **add())
        else:
            self.say(False, outcome.seconds, **more, why=outcome.why, tail=tail(outcome.text))
        return outcome


def tail(text):
    """The last lines of a text, in one."""
    return " | ".join(text.strip().splitlines()[-4:])[-400:]


def major(library):
    """13 of libnvrtc.so.13.0.88."""
    return int(re.search(r"\.so\.(\d+)", library).group(1))


def printed(command, environment=None):
    """What a short command prints; nothing where it is not here or takes longer than a minute."""
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, timeout=60,
                             env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout
