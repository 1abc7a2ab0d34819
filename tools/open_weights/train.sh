#!/usr/bin/env bash
# The open weights, in calls of at most nine minutes; runs.py says what the arguments mean.
#
#     python tools/open_weights/photos.py pack DATA build/open/data
#     tools/open_weights/train.sh build/open/data build/open/state out-1 throughput sweep srcnn:1 liif:4
#     cp out-1/state.tar.* build/open/state/          # only for a machine without the first call's working folder
#     tools/open_weights/train.sh build/open/data build/open/state out-2 liif:8
#     tools/open_weights/train.sh build/open/data build/open/state out-3 srresnet:3 srgan:1.5 liif:3
#
# WORK is the working folder (/tmp/liif_fast-open), PYTHON the interpreter; TINY=1 tries the pieces out on a CPU.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
if [ $# -lt 3 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
out=$3
mkdir -p "$out"

if [ ! -e "$root/liif_fast/_C.abi3.so" ] && [ "${TINY:-0}" != 1 ]; then
  # for this card alone, which saves minutes; where it cannot be built, plain PyTorch runs
  arch=$("$python" -c 'import torch; print(".".join(map(str, torch.cuda.get_device_capability())) if torch.cuda.is_available() else "")')
  (cd "$root" && ${arch:+env TORCH_CUDA_ARCH_LIST=$arch} "$python" setup.py -q build_ext --inplace) 2>&1 | tee "$out/build.txt" | tail -3 || true
fi
options=()
if [ "${TINY:-0}" = 1 ]; then
  options+=(--tiny --device cpu)
else
  "$python" -m liif_fast doctor
fi
"$python" "$root/tools/open_weights/runs.py" --work "${WORK:-/tmp/liif_fast-open}" "${options[@]}" ${OPTIONS:-} "$@" 2>&1 |
  tee "$out/log.txt"
