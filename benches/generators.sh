#!/bin/sh
# Every kind of generator on one herd: trained, asked for as many animals, judged beside real halves.
#
#   sh benches/generators.sh STORE.h5 OUT [KIND...]
#
# GENIALEARN is the program (target/release/genialearn), RANKS the number of ranks (1), ANIMALS how many to make (500);
# settings of a kind are taken from OUT/KIND.toml where that file exists. The last lines, also in OUT/generators.tsv:
# metrics of sets as large as the baseline's, beside that baseline of two halves of the real animals.
set -eu
store=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- independent markov mosaic vae gan ddpm wgan relatives
program=${GENIALEARN:-target/release/genialearn}
run() {
    if [ "${RANKS:-1}" -gt 1 ]; then mpirun -n "$RANKS" "$program" "$@"; else "$program" "$@"; fi
}
metrics="allele_frequency_r genotype_frequency_r ld_r2_r ld_r2_slope correlation_score precision_k10 recall_k10 f1_k10 aa_truth aa_syn copies wasserstein_pca"
mkdir -p "$out"
table=$out/generators.tsv
{ printf 'generator\tcpu_seconds'; for m in $metrics; do printf '\t%s' "$m"; done; echo; } >"$table"
line() { # name, seconds, fidelity.tsv, column
    printf '%s\t%s' "$1" "$2" >>"$table"
    for m in $metrics; do
        awk -F'\t' -v m="$m" -v c="$4" '$1 == m { printf "\t%.3f", $c; found = 1 } END { if (!found) printf "\tNA" }' "$3" >>"$table"
    done
    echo >>"$table"
}
for kind; do
    settings=
    [ ! -e "$out/$kind.toml" ] || settings="--config $out/$kind.toml"
    # shellcheck disable=SC2086 # no or two words
    run train "$kind" "$store" $settings --out "$out/$kind.h5" --force --quiet
    run generate "$out/$kind.h5" --animals "${ANIMALS:-500}" --out "$out/$kind.synthetic.h5" --force --quiet
    run fidelity "$store" "$out/$kind.synthetic.h5" --out "$out/$kind" --force --quiet
    seconds=$(sed -n 's/^  "cpu_seconds": \([0-9]*\).*/\1/p' "$out/$kind.run.json" | head -1)
    line "$kind" "$seconds" "$out/$kind/fidelity.tsv" 3
done
line 'real halves' - "$out/$kind/fidelity.tsv" 4
column -t -s "$(printf '\t')" "$table" 2>/dev/null || cat "$table"
