"""Makes the herd of this folder and runs GEMMA on it (Debian gemma 0.98.5): python3 make.py

kinship.tsv: G of 60 animals; phenotypes.tsv: two traits, one with gaps; covariates.tsv: intercept, sex, age.
expected.tsv: GEMMA's restricted maximum likelihood estimates (`gemma -lmm 1`), taken from its log.
pair.tsv: the same for both traits together (`gemma -lmm 1 -n 1 2`), on the animals that have both: elements 11, 21
and 22 of the genetic and the residual covariance matrix, their standard errors, and the log-likelihood.
ebv.tsv: breeding values of each trait with a mean as the only fixed effect (`gemma -bslmm 2 -notsnp`), whose average
over the recorded animals GEMMA makes 0 (2026-11-22); the first row is the estimated share of the variance of the
records (pve).
"""

import pathlib
import random
import re
import subprocess
import tempfile

random.seed(20)
N, M = 60, 150
freq = [random.uniform(0.1, 0.9) for _ in range(M)]
# three families, so that relationships differ
centres = [[min(0.95, max(0.05, p + random.gauss(0, 0.2))) for p in freq] for _ in range(3)]
x = [[sum(random.random() < centres[i % 3][j] for _ in range(2)) for j in range(M)] for i in range(N)]
p = [sum(row[j] for row in x) / (2 * N) for j in range(M)]
z = [[row[j] - 2 * p[j] for j in range(M)] for row in x]
c = sum(2 * q * (1 - q) for q in p)
g = [[sum(a * b for a, b in zip(u, v)) / c for v in z] for u in z]
sex = [random.randrange(2) for _ in range(N)]
age = [round(random.uniform(1, 6), 2) for _ in range(N)]
effects = [[random.gauss(0, 1) / c**0.5 for _ in range(M)] for _ in range(2)]
y = []
for i in range(N):
    u = [sum(a * b for a, b in zip(z[i], e)) for e in effects]
    y.append([round(10 + 2 * u[t] + sex[i] + 0.3 * age[i] + random.gauss(0, 1.3), 4) for t in range(2)])
missing = set(random.sample(range(N), 13))


def write(name, rows):
    pathlib.Path(name).write_text("".join("\t".join(map(str, r)) + "\n" for r in rows))


write("kinship.tsv", [[f"{v:.7f}" for v in row] for row in g])
write("phenotypes.tsv", [[y[i][0], "NA" if i in missing else y[i][1]] for i in range(N)])
write("covariates.tsv", [[1, s, a] for s, a in zip(sex, age)])
with tempfile.TemporaryDirectory() as work:
    geno = [[f"s{j}", "A", "C"] + [row[j] for row in x] for j in range(5)]
    pathlib.Path(work, "geno.txt").write_text("".join(", ".join(map(str, r)) + "\n" for r in geno))
    rows = [["trait", "n", "var_g", "var_e", "pve_se", "loglik"]]
    for trait in (1, 2):
        command = f"gemma -g {work}/geno.txt -p phenotypes.tsv -n {trait} -k kinship.tsv -c covariates.tsv -lmm 1 -outdir {work} -o t{trait}"
        subprocess.run(command.split(), check=True, capture_output=True)
        log = pathlib.Path(work, f"t{trait}.log.txt").read_text()

        def value(pattern):
            return re.search("## " + pattern + r" = (\S+)", log).group(1)

        n = value("number of analyzed individuals")
        rows.append([trait, n, value("vg estimate in the null model"), value("ve estimate in the null model"),
                     value(r"se\(pve\) in the null model"), value("REMLE log-likelihood in the null model")])
    write("expected.tsv", rows)
    command = f"gemma -g {work}/geno.txt -p phenotypes.tsv -n 1 2 -k kinship.tsv -c covariates.tsv -lmm 1 -outdir {work} -o pair"
    subprocess.run(command.split(), check=True, capture_output=True)
    log = pathlib.Path(work, "pair.log.txt").read_text()

    def triangle(title):
        lines = log.split(f"## {title}:")[1].splitlines()[1:3]
        return " ".join(line.strip("# ") for line in lines).split()

    names = ["REMLE estimate for Vg in the null model", "REMLE estimate for Ve in the null model"]
    rows = [[part + element for part in ("g", "se_g", "e", "se_e") for element in ("11", "21", "22")] + ["loglik"]]
    rows.append(triangle(names[0]) + triangle("se(Vg)") + triangle(names[1]) + triangle("se(Ve)") +
                [re.search(r"REMLE log-likelihood in the null model = (\S+)", log).group(1)])
    write("pair.tsv", rows)
    columns = []
    for trait in (1, 2):
        command = f"gemma -g {work}/geno.txt -p phenotypes.tsv -n {trait} -k kinship.tsv -bslmm 2 -notsnp -outdir {work} -o b{trait}"
        subprocess.run(command.split(), check=True, capture_output=True)
        log = pathlib.Path(work, f"b{trait}.log.txt").read_text()
        pve = re.search(r"## pve estimate in the null model = (\S+)", log).group(1)
        columns.append([f"trait{trait}", pve] + pathlib.Path(work, f"b{trait}.bv.txt").read_text().split())
    write("ebv.tsv", zip(*columns))
