#!/usr/bin/env bash
# compile.sh FOLDER [--write]: compiles every file of kernels without a GPU, and fails on an error, a warning or a spill:
# 1. for each architecture with the real nvcc; prints registers and spills of each kernel;
# 2. holds the machine code to what sass.txt keeps, or writes that table anew (--write; sass.py);
# 3. with the program's own options by NVRTC, the compiler that it calls, of CUDA 12 and 13 (nvrtc.py): each architecture
#    with one of them, or with all that know it (NVRTC=all).
# The tools come from PyPI into FOLDER (0.8 GB, once), unless NVCC names an nvcc, which then stands for the first step alone.
# Exit code 77: no nvcc could be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
write=${2:-}
# The 13.0 line: what a newer compiler makes may not load on drivers of today.
packages="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
          nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
# They read the machine code of older compilers too.
readers="nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51"
# Of NVRTC the oldest that docs/gpu.md names, the oldest that knows Blackwell (sm_100, sm_120), and nvcc's own version.
nvrtcs=("nvidia-cuda-nvrtc-cu12==12.4.127 sm_80 sm_90" "nvidia-cuda-nvrtc-cu12==12.8.93 sm_100 sm_120"
        "nvidia-cuda-nvrtc==13.0.88 sm_86 sm_90")
if [ "${NVRTC:-}" = all ]; then  # 3 minutes on two cores
  nvrtcs=("nvidia-cuda-nvrtc-cu12==12.4.127 sm_80 sm_86 sm_90"
          "nvidia-cuda-nvrtc-cu12==12.8.93 sm_80 sm_86 sm_90 sm_100 sm_120"
          "nvidia-cuda-nvrtc==13.0.88 sm_80 sm_86 sm_90 sm_100 sm_120")
fi

# fetch NAME PACKAGE...: packages into FOLDER/NAME, once.
fetch() {
  [ ! -e "$folder/$1/complete" ] || return 0
  [ -x "$folder/venv/bin/pip" ] || python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q --no-deps --target "$folder/$1" "${@:2}" && touch "$folder/$1/complete"
}

nvcc=${NVCC:-}
if [ -z "$nvcc" ] || [ "$nvcc" = required ]; then
  # shellcheck disable=SC2086
  fetch nvcc $packages || { echo "kernels: compiling NOT RUN, nvcc could not be had from PyPI" >&2; exit 77; }
  nvcc=$folder/nvcc/nvidia/cu13/bin/nvcc
fi

"$nvcc" --version | tail -1
printf '%-16s %-6s %-24s %9s %6s\n' file arch kernel registers spills
bad=0
# One file for one architecture; what nvcc said goes beside the binary.
compile() {
  local out=$folder/cubin/sm_$2/$(basename "$1" .cu)
  "$nvcc" -std=c++17 -O3 -I"$here" -gencode=arch=compute_"$2",code=sm_"$2" -cubin -Xptxas -v \
    -Werror all-warnings -o "$out.cubin" "$1" >"$out.said" 2>&1 || rm -f "$out.cubin"
}
archs_of() { case $1 in *_sm90a.cu) echo 90a ;; *) echo 80 90 ;; esac; }
tasks() { for file in "$here"/*.cu; do for arch in $(archs_of "$file"); do echo "$file" "$arch"; done; done; }
rm -rf "$folder/cubin"
mkdir -p $(tasks | awk -v folder="$folder" '{ print folder "/cubin/sm_" $2 }' | sort -u)
export -f compile
export nvcc here folder
tasks | xargs -P "$(nproc)" -L 1 bash -c 'compile "$@"' _

while read -r file arch; do
  name=$(basename "$file"); out=$folder/cubin/sm_$arch/${name%.cu}
  if [ ! -e "$out.cubin" ]; then
    echo "FAILED: $name for sm_$arch"; grep -m8 -E 'error|warning' "$out.said" || head -8 "$out.said"; bad=1; continue
  fi
  awk -v file="$name" -v arch="sm_$arch" '
    /entry function/ { split($0, part, "\047"); kernel = part[2] }
    /spill stores/   { spills = $5 + $9 }
    /Used [0-9]+ registers/ {
      for (i = 1; i < NF; i++) if ($i == "Used") registers = $(i + 1)
      printf "%-16s %-6s %-24s %9d %6d\n", file, arch, kernel, registers, spills
      if (spills > 0) { print "SPILLS: " kernel; bad = 1 }
      kernels++
    }
    END { exit bad || !kernels }' "$out.said" || bad=1
done < <(tasks)
[ $bad = 0 ] || exit 1

# What cannot be had is told; NVCC=required makes that a failure.
missing() { echo "$1: NOT RUN, $2"; [ "${NVCC:-}" != required ] || bad=1; }
if [ "$nvcc" != "$folder/nvcc/nvidia/cu13/bin/nvcc" ]; then
  echo "SASS and NVRTC: NOT RUN, NVCC names another compiler"; exit 0
fi
# shellcheck disable=SC2086
if fetch readers $readers; then
  export CUOBJDUMP=$folder/readers/nvidia/cu13/bin/cuobjdump
  python3 "$here/sass.py" "$CUOBJDUMP" "$folder/cubin" $write || bad=1
else
  missing SASS "cuobjdump could not be had from PyPI"
fi
for nvrtc in "${nvrtcs[@]}"; do
  read -r package archs <<<"$nvrtc"
  # shellcheck disable=SC2086
  if fetch "nvrtc-${package#*==}" "$package"; then
    python3 "$here/nvrtc.py" "$(dirname "$(find "$folder/nvrtc-${package#*==}" -name 'libnvrtc.so.*')")" $archs || bad=1
  else
    missing "NVRTC ${package#*==}" "it could not be had from PyPI"
  fi
done
exit $bad
