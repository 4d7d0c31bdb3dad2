#!/bin/sh
# Forests and boosting beside LightGBM and scikit-learn: the same folds, the same settings, r and CPU seconds.
#
#   sh benches/ensembles.sh DATA OUT        DATA: the folder of data sets (../shared/data)
#
# GENIALEARN is the program (target/release/genialearn), PYTHON one that has lightgbm, scikit-learn and pandas. What came out:
# benches/results/ensembles.md. OUT/*.peers.tsv hold mean r over five folds, OUT/speed.txt seconds.
set -eu
data=$(cd "$1" && pwd) out=$2
program=${GENIALEARN:-target/release/genialearn} python=${PYTHON:-python3}
mkdir -p "$out"

# $1 name, $2 store, $3 records, $4 traits
compare() {
    cat > "$out/$1.toml" <<END
[data]
store = "$2"
pheno = "$3"
traits = [$4]
[[model]]
name = "GBLUP"
[[model]]
name = "RKHS"
kind = "rkhs"
[[model]]
name = "boosting"
kind = "boosting"
replicates = 1
rounds = 200
learning_rate = 0.05
l2 = 1.0
[[model]]
name = "forest"
kind = "forest"
replicates = 1
trees = 100
[[model]]
name = "defaults"
kind = "boosting"
replicates = 1
[[model]]
name = "stacked"
kind = "stacked"
replicates = 1
[[model.base]]
kind = "gblup"
[[model.base]]
kind = "rkhs"
[[model.base]]
kind = "boosting"
[[validation]]
scheme = "random"
folds = 5
[bootstrap]
replicates = 500
[report]
genotypes = false
END
    "$program" study "$out/$1.toml" --out "$out/$1" --force --quiet
    "$program" export "$2" --format npy --out "$out/$1" --force --quiet
    "$python" "$(dirname "$0")/ensembles.py" "$out/$1.npy" "$out/$1.animals.tsv" "$3" "$out/$1" > "$out/$1.peers.tsv"
    cat "$out/$1.peers.tsv"
}

# $1 name, $2 PLINK files, $3 least frequency, $4 records, $5 traits
real() {
    "$program" import "$data/$2" --maf "$3" --out "$out/$1.h5" --force --quiet
    compare "$1" "$out/$1.h5" "$data/$4" "$5"
}

real wheat wheat599/wheat599.bed 0 wheat599/pheno.tsv '"E1", "E2", "E4", "E5"'
real rice rice413/rice413.bed 0.05 rice413/pheno.tsv '"Flowering.time.at.Arkansas", "Plant.height", "Flag.leaf.length"'
real mice mice_hs1940/mice_hs1940.bed 0.01 mice_hs1940/pheno.tsv '"CD8", "MCH", "Weight6wk"'
real soynam soynam5590/soynam5590.bed 0.01 soynam5590/pheno_33.tsv '"IN_yield", "IN_height", "IN_R8"'

# A herd with dominance and epistasis: 2,000 cows, 5,000 SNPs.
cat > "$out/herd-config.toml" <<END
qtl = 100
[[trait]]
name = "additive"
group = "a"
h2 = 0.4
[[trait]]
name = "dominance"
group = "a"
h2 = 0.2
non_additive = 0.3
form = "dominance"
[[trait]]
name = "epistasis"
group = "a"
h2 = 0.2
non_additive = 0.3
form = "epistasis"
END
"$program" simulate --animals 2000 --snps 5000 --config "$out/herd-config.toml" --out "$out/herd.h5" --pheno "$out/herd.tsv" --force --quiet
compare herd "$out/herd.h5" "$out/herd.tsv" '"additive", "dominance", "epistasis"'

# Speed at 8,000 x 20,000, one thread, 191 trees of 31 leaves.
"$program" simulate --animals 8000 --snps 20000 --traits 1 --out "$out/speed.h5" --pheno "$out/speed.tsv" --force --quiet
"$program" export "$out/speed.h5" --format npy --out "$out/speed" --force --quiet
{
    /usr/bin/time -f "genialearn: %U CPU s, %M KB" "$program" train boosting "$out/speed.h5" --pheno "$out/speed.tsv" --threads 1 \
        --set rounds=191 --set leaves=31 --set depth=64 --set learning_rate=0.05 --set l2=1.0 --out "$out/speed.model.h5" --force --quiet
    /usr/bin/time -f "LightGBM with reading and binning: %U CPU s, %M KB" "$python" "$(dirname "$0")/ensembles.py" --speed "$out/speed.npy" "$out/speed.tsv"
} 2> "$out/speed.txt"
cat "$out/speed.txt"
