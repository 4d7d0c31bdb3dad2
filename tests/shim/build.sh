#!/usr/bin/env bash
# build.sh FOLDER [FLAG...] [-- FILE.cu...]: builds libcuda.so.1 that runs the kernels on the processor into FOLDER, with
# libnvrtc.so, libnccl.so.2 and libcublasLt.so beside it. A new file of kernels needs no line anywhere: its entries are
# found by the word KERNEL.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kernels=$here/../../kernels
out=$1; shift
flags=(); while [ $# -gt 0 ] && [ "$1" != -- ]; do flags+=("$1"); shift; done
[ $# -gt 0 ] && shift
files=("$@"); [ $# -gt 0 ] || files=("$kernels"/*.cu)
mkdir -p "$out"
cxx=(${CXX:-g++} -std=c++17 -O2 -g -fPIC -fno-math-errno -ffp-contract=off -Wall -Wextra -Werror
     -Wno-unused-function -Wno-unused-parameter -I"$here" -I"$kernels")

# Objects whose sources are older are kept.
stale() { [ ! -e "$1" ] || [ -n "$(find "$here" "$kernels" -newer "$1" -print -quit)" ]; }
compile() { # OBJECT SOURCE FLAG...
  stale "$1" || return 0
  "${cxx[@]}" "${@:3}" -c -x c++ "$2" -o "$1.new" && mv "$1.new" "$1"
}

jobs=(); objects=()
for part in fibers driver nvrtc nccl; do
  extra=(); [ $part = fibers ] && [[ " ${flags[*]-} " = *sanitize=thread* ]] && extra=(-DSHIM_TSAN -fno-tree-loop-distribute-patterns)
  [ $part = nccl ] || objects+=("$out/$part.o")
  compile "$out/$part.o" "$here/$part.cpp" "${extra[@]}" & jobs+=($!)
done
for file in "${files[@]}"; do
  name=$(basename "$file" .cu); list=$out/$name.entries.cpp
  { echo "#include \"$file\""; sed -nE 's/^KERNEL\(([0-9]+)[^)]*\) +([A-Za-z_0-9]+)\(.*/REGISTER(\2, \1)/p' "$file"; } > "$list.new"
  cmp -s "$list.new" "$list" && rm "$list.new" || mv "$list.new" "$list"
  objects+=("$out/$name.entries.o"); compile "$out/$name.entries.o" "$list" "${flags[@]}" & jobs+=($!)
  [ ${#jobs[@]} -lt 8 ] || { wait "${jobs[0]}"; jobs=("${jobs[@]:1}"); }
done
for job in "${jobs[@]}"; do wait "$job"; done
"${cxx[@]}" "${flags[@]}" -shared -Wl,-soname,libcuda.so.1,-z,nodelete -o "$out/libcuda.so.1" "${objects[@]}" -pthread
"${CXX:-g++}" -std=c++17 -O2 -fPIC -Wall -Wextra -Werror -shared -o "$out/libcublasLt.so" "$here/blas.cpp"
for name in libcuda.so libnvrtc.so; do ln -sf libcuda.so.1 "$out/$name"; done
"${cxx[@]}" "${flags[@]}" -shared -Wl,-soname,libnccl.so.2 -o "$out/libnccl.so.2" "$out/nccl.o" "$out/libcuda.so.1"
