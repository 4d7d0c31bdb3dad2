#!/usr/bin/env bash
# The scripts of slurm/ under a real Slurm of two virtual nodes (cluster.sh), on a small simulated herd.
#
#   tests/slurm/run.sh [PROGRAM]      default: target/release/genialearn
#
# Ends with 77 and one line where Slurm cannot run: that is not a passed test.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
GENIALEARN=$(realpath "${1:-$root/target/release/genialearn}")
export GENIALEARN

not_run() { echo "test-slurm: NOT RUN, $1"; exit 77; }
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || not_run "its virtual nodes need root, and sudo asks for a password or is not there"
  exec sudo -n "$0" "$GENIALEARN"
fi
export PATH=$PATH:/usr/sbin:/sbin
unshare --mount --uts true 2>/dev/null || not_run "this machine allows no namespaces for virtual nodes"
installed() { command -v slurmctld && command -v slurmd && command -v srun && command -v munged; } >/dev/null
install() {
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends slurm-wlm slurm-wlm-basic-plugins munge
} >/dev/null 2>&1
installed || { echo "Installing slurm-wlm munge"; install; } || true
installed || not_run "slurm-wlm and munge cannot be installed here"

# Where a rank that crashed was, as far as the system keeps its memory and gdb is here.
ulimit -c unlimited 2>/dev/null || true
tell_crashes() {
  local core
  for core in "$folder"/work/core*; do
    [ -e "$core" ] || continue
    echo "==> $core <=="
    gdb -batch -ex 'thread apply all backtrace 30' "$GENIALEARN" "$core" 2>&1 | tail -n 120 || true
  done
}

folder=$(mktemp -d "${TMPDIR:-/tmp}/genialearn-slurm.XXXXXX")
chmod 755 "$folder"
finish() {
  local status=$?
  [ -z "${job:-}" ] || scancel --full "$job" 2>/dev/null || true # a job that still runs would outlive its cluster
  "$here/cluster.sh" stop "$folder/slurm" || true
  if [ "$status" != 0 ]; then
    tail -n 40 "$folder"/work/*.log 2>/dev/null || true
    tell_crashes
  fi
  rm -rf "$folder"
  [ "$status" = 0 ] && echo "test-slurm: passed" || echo "test-slurm: FAILED"
}
trap finish EXIT
trap 'exit 130' INT TERM

# A job of ours must not inherit the Slurm that this may itself run under.
for name in $(compgen -e | grep -E '^(SLURM|SBATCH|SRUN|PMIX|OMPI_COMM)' || true); do unset "$name"; done
# Fences without data over a tree, the default of Slurm's PMIx plug-in, let ranks pass here before the others have come.
# Their first message then meets a rank that is still in MPI_Init, which crashes: seen once in some 50 starts of 4 ranks on
# a loaded machine. Fences over a ring hold.
export SLURM_PMIX_FENCE=ring
mkdir -p "$folder/work/results"
"$here/cluster.sh" start "$folder/slurm"
export SLURM_CONF=$folder/slurm/slurm.conf
cd "$folder/work"
ln -s "$root/slurm" slurm

step() { printf 'test-slurm: %s\n' "$*"; }
fail() { echo "test-slurm: $*" >&2; exit 1; }
# The scripts ask for full-size nodes; here each task gets one CPU and little memory.
small=(--nodes=2 --ntasks-per-node=2 --cpus-per-task=1 --mem=2G --time=5)

wait_for() { # seconds, what, a command that tells
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "waited in vain for $what: $(scontrol show job "$job")"
    sleep 0.1
  done
}
ranks() { for pid in $(pgrep -f "^$GENIALEARN .*$1"); do [ ! "/proc/$pid/cwd" -ef . ] || echo "$pid"; done; }
# Slurm lets requeued jobs wait for two minutes. Some of it is needed: what still ends the first start would end the next.
ended() {
  local now state count
  now=$(scontrol show job "$job")
  state=$(sed -En 's/.*JobState=([A-Z]+).*/\1/p' <<<"$now") count=$(sed -En 's/.*Restarts=([0-9]+).*/\1/p' <<<"$now")
  if [ "$state" = PENDING ] && [ "$count" -gt "$restarts" ]; then
    restarts=$count
    scontrol update JobId="$job" StartTime=now+5
  fi
  [ "$state" = COMPLETED ] || [ "$state" = FAILED ]
}
step "one process"
"$GENIALEARN" simulate --animals 400 --snps 2500 --traits 3 --out herd.h5 --pheno herd.tsv --quiet
"$GENIALEARN" grm herd.h5 --out one.h5 --gcta one --quiet
"$GENIALEARN" gblup herd.h5 --pheno herd.tsv --h2 0.3 --solver pcg --out one --quiet
"$GENIALEARN" gblup herd.h5 --pheno herd.tsv --grm one.h5 --solver eigen --out exact --quiet

step "grm.sbatch, and gblup.sbatch that waits for it, on 2 nodes x 2 ranks"
OUT=results/grm.h5 sbatch --parsable "${small[@]}" slurm/grm.sbatch --gcta results/grm >grm.job
H2='' SOLVER=eigen OUT=results/exact sbatch --wait --dependency=afterok:"$(cat grm.job)" "${small[@]}" \
  slurm/gblup.sbatch --grm results/grm.h5
cmp one.grm.bin results/grm.grm.bin
for table in ebv variances fixed; do cmp "exact.$table.tsv" "results/exact.$table.tsv"; done
grep -q '"ranks": 4' results/exact.run.json || fail "the job did not run on 4 ranks"

step "gblup.sbatch as a job array: one trait a task"
cat >array.sbatch <<'END'
#!/bin/bash
#SBATCH --array=1-2
export OUT=results/trait$SLURM_ARRAY_TASK_ID
exec bash slurm/gblup.sbatch --traits "$(head -1 herd.tsv | cut -f $((SLURM_ARRAY_TASK_ID + 1)))"
END
sbatch --wait --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 --mem=1G --time=5 --output=array-%a.log array.sbatch
for task in 1 2; do
  diff <(cut -f 1,$((task + 1)) one.ebv.tsv) "results/trait$task.ebv.tsv" || fail "trait $task differs"
done

step "study.sbatch: data, an array of three jobs and the report give the study of one process"
cat >study.toml <<'END'
[simulate]
animals = 150
snps = 300
traits = 3
[[model]]
name = "GBLUP"
[[model]]
name = "boosting"
kind = "boosting"
rounds = 5
replicates = 2
[bootstrap]
replicates = 50
[report]
genotypes = false
END
"$GENIALEARN" study study.toml --out study-one --quiet
jobs=$(STUDY=study.toml OUT=results/study PARTS=3 \
  bash slurm/study.sbatch --nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=1G --time=5)
echo "test-slurm: $jobs"
job=${jobs##* } restarts=0
wait_for 120 "the report of the study" ended
scontrol show job "$job" | grep -q 'JobState=COMPLETED ' || fail "the study failed: $(cat study-*.log)"
for table in summary scores comparisons variances; do cmp "study-one/$table.tsv" "results/study/$table.tsv"; done
grep -q ' already done' "study-report-$job.log" || fail "no word of the fits that were done: $(cat study-*.log)"
! grep -E 'info.* fits, 0 already done' "study-report-$job.log" || fail "the last job fitted anew"
ls results/study/tasks/part-3-of-3.run.json >/dev/null
job=

step "scaling.sbatch on 1, 2 and 4 ranks"
ANIMALS=300 SNPS=2048 TRAITS=2 RANKS='1 2 4' sbatch --wait "${small[@]}" slurm/scaling.sbatch
[ "$(wc -l <results/scaling/table.tsv)" = 13 ] || fail "the table of scaling.sbatch is not complete"

# The job that writes results/NAME hears TERM after its first checkpoint, is queued again and goes on to its end.
interrupt() { # name, job
  local name=results/$1 log=$1.log
  job=$2 restarts=0
  wait_for 60 "the first checkpoint" test -e "$name.checkpoint"
  # srun takes a signal for a failed start until it has word from all nodes: the ranks halt for so long.
  kill -STOP $(ranks "$name")
  sleep 2
  scancel --signal=TERM "$job"
  sleep 0.5
  kill -CONT $(ranks "$name")
  wait_for 150 "the end of the job" ended
  scontrol show job "$job" | grep -q 'JobState=COMPLETED ' || fail "the job failed: $(cat "$log")"
  [ "$restarts" -ge 1 ] || fail "the job was not queued again"
  grep -Eq 'holds (iteration|step|epoch) [1-9]' "$log" || fail "no word of the interruption: $(cat "$log")"
  grep -Eq 'going on after (iteration|step|epoch) [1-9]' "$log" || fail "the job began anew: $(cat "$log")"
}

step "gblup.sbatch hears TERM, is queued again and goes on to the same bytes"
# Some two hundred iterations, each of which leaves a checkpoint.
long=(--preconditioner 0 --precision f64 --checkpoint-every 0)
"$GENIALEARN" gblup herd.h5 --pheno herd.tsv --h2 0.9999 --solver pcg "${long[@]}" --out whole --quiet
interrupt long "$(H2=0.9999 OUT=results/long \
  sbatch --parsable --output=long.log "${small[@]}" --ntasks-per-node=1 slurm/gblup.sbatch "${long[@]}")"
for table in ebv variances fixed; do cmp "whole.$table.tsv" "results/long.$table.tsv"; done
cmp whole.model.h5 results/long.model.h5

step "train-mlp.sbatch, a GPU a rank, hears TERM, is queued again and gives the network of one process"
cat >mlp.toml <<'END'
[network]
hidden = [64, 32]
[training]
batch = 64
epochs = 120
patience = 120
checkpoint_every = 2
END
ordered=(--exchange ordered --grid auto --device cpu)
"$GENIALEARN" train mlp herd.h5 --pheno herd.tsv --config mlp.toml "${ordered[@]}" --out mlp.h5 --quiet
interrupt mlp "$(CONFIG=mlp.toml OUT=results/mlp \
  sbatch --parsable --output=mlp.log "${small[@]}" --ntasks-per-node=1 slurm/train-mlp.sbatch "${ordered[@]}")"
cmp mlp.curve.tsv results/mlp.curve.tsv
cmp mlp.h5 results/mlp.h5

step "train-wgan.sbatch hears TERM, is queued again and gives the generator of one process"
cat >wgan.toml <<'END'
[network]
latent = 8
widths = [16, 32]
[training]
batch = 50
epochs = 60
evaluate_every = 10
checkpoint_every = 2
END
"$GENIALEARN" train wgan herd.h5 --config wgan.toml --device cpu --out wgan.h5 --quiet
interrupt wgan "$(CONFIG=wgan.toml OUT=results/wgan \
  sbatch --parsable --output=wgan.log "${small[@]}" --ntasks-per-node=1 slurm/train-wgan.sbatch --device cpu)"
cmp wgan.curve.tsv results/wgan.curve.tsv
cmp wgan.h5 results/wgan.h5

step "a wrong path fails the job with one sentence"
if STORE=none.h5 OUT=results/none.h5 sbatch --wait --output=wrong.log "${small[@]}" slurm/grm.sbatch; then
  fail "a job without its store succeeded"
fi
grep -c '^error: none.h5: ' wrong.log | grep -qx 1 || fail "not one clear sentence in the log: $(cat wrong.log)"
[ ! -e results/none.h5 ] || fail "a result of the failed job"
[ -z "$(find . -name '*.tmp')" ] || fail "temporary files were left behind"
