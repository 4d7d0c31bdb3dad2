#!/usr/bin/env bash
# bundle.sh ARCHIVE [release|debug]: packs what tests/gpu/first_day.py needs on a bare x86-64 Linux with a GPU's driver:
# the program, the library's tests, the bench, and all their libraries but glibc's. ARCHIVE ends in .tar.xz, or in .tar
# for a quick one. Of Open MPI it takes mpirun and the plug-ins of one machine, so that no ssh is asked for.
set -euo pipefail
archive=$(realpath -m "$1") profile=${2:-release}
cargo=${CARGO:-cargo}
most=40000000 # bytes
cd "$(dirname "$0")/../.."
# An integration test brings the program with it. `cargo build` would build it anew, with other features of its libraries.
options=(--locked --lib --bench gpu --test cuda --no-run); [ "$profile" = debug ] || options+=(--release)
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
mkdir "$folder/lib" "$folder/benches"

"$cargo" test "${options[@]}" --message-format=json-render-diagnostics >"$folder/built.json"
python3 - "$folder" <<'END'
import json, os, shutil, sys
folder = sys.argv[1]
for line in open(f"{folder}/built.json"):
    built = json.loads(line)
    kind = built["target"]["kind"][0] if built.get("executable") else ""
    if kind in ("lib", "bench"):
        shutil.copy(built["executable"], f"{folder}/{'libtest' if kind == 'lib' else 'gpu'}")
os.remove(f"{folder}/built.json")
END
cp "${CARGO_TARGET_DIR:-target}/$profile/genialearn" "$folder/"
cp benches/gpu_torch.py "$folder/benches/"
cp -r examples tests/gpu/{first_day,day,table}.py "$folder/"

# Open MPI finds its plug-ins and texts by variables that first_day.py sets.
if plugins=$(ompi_info --parsable --path pkglibdir 2>/dev/null | cut -d: -f3) && [ -d "$plugins" ]; then
  mkdir -p "$folder/lib/openmpi" "$folder/lib/pmix" "$folder/share"
  cp -L "$(command -v mpirun)" "$folder/"
  cp -r "$(ompi_info --parsable --path pkgdatadir | cut -d: -f3)" "$folder/share/openmpi"
  find "$plugins" -name 'mca_*.so' | grep -vE 'ucx|ofi|openib|psm|slurm|flux|jsm|gridengine|rsh|romio|monitoring|_(memheap|scoll|spml|sshmem)_' |
    xargs cp -Lt "$folder/lib/openmpi"
  pmix=$(ldd "$plugins"/mca_pmix_ext*.so | awk '/libpmix/ { print $3; exit }')
  find "$(dirname "$(readlink -f "$pmix")")/pmix" -name '*.so' ! -name '*slurm*' -exec cp -Lt "$folder/lib/pmix" {} +
fi

# Each library once, under the name that it is asked for; what an MPI that is not on this machine would need, is not there.
binaries=("$folder"/{genialearn,libtest,gpu} $(find "$folder" -name mpirun -o -name '*.so'))
ldd "${binaries[@]}" | awk '/=> \// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libmvec|libdl|librt|libpthread|libresolv|libutil|ld-linux[^/]*)\.so' | xargs cp -Lnt "$folder/lib"
chmod -R u+w "$folder"
find "$folder" -type f \( -name '*.so*' -o -perm -100 \) ! -name '*.py' -exec strip --strip-unneeded {} +

mkdir -p "$(dirname "$archive")"
XZ_OPT="-T0 -6" tar --auto-compress --owner=0 --group=0 -cf "$archive" -C "$folder" .
size=$(stat -c %s "$archive")
awk -v size="$size" -v whole="$(du -sb "$folder" | cut -f1)" -v name="$archive" \
  'BEGIN { printf "%s: %.1f MB, %.0f MB unpacked\n", name, size / 1e6, whole / 1e6 }'
if [ "$profile" = release ] && [ "$size" -gt $most ]; then
  echo "$archive has more than $((most / 1000000)) MB: see with \`tar tvf\` what has grown" >&2; exit 1
fi
