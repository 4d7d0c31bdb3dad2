"""REML of repeated records: 20,000 records of 10,000 cows in 5,000 herd-years, 20 times anew.

    python3 benches/repeated.py OUT [COWS SNPS]

GENIALEARN is the program (target/release/genialearn); numpy is needed. Simulates a herd, draws 20 traits with additive
effects, herd-years, permanent environments and residuals of known variances, estimates them by `reml`, and compares means
over the traits with the truth: OUT/reml.components.tsv, and a line for each effect. benches/results/reml.md has what came
out.
"""

import csv
import os
import subprocess
import sys
import time

import numpy as np

TRUTH = {"additive": 0.35, "herd_year": 0.15, "permanent_environment": 0.25, "residual": 0.25}
TRAITS = 20


def records(calls, rng):
    """Records of each cow, two on average and at least one, as rows of a table: id, herd_year and the traits."""
    cows, snps = calls.shape
    made = calls >= 0  # a missing call, -1, counts as the mean
    frequency = np.where(made, calls, 0).sum(axis=0) / made.sum(axis=0) / 2
    scale = 2 * (frequency * (1 - frequency)).sum()
    effects = rng.normal(size=(snps, TRAITS)) * np.sqrt(TRUTH["additive"] / scale)
    additive = np.zeros((cows, TRAITS))
    for first in range(0, cows, 500):
        part = slice(first, first + 500)
        additive[part] = np.where(made[part], calls[part] - 2 * frequency, 0.0) @ effects
    animal = np.concatenate([np.arange(cows), rng.integers(cows, size=cows)])
    herd_year = rng.integers(cows // 2, size=2 * cows)
    normal = lambda n, of: rng.normal(size=(n, TRAITS)) * np.sqrt(TRUTH[of])
    y = 30 + additive[animal] + normal(cows // 2, "herd_year")[herd_year]
    return animal, herd_year, y + normal(cows, "permanent_environment")[animal] + normal(2 * cows, "residual")


def main():
    out, cows, snps = sys.argv[1], *(map(int, sys.argv[2:4]) if len(sys.argv) > 3 else (10_000, 10_000))
    program = os.environ.get("GENIALEARN", "target/release/genialearn")
    os.makedirs(out, exist_ok=True)
    path = lambda name: os.path.join(out, name)
    run = lambda *args: subprocess.run([program, *map(str, args), "--force", "--quiet"], check=True)
    run("simulate", "--animals", cows, "--snps", snps, "--traits", 1, "--out", path("s.h5"), "--pheno", path("t.tsv"))
    run("export", path("s.h5"), "--format", "npy", "--out", path("s"))
    calls = np.load(path("s.npy"))
    with open(path("s.animals.tsv")) as file:
        ids = [row["id"] for row in csv.DictReader(file, delimiter="\t")]
    animal, herd_year, y = records(calls, np.random.default_rng(1))
    with open(path("p.tsv"), "w") as file:
        file.write("\t".join(["id", "herd_year"] + [f"milk{t}" for t in range(TRAITS)]) + "\n")
        for i, level, row in zip(animal, herd_year, y):
            file.write("\t".join([ids[i], f"hy{level}"] + [f"{x:.6f}" for x in row]) + "\n")
    begun = time.time()
    run("reml", path("s.h5"), "--pheno", path("p.tsv"), "--random", "herd_year", "--permanent-environment",
        "--method", "stochastic", "--out", path("reml"))
    print(f"{2 * cows} records of {cows} cows, {TRAITS} traits: {time.time() - begun:.0f} s")
    with open(path("reml.components.tsv")) as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for name, truth in TRUTH.items():
        found = np.array([float(row["variance"]) for row in rows if row["component"] == name])
        error = found.std(ddof=1) / np.sqrt(len(found))
        off = (found.mean() - truth) / error
        print(f"{name}: {truth}, mean {found.mean():.4f} (s.e. {error:.4f}), {off:+.1f} s.e. from the truth")


if __name__ == "__main__":
    main()
