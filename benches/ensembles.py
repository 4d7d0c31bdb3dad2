"""LightGBM and scikit-learn on the folds of a study, for benches/ensembles.sh.

    python3 benches/ensembles.py STORE.npy STORE.animals.tsv PHENO.tsv STUDY_FOLDER

STORE.npy and its animals are what `genialearn export --format npy` writes; the study has the models `boosting` and `forest`
with the settings of benches/ensembles.sh. Prints, for each trait, the mean r over the folds of both programs.

    python3 benches/ensembles.py --speed STORE.npy PHENO.tsv

trains LightGBM by one thread, 191 trees of 31 leaves, and prints CPU seconds of binning and training.
"""

import sys
import time

import lightgbm
import numpy
import pandas
from sklearn.ensemble import RandomForestRegressor

BOOSTING = dict(
    objective="regression", learning_rate=0.05, num_leaves=16, max_depth=4, feature_fraction=0.2, bagging_fraction=0.7,
    bagging_freq=1, min_data_in_leaf=10, min_sum_hessian_in_leaf=0, lambda_l2=1, num_threads=1, verbose=-1, max_bin=4,
    min_data_in_bin=1, feature_pre_filter=False,
)
ROUNDS = 200
FOREST = dict(n_estimators=100, max_features=0.3, min_samples_leaf=5, n_jobs=2)


def read(calls):
    x = numpy.load(calls).astype(numpy.float32)
    x[(x < 0) | (x > 2)] = numpy.nan
    return x


def speed(calls, pheno):
    x, y = read(calls), pandas.read_csv(pheno, sep="\t").iloc[:, 1].to_numpy(float)
    settings = dict(BOOSTING, num_leaves=31, max_depth=-1)
    start = time.process_time()
    data = lightgbm.Dataset(x, y, params=settings)
    data.construct()
    binned = time.process_time()
    lightgbm.train(settings, data, num_boost_round=191)
    done = time.process_time()
    print(f"LightGBM: {binned - start:.1f} CPU s of binning, {done - binned:.1f} of training", file=sys.stderr)


def main():
    calls, animals, pheno, folder = sys.argv[1:]
    x = read(calls)
    animals = pandas.read_csv(animals, sep="\t", dtype=str)
    place = {name: i for i, name in enumerate(animals.iloc[:, 0])}
    pheno = pandas.read_csv(pheno, sep="\t", dtype={0: str, "IID": str, "id": str})
    name = "IID" if "IID" in pheno else "id"
    pheno = pheno.drop_duplicates(name).set_index(name)
    said = pandas.read_csv(f"{folder}/predictions.tsv.gz", sep="\t", dtype={"id": str})
    traits = [t for t in said.columns if t in pheno.columns]
    print("trait\tmodel\tgenialearn\tpeer\tdifference")
    for trait in traits:
        y = pandas.to_numeric(pheno[trait], errors="coerce")
        rs = {}
        one = said[said.model == "boosting"]
        for (repetition, fold), tested in one.groupby(["repetition", "fold"]):
            ids = [i for i in tested.id if not numpy.isnan(y.get(i, numpy.nan))]
            rest = one[(one.repetition == repetition) & (one.fold != fold)].id
            learned = [i for i in rest if not numpy.isnan(y.get(i, numpy.nan))]
            train, test = [place[i] for i in learned], [place[i] for i in ids]
            target = y[learned].to_numpy(float)
            data = lightgbm.Dataset(x[train], target)
            booster = lightgbm.train(dict(BOOSTING, seed=int(fold)), data, num_boost_round=ROUNDS)
            forest = RandomForestRegressor(random_state=int(fold), **FOREST).fit(x[train], target)
            truth = y[ids].to_numpy(float)
            for model, peer in (("boosting", booster.predict(x[test])), ("forest", forest.predict(x[test]))):
                own = said[(said.model == model) & (said.repetition == repetition) & (said.fold == fold)]
                own = own.set_index("id")[trait][ids].to_numpy(float)
                r = [numpy.corrcoef(own, truth)[0, 1], numpy.corrcoef(peer, truth)[0, 1]]
                rs.setdefault(model, []).append(r)
        for model, pairs in rs.items():
            own, peer = numpy.mean(pairs, axis=0)
            print(f"{trait}\t{model}\t{own:.3f}\t{peer:.3f}\t{own - peer:+.3f}", flush=True)


if sys.argv[1:2] == ["--speed"]:
    speed(*sys.argv[2:])
else:
    main()
