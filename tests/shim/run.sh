#!/usr/bin/env bash
# run.sh FOLDER: runs the tests of backends and networks with every kernel on the processor, in several orders of its
# threads, with the shared memory of an A100 and of an H100, and under ThreadSanitizer, and fails on a kernel that never ran.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
cargo=${CARGO:-cargo}
if [ "$(uname -m)" != x86_64 ]; then echo "kernels on the processor: NOT RUN, the shim knows x86-64 only"; exit 77; fi

"$here/check.sh" "$out"
"$here/build.sh" "$out"
"$here/build.sh" "$out/tsan" -fsanitize=thread
${CC:-cc} -shared -fPIC -O1 -o "$out/tsan/libleave.so" "$here/leave.c"

export SHIM_REPORT=$out/launches GENIALEARN_CACHE=$out/cache
rm -rf "$SHIM_REPORT"
# The runner gives the libraries to the tests alone, not to cargo. ThreadSanitizer of GCC 12 takes thread-local blocks that
# begin 16 bytes into a page for those of glibc 2.19 and reads their size where there is none: it is not to look at them.
tests() { # LIBRARIES PRELOAD SEED CARGO'S-OPTION...
  # Odd seeds stand for an A100 with its smaller shared memory, even ones for an H100.
  local gpu=$(($3 % 2 ? 80 : 90)) said=$1/said.$3
  local runner="timeout 900 env SHIM_CARD=$gpu LD_LIBRARY_PATH=$1 LD_PRELOAD=$2 SHIM_SEED=$3 TSAN_OPTIONS=exitcode=66:ignore_noninstrumented_modules=1:intercept_tls_get_addr=0 setarch -R"
  CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$runner "$cargo" test --locked "${@:4}" >"$said" 2>&1 ||
    { echo "FAILED: seed $3${2:+, ThreadSanitizer}"; tail -n 60 "$said"; return 1; }
  echo "kernels on the processor: seed $3, as of sm_$gpu${2:+, ThreadSanitizer}: $(grep '^test result' "$said")"
}
backends=(--lib -- device::tests device::network device::cuda nn:: comm::reduce wgan_gp::tests::other_backends)
# Even seeds copy in the background at once, odd ones at the last moment: races of both kinds show. The quick and
# rounded products and the long sums launch the same kernels again, or others of the same source. Whole networks have all
# kinds of copies.
tsan=$(${CXX:-g++} -print-file-name=libtsan.so):$out/tsan/libleave.so
# Kernels run on one core: two halves of the work at a time.
orders() {
  for seed in 0 1 3; do tests "$out" '' $seed "${backends[@]}" --skip full_size; done
  tests "$out" '' 4 --test cuda --test nccl
  tests "$out/tsan" "$tsan" 1 --lib -- device::cuda nn:: comm::reduce wgan_gp::tests::other_backends --skip one_slab
}
races() {
  tests "$out/tsan" "$tsan" 0 --lib -- device::tests device::network --skip quick_ --skip rounded_ --skip long_sums --skip full_size
  tests "$out" '' 6 --lib -- full_size
}
"$cargo" test --locked --lib --test cuda --test nccl --no-run
(orders) & first=$!
(races) & second=$!
status=0
wait $first || status=1
wait $second || status=1
[ $status = 0 ]

awk '{ launches[$1] += $2 } END { for (k in launches) { n++; all += launches[k]; if (!launches[k]) { print "NEVER RAN: " k; bad = 1 } }
       printf "%d kernels ran on the processor, %d launches\n", n, all; exit bad || !n }' "$SHIM_REPORT"
