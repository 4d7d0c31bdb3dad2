#!/usr/bin/env bash
# check.sh FOLDER: plants faults and sees that the shim notices each. With nothing planted it must not speak.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$1
"$here/build.sh" "$out/faults" -- "$here/faults.cu" || exit 1
"$here/build.sh" "$out/races" -fsanitize=thread -- "$here/faults.cu" || exit 1
${CXX:-g++} -std=c++17 -O1 "$here/faults.cpp" -o "$out/faults/faults" -L"$out/faults" -lcuda || exit 1

bad=0
# expect SEED KERNEL PATTERN [LIBRARY [PRELOAD]]: what one run says must match; must not, with ! before the pattern.
expect() {
  local said wanted=0 found=0
  said=$(SHIM_SEED=$1 LD_LIBRARY_PATH=$out/${4:-faults} LD_PRELOAD=${5:-} timeout 60 \
         setarch -R "$out/faults/faults" "$2" 2>&1)
  [[ $3 != !* ]] || wanted=1
  grep -qE "${3#!}" <<<"$said" || found=1
  if [ $found != $wanted ]; then
    echo "MISSED: $2 with seed $1 should say \"$3\", said: $(head -3 <<<"$said")"; bad=$((bad + 1))
  fi
}

for seed in 0 1 2 3; do
  expect $seed fine '^sum 2016$'
  expect $seed writes_behind 'out of bounds'
  expect $seed reads_behind 'reads_behind.*out of bounds'
  expect $seed uses_fresh_shared '^sum -?nan$'
  expect $seed uses_fresh_dynamic '^sum -?nan$'
  expect $seed divergent_barrier 'divergent_barrier.*divergent barrier'
  expect $seed lonely_barrier 'lonely_barrier.*deadlock'
  expect $seed half_a_shuffle 'half_a_shuffle.*deadlock'
  expect $seed mask_too_small 'mask_too_small.*leaves (it|out)'
  expect $seed copy_askew 'copy_askew.*no multiple'
done
expect 1 copy_not_awaited '^sum -?nan$'
for seed in 0 1 2 3; do expect $seed no_barrier '!^sum 2016$'; done

tsan=$(${CXX:-g++} -print-file-name=libtsan.so)
expect 0 fine '^sum 2016$' races "$tsan"
expect 0 fine '!WARNING' races "$tsan"
expect 0 race 'data race' races "$tsan"
expect 0 race 'faults.cu:[0-9]+' races "$tsan"
expect 0 no_barrier 'data race' races "$tsan"
[ $bad = 0 ] && echo "shim: every planted fault is noticed"
exit $bad
