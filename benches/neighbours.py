"""Exact nearest neighbours by scikit-learn, for `cargo bench --bench neighbours`: CPU seconds of all threads.

    python3 benches/neighbours.py QUERIES.npy REFERENCES.npy K

The files hold allele counts as bytes. Prints one line a variant, `CPU seconds<tab>variant<tab>sum of the squared
distances to all K neighbours`. Turning bytes into floats is not counted. f64 is tried where it takes less than 3 GB.
"""

import resource
import sys

import numpy
from sklearn.neighbors import NearestNeighbors


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    k = int(sys.argv[3])
    codes = [numpy.load(path, mmap_mode="r") for path in sys.argv[1:3]]
    kinds = [numpy.float32]
    if 8 * sum(c.size for c in codes) < 3e9:
        kinds.append(numpy.float64)
    for kind in kinds:
        queries, references = (c.astype(kind) for c in codes)
        start = cpu_seconds()
        search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="euclidean").fit(references)
        distances, _ = search.kneighbors(queries)
        seconds = cpu_seconds() - start
        total = int(numpy.rint(distances.astype(numpy.float64) ** 2).sum())
        print(f"{seconds:.3f}\t{numpy.dtype(kind).name}\t{total}", flush=True)


main()
