"""33 GBLUPs of one trait, one GBLUP of 33 traits, and the other kinds of models: CPU seconds, wall seconds and memory.

    python3 benches/repetition.py OUT [--animals 2000,10000,50000] [--snps 50161] [--kinds boosting,forest,mlp,dlgblup]
                                      [--kinds-up-to 10000]

GENIALEARN is the program (target/release/genialearn). Simulates a herd of each size and fits all 33 traits by each way;
single traits are timed on three (one with all records, one with gaps, one of high heritability) and scaled to 33, which the
table marks. GBLUP gets the true variances. Kinds have their default settings and are fitted up to --kinds-up-to animals.
Writes OUT/repetition.tsv and OUT/repetition.svg.
"""

import argparse
import csv
import math
import os
import subprocess
import time

PROGRAM = os.environ.get("GENIALEARN", "target/release/genialearn")
THREE = ["milk", "conception", "fat_content"]
COLUMNS = ["animals", "what", "cpu_seconds", "wall_seconds", "memory_gib", "scaled"]
# Okabe & Ito (2008), told apart by colour-blind readers, and dashes for those who see none.
STYLES = [("#000000", ""), ("#0072B2", ""), ("#D55E00", "6 3"), ("#009E73", "2 3"), ("#CC79A7", "8 3 2 3"), ("#E69F00", "4 2")]


def run(*arguments):
    """CPU seconds, wall seconds and peak memory (GiB) of one command."""
    begun = time.time()
    process = subprocess.Popen([PROGRAM, *map(str, arguments), "--force", "--quiet"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, arguments))}: failed")
    return usage.ru_utime + usage.ru_stime, time.time() - begun, usage.ru_maxrss / 2**20


def variances(parameters, out):
    """The true variances of every trait in the form of `reml`."""
    with open(parameters) as file, open(out, "w") as to:
        to.write("trait\tvar_g\tvar_e\n")
        for row in csv.DictReader(file, delimiter="\t"):
            h2, variance = float(row["h2"]), float(row["var_phenotype"])
            to.write(f"{row['trait']}\t{h2 * variance}\t{(1 - h2) * variance}\n")


def measure(folder, animals, snps, kinds):
    """A row of COLUMNS for each way."""
    os.makedirs(folder, exist_ok=True)
    path = lambda name: os.path.join(folder, name)
    run("simulate", "--animals", animals, "--snps", snps, "--out", path("s.h5"), "--pheno", path("p.tsv"))
    variances(path("s.parameters.tsv"), path("v.tsv"))
    gblup = ["gblup", path("s.h5"), "--pheno", path("p.tsv"), "--variances", path("v.tsv"), "--out", path("g")]
    block = run(*gblup)
    single = [run(*gblup, "--traits", name) for name in THREE]
    mean = lambda k: sum(times[k] for times in single) / len(single)
    rows = [
        ("GBLUP, 33 times one trait", 33 * mean(0), 33 * mean(1), max(t[2] for t in single), "yes"),
        ("GBLUP, one block of 33 traits", *block, "no"),
    ]
    for kind in kinds:
        model = path(f"{kind}.h5")
        rows.append((kind, *run("train", kind, path("s.h5"), "--pheno", path("p.tsv"), "--out", model), "no"))
    return [dict(zip(COLUMNS, (animals, *row))) for row in rows]


def picture(rows, path):
    """CPU seconds against animals, both logarithmic, a line a way."""
    left, right, top, bottom, width, height = 70, 230, 20, 50, 760, 420
    xs, ys = [math.log10(r["animals"]) for r in rows], [math.log10(r["cpu_seconds"]) for r in rows]
    low_x, high_x, low_y, high_y = min(xs), max(xs), math.floor(min(ys)), math.ceil(max(ys))
    x = lambda n: left + (math.log10(n) - low_x) / max(high_x - low_x, 1e-9) * (width - left - right)
    y = lambda s: height - bottom - (math.log10(s) - low_y) / max(high_y - low_y, 1) * (height - top - bottom)
    text = lambda at_x, at_y, words, anchor="middle": f'<text x="{at_x:.0f}" y="{at_y:.0f}" text-anchor="{anchor}">{words}</text>'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        "<title>CPU seconds of 33 traits against animals</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for power in range(low_y, high_y + 1):
        out.append(f'<path d="M{left} {y(10**power):.1f}H{width - right}" stroke="#ddd"/>')
        out.append(text(left - 8, y(10**power) + 4, f"{10**power:,}", "end"))
    for n in sorted({r["animals"] for r in rows}):
        out.append(text(x(n), height - bottom + 20, f"{n:,}"))
    out.append(text((left + width - right) / 2, height - 10, "animals"))
    out.append(f'<g transform="rotate(-90 14 {height / 2})">{text(14, height / 2, "CPU seconds, 33 traits")}</g>')
    ends = []
    for way, (colour, dashes) in zip(dict.fromkeys(r["what"] for r in rows), STYLES):
        points = sorted((r["animals"], r["cpu_seconds"]) for r in rows if r["what"] == way)
        line = " ".join(f"{x(n):.1f},{y(s):.1f}" for n, s in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
        out += [f'<circle cx="{x(n):.1f}" cy="{y(s):.1f}" r="3.5" fill="{colour}"/>' for n, s in points]
        ends.append((y(points[-1][1]), way, colour, points[-1]))
    below = -math.inf
    for at, way, colour, (n, _) in sorted(ends):  # names beside the ends of the lines, none over another
        below = max(at + 4, below + 17)
        out.append(f'<g fill="{colour}">{text(x(n) + 8, below, way, "start")}</g>')
    with open(path, "w") as file:
        file.write("\n".join(out + ["</svg>\n"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--animals", default="2000,10000,50000")
    parser.add_argument("--snps", type=int, default=50161)
    parser.add_argument("--kinds", default="boosting,forest,mlp,dlgblup")
    parser.add_argument("--kinds-up-to", type=int, default=10000)
    asked = parser.parse_args()
    rows = []
    for animals in map(int, asked.animals.split(",")):
        kinds = [k for k in asked.kinds.split(",") if k] if animals <= asked.kinds_up_to else []
        rows += measure(os.path.join(asked.out, str(animals)), animals, asked.snps, kinds)
        with open(os.path.join(asked.out, "repetition.tsv"), "w") as file:
            file.write("\t".join(COLUMNS) + "\n")
            for r in rows:
                numbers = "\t".join(f"{r[k]:.3g}" for k in COLUMNS[2:5])
                file.write(f"{r['animals']}\t{r['what']}\t{numbers}\t{r['scaled']}\n")
        picture(rows, os.path.join(asked.out, "repetition.svg"))


main()
