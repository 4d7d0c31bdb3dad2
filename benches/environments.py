#!/usr/bin/env python3
"""Genotype by environment on SoyNAM: do models that know the environment of a plot predict it better?

    python3 benches/environments.py SOYNAM_FOLDER OUT

SOYNAM_FOLDER has soynam5590.{bed,bim,fam} and soynam_plots.tsv.gz (columns environ, strain, yield, height, R8, lodging). Plots of five environments become
a herd with a row a plot (`genialearn expand`); two studies compare GBLUP, boosting and a network on lines that are in no training plot, once without and
once with the environment as a feature. Prints r of each trait and model, and r within environments and families, where blocks of families in the field add
nothing. GENIALEARN is the program (target/release/genialearn).
"""

import collections
import csv
import gzip
import math
import os
import subprocess
import sys

ENVIRONMENTS = ["IA_2013", "IL_2012", "IL_2013", "IN_2013", "NE_2012"]
TRAITS = ["yield", "height", "R8", "lodging"]
STUDY = """
[data]
store = "plots.h5"
pheno = "plots.records.tsv"
covar = "plots.features.tsv:environment"
FEATURES
[[model]]
name = "GBLUP"
solver = "pcg"
h2 = 0.4
[[model]]
name = "boosting"
kind = "boosting"
replicates = 1
[[model]]
name = "network"
kind = "mlp"
replicates = 1
[model.network]
hidden = [128]
[model.training]
batch = 1024
epochs = 40
[[validation]]
scheme = "family"
folds = 5
[bootstrap]
replicates = 300
[report]
genotypes = false
"""


def plots(source, path):
    """The plots of the environments, in long format."""
    with gzip.open(source, "rt") as rows, open(path, "w") as out:
        print("id", "environment", "location", "year", *TRAITS, sep="\t", file=out)
        for row in csv.DictReader(rows, delimiter="\t"):
            if row["environ"] in ENVIRONMENTS:
                cells = [row["strain"], row["environ"], row["location"], "y" + row["year"]]
                print(*cells, *(row[trait] for trait in TRAITS), sep="\t", file=out)


def pearson(a, b):
    a_mean, b_mean = sum(a) / len(a), sum(b) / len(b)
    product = sum((x - a_mean) * (y - b_mean) for x, y in zip(a, b))
    return product / math.sqrt(sum((x - a_mean) ** 2 for x in a) * sum((y - b_mean) ** 2 for y in b))


def within(out, study, trait, model, family):
    """r of predictions and records about the means of their environments, and of families in these where they are given."""
    with open(f"{out}/plots.records.tsv") as rows:
        records = {row["id"]: row[trait] for row in csv.DictReader(rows, delimiter="\t")}
    cells = collections.defaultdict(list)
    with gzip.open(f"{out}/{study}/predictions.tsv.gz", "rt") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            if row["model"] == model and records[row["id"]] != "NA":
                line, environment = row["id"].split("@")
                cell = (row["fold"], environment.split(".")[0], family.get(line))
                cells[cell].append((float(row[trait]), float(records[row["id"]])))
    pairs = []
    for cell in (c for c in cells.values() if len(c) >= 5):
        means = [sum(column) / len(cell) for column in zip(*cell)]
        pairs += [(x - means[0], y - means[1]) for x, y in cell]
    return pearson(*zip(*pairs))


def main(source, out):
    program = os.environ.get("GENIALEARN", "target/release/genialearn")

    def run(*args):
        subprocess.run([program, *args, "--force", "--quiet"], check=True)

    os.makedirs(out, exist_ok=True)
    plots(f"{source}/soynam_plots.tsv.gz", f"{out}/plots.tsv")
    run("import", f"{source}/soynam5590.bed", "--maf", "0.01", "--out", f"{out}/lines.h5")
    run("expand", f"{out}/lines.h5", "--pheno", f"{out}/plots.tsv", "--by", "environment", "--features", "location,year", "--out", f"{out}/plots")
    for name, features in (("without", ""), ("with", 'features = "plots.features.tsv"')):
        with open(f"{out}/{name}.toml", "w") as study:
            study.write(STUDY.replace("FEATURES", features))
        run("study", f"{out}/{name}.toml", "--out", f"{out}/{name}")
    with open(f"{source}/soynam5590.fam") as rows:
        family = {row.split()[1]: row.split()[0] for row in rows}
    print("trait", "model", "environment", "r", "difference from GBLUP", "error", "verdict", "r within environment and family", sep="\t")
    for name in ("without", "with"):
        with open(f"{out}/{name}/summary.tsv") as rows:
            for row in csv.DictReader(rows, delimiter="\t"):
                inside = within(out, name, row["trait"], row["model"], family)
                print(row["trait"], row["model"], name, *(row[c][:6] for c in ("r", "difference", "difference_se")), row["verdict"], f"{inside:.3f}", sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
