#!/usr/bin/env bash
# compile.sh FOLDER: compiles every file of kernels for each architecture with the real nvcc, without a card, prints
# registers and spills of each kernel, and fails on an error, a warning or a spill. nvcc comes from PyPI into FOLDER
# (105 MB, once) unless NVCC names one. Exit code 77: no nvcc could be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
# The 13.0 line: what a newer compiler makes may not load on drivers of today.
packages="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
          nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"

nvcc=${NVCC:-}
if [ -z "$nvcc" ] || [ "$nvcc" = required ]; then
  find_nvcc() { compgen -G "$folder/lib/python3*/site-packages/nvidia/cu13/bin/nvcc" | head -1; }
  if [ ! -e "$folder/complete" ]; then
    # shellcheck disable=SC2086
    if python3 -m venv "$folder" && "$folder/bin/pip" install -q --no-deps $packages; then touch "$folder/complete"
    else echo "kernels: compiling NOT RUN, nvcc could not be had from PyPI" >&2; exit 77; fi
  fi
  nvcc=$(find_nvcc)
fi

"$nvcc" --version | tail -1
printf '%-16s %-6s %-24s %9s %6s\n' file arch kernel registers spills
bad=0
for file in "$here"/*.cu; do
  name=$(basename "$file")
  archs="80 90"
  case $name in *_sm90a.cu) archs=90a ;; esac
  for arch in $archs; do
    if ! said=$("$nvcc" -std=c++17 -O3 -I"$here" -gencode=arch=compute_"$arch",code=sm_"$arch" -cubin -Xptxas -v \
                -Werror all-warnings -o /dev/null "$file" 2>&1); then
      echo "FAILED: $name for sm_$arch"; grep -m8 -E 'error|warning' <<<"$said" || head -8 <<<"$said"; bad=1; continue
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
      END { exit bad || !kernels }' <<<"$said" || bad=1
  done
done
exit $bad
