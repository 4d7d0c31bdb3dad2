"""Makes records with two random effects for the herd of this folder and runs GEMMA on them (Debian gemma 0.98.5,
2026-11-30): python3 vc.py

vc_records.tsv: pen (15 of 4 animals) and record. vc.tsv: GEMMA's restricted maximum likelihood estimates by average
information (`gemma -vc 2`) with kinship.tsv and the matrix of equal pens.
"""

import pathlib
import random
import re
import subprocess
import tempfile

random.seed(7)
k = [[float(x) for x in line.split()] for line in pathlib.Path("kinship.tsv").read_text().splitlines()]
n = len(k)
pen = [random.randrange(15) for _ in range(n)]
root = [[0.0] * n for _ in range(n)]  # Cholesky factor of K + 0.01 I
for i in range(n):
    for j in range(i + 1):
        s = k[i][j] + (0.01 if i == j else 0) - sum(root[i][m] * root[j][m] for m in range(j))
        root[i][j] = s**0.5 if i == j else s / root[j][j]
z = [random.gauss(0, 1) for _ in range(n)]
c = [random.gauss(0, 1) for _ in range(15)]
y = [10 + 2 * sum(a * b for a, b in zip(row, z)) + 1.7 * c[pen[i]] + 2 * random.gauss(0, 1) for i, row in enumerate(root)]
y = [round(v, 5) for v in y]


def write(path, rows):
    pathlib.Path(path).write_text("".join("\t".join(map(str, r)) + "\n" for r in rows))


write("vc_records.tsv", [["pen", "record"]] + [[f"p{p}", v] for p, v in zip(pen, y)])
with tempfile.TemporaryDirectory() as work:
    write(f"{work}/y.txt", [[v] for v in y])
    write(f"{work}/pens.txt", [[int(a == b) for b in pen] for a in pen])
    write(f"{work}/mk.txt", [["kinship.tsv"], [f"{work}/pens.txt"]])
    command = f"gemma -p {work}/y.txt -mk {work}/mk.txt -c covariates.tsv -vc 2 -outdir {work} -o vc"
    subprocess.run(command.split(), check=True, capture_output=True)
    log = pathlib.Path(work, "vc.log.txt").read_text()
    of = {name: re.search("## " + re.escape(name) + r" = +(.*)", log).group(1).split()
          for name in ("sigma2 estimates", "se(sigma2)", "pve estimates", "se(pve)")}
    rows = [["effect", "sigma2", "se", "pve", "pve_se"]]
    for i, effect in enumerate(("kinship", "pens", "residual")):
        pve = [of[name][i] if i < 2 else "NA" for name in ("pve estimates", "se(pve)")]
        rows.append([effect, of["sigma2 estimates"][i], of["se(sigma2)"][i]] + pve)
    write("vc.tsv", rows)
