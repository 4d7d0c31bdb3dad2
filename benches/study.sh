#!/bin/sh
# How far the verdicts of a study depend on its seed: one study, several seeds, side by side.
#
#   sh benches/study.sh STUDY.toml OUT [SEEDS]          SEEDS: 5
#
# GENIALEARN is the program (target/release/genialearn), RANKS the number of ranks (1). Folds, networks and bootstrap of each
# seed are its own. The last lines, also in OUT/seeds.tsv: for each trait and model the verdict and the difference in r of each
# seed; then how many pairs of seeds agree, and in how many one says better where the other says worse.
set -eu
study=$1 out=$2 seeds=${3:-5}
program=${GENIALEARN:-target/release/genialearn}
run() {
    if [ "${RANKS:-1}" -gt 1 ]; then mpirun -n "$RANKS" "$program" "$@"; else "$program" "$@"; fi
}
mkdir -p "$out"
seed=1
while [ "$seed" -le "$seeds" ]; do
    run study "$study" --out "$out/$seed" --seed "$seed" --quiet --force
    seed=$((seed + 1))
done
# Rows of r of comparisons.tsv, whatever the order of the columns.
seed=1
while [ "$seed" -le "$seeds" ]; do
    awk -F'\t' -v OFS='\t' -v seed="$seed" '
        NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
        $c["score"] == "r" && $c["trait"] != "ALL" {
            print $c["validation"], $c["trait"], $c["model"], seed, $c["verdict"], $c["difference"], $c["se"] }' \
        "$out/$seed/comparisons.tsv"
    seed=$((seed + 1))
done | awk -F'\t' -v seeds="$seeds" '
    { key = $1 FS $2 FS $3; if (!(key in seen)) { seen[key] = 1; order[++n] = key }
      verdict[key, $4] = $5; difference[key, $4] = sprintf("%+.3f (%.3f)", $6, $7) }
    END {
        printf "validation\ttrait\tmodel"
        for (s = 1; s <= seeds; s++) printf "\tseed %d\tdifference", s
        print ""
        for (k = 1; k <= n; k++) {
            printf "%s", order[k]
            for (s = 1; s <= seeds; s++) {
                printf "\t%s\t%s", verdict[order[k], s], difference[order[k], s]
                for (t = 1; t < s; t++) {
                    a = verdict[order[k], s]; b = verdict[order[k], t]
                    pairs++; same += a == b
                    opposed += (a == "better" && b == "worse") || (a == "worse" && b == "better")
                }
            }
            print ""
        }
        printf "pairs of seeds\t%d\nthe same verdict\t%d\nbetter against worse\t%d\n", pairs, same, opposed
    }' >"$out/seeds.tsv"
column -t -s "$(printf '\t')" "$out/seeds.tsv" 2>/dev/null || cat "$out/seeds.tsv"
