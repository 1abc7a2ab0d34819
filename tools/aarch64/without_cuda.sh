#!/usr/bin/env bash
# torch's wheels for aarch64 on PyPI want CUDA's libraries, gigabytes, to be there when they are loaded. In their place
# comes one library with all the names that they look for, whose functions say cudaErrorNoDevice (100).
#
#     tools/aarch64/without_cuda.sh SITE/torch/lib SYSTEM
set -euo pipefail
lib=$1 system=$2
export LC_ALL=C # one order for sort and join
tools=$(mktemp -d)
trap 'rm -r "$tools"' EXIT

aarch64-linux-gnu-nm -D --defined-only --without-symbol-versions "$lib"/*.so* | awk 'NF == 3 {print $3}' |
  sort -u >"$tools/there"
# name and version of what no library of torch has
aarch64-linux-gnu-nm -D --undefined-only "$lib"/*.so* |
  awk '$1 == "U" {split($2, a, "@"); print a[1], a[2] == "" ? "NONE" : a[2]}' |
  grep -E '^_*(cu|nccl|nvrtc|nvml|nvtx|nvshmem)' | sort -u | join -v 1 - "$tools/there" >"$tools/names"
{
  echo '#define NO_DEVICE(name) int name(void) { return 100; }'
  cut -d ' ' -f 1 "$tools/names" | sort -u | sed 's/.*/NO_DEVICE(&)/'
} >"$tools/none.c"
awk '{of[$2] = of[$2] $1 ";"} END {for (v in of) print v " {" of[v] "};"}' "$tools/names" >"$tools/versions"
aarch64-linux-gnu-gcc -w -shared -fPIC -O1 -fno-builtin -Wl,--version-script="$tools/versions" \
  -o "$lib/libno_device.so" "$tools/none.c"

aarch64-linux-gnu-readelf -d "$lib"/*.so* | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u | while read -r name; do
  found=$(find "$lib" "$system" -name "$name" | head -n 1)
  test -n "$found" || ln -s libno_device.so "$lib/$name"
done
