#!/usr/bin/env python3
"""Makes tiny.bed, .bim and .fam (14 animals, 300 SNPs, missing calls) and PLINK's relationships of them.

Run in this folder: python3 make.py && sh make.sh
The numbers in tiny.rel.tsv (variance-standardized) and tiny.cov.tsv (covariance) are PLINK v2.00a3.5's.
"""
N, M = 14, 300
state = 20240607


def draw(n):
    """The next number below n of Knuth's MMIX generator."""
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
    return (state >> 33) % n


rows = []
for j in range(M):
    often = 1 + draw(9)
    row = []
    for i in range(N):
        if j == 11:  # no variation
            x = 2
        elif draw(20) == 0:
            x = None
        else:
            x = (draw(10) < often) + (draw(10) < often)
        row.append(x)
    rows.append(row)

CODE = {0: 3, 1: 2, 2: 0, None: 1}
with open("tiny.bed", "wb") as bed:
    bed.write(bytes([0x6C, 0x1B, 0x01]))
    for row in rows:
        for start in range(0, N, 4):
            byte = 0
            for k, x in enumerate(row[start : start + 4]):
                byte |= CODE[x] << (2 * k)
            bed.write(bytes([byte]))
with open("tiny.bim", "w") as bim:
    for j in range(M):
        bim.write(f"1\tsnp{j}\t0\t{1000 * (j + 1)}\tA\tG\n")
with open("tiny.fam", "w") as fam:
    for i in range(N):
        fam.write(f"f{i // 7}\tanimal{i}\t0\t0\t{1 + i % 2}\t-9\n")
