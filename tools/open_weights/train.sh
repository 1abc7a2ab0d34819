#!/usr/bin/env bash
# The open weights in calls of at most nine minutes (LIMIT, in seconds); runs.py says what the arguments mean.
#
#     tools/open_weights/train.sh DATA STATE OUT PIECE[:MINUTES]...
#
# piece-1.sh to piece-4.sh are such calls, which together make all weights on one GPU:
#
#     python tools/open_weights/photos.py pack DATA build/open/data
#     for n in 1 2 3 4; do tools/open_weights/piece-$n.sh build/open/data build/open/out-$((n - 1)) build/open/out-$n; done
#
# What OUT holds is all that a call elsewhere needs, as its STATE. WORK: the working folder (build/open/work). PYTHON:
# the interpreter. TINY=1: on the CPU, small, to try the pieces out. OPTIONS: further options of runs.py.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
if [ $# -lt 3 ]; then
  sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
  exit 2
fi
out=$3
mkdir -p "$out"

if [ ! -e "$root/liif_fast/_C.abi3.so" ] && [ "${TINY:-0}" != 1 ]; then
  # for this card alone, which saves minutes; where it cannot be built, plain PyTorch runs
  find_arch='import torch; print("%d.%d" % torch.cuda.get_device_capability() if torch.cuda.is_available() else "")'
  arch=$("$python" -c "$find_arch")
  (cd "$root" && ${arch:+env TORCH_CUDA_ARCH_LIST="$arch"} "$python" setup.py -q build_ext --inplace) 2>&1 |
    tee "$out/build.txt" | tail -3 || true
fi
options=(--work "${WORK:-$root/build/open/work}")
if [ "${TINY:-0}" = 1 ]; then
  options+=(--tiny --device cpu)
else
  "$python" -m liif_fast doctor
fi
options+=(--limit "$((${LIMIT:-540} - SECONDS))")
# shellcheck disable=SC2086
"$python" "$root/tools/open_weights/runs.py" "${options[@]}" ${OPTIONS:-} "$@" 2>&1 | tee "$out/log.txt"
