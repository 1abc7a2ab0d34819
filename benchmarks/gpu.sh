#!/usr/bin/env bash
# All that needs a CUDA device, in stages of at most 9 minutes each; give as many as the time allows, in any order after
# build, and go on with the next in another call:
#
#     benchmarks/gpu.sh build test sanitize       # kernels from source, tests/gpu, compute-sanitizer
#     benchmarks/gpu.sh gather train step render frames  # rows and bars
#     benchmarks/gpu.sh profile                   # ncu's figures for the gather and render kernels
#
# Rows and logs go to $OUT, or to benchmarks/results/. PYTHON: the interpreter that has torch (python3).
# LIIF_FAST_DATA: folder of test data, for Set5 and the official weights (else these are fetched, Set5 is skipped).
# TORCH_CUDA_ARCH_LIST: what to build for (this device). TINY=1: on the CPU, small, to check this script.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-benchmarks/results}
limit=540 # seconds
mkdir -p "$out"
weights=()
if [ -f "${LIIF_FAST_DATA:-}/weights/edsr-baseline-liif.pth" ]; then
  weights=(--model "$LIIF_FAST_DATA/weights/edsr-baseline-liif.pth")
fi
tiny=()
if [ -n "${TINY:-}" ]; then
  tiny=(--device cpu --tiny --rounds 2)
  export LIIF_FAST_GPU_TEST_DEVICE=cpu
fi
export PYTHONUNBUFFERED=1

limited() { # what runs longer is ended, with what it has written kept
  timeout --kill-after=10 "$limit" "$@"
}

build() { # as the README says; without --no-deps pip would ask the network even for what is there
  if [ -z "${TORCH_CUDA_ARCH_LIST:-}" ] && [ -z "${TINY:-}" ]; then
    TORCH_CUDA_ARCH_LIST=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())') || return 1
    export TORCH_CUDA_ARCH_LIST
  fi
  local no_deps=()
  if "$python" -c 'import torch, numpy, PIL, tqdm, safetensors, yaml' 2>/dev/null; then
    no_deps=(--no-deps)
  fi
  local kind=cuda
  [ -n "${TINY:-}" ] && kind=cpu
  LIIF_FAST_BUILD=$kind limited "$python" -m pip install -v --no-build-isolation "${no_deps[@]}" --editable . || return 1
  limited "$python" -m liif_fast doctor | tee "$out/doctor.log"
}

tests() {
  limited "$python" -m pytest tests/gpu -q --durations=10 -p no:cacheprovider
}

sanitize() {
  if [ -n "${TINY:-}" ]; then
    limited "$python" tests/gpu/sanitize.py --render
    return
  fi
  local tool failed=0 render=(--render) # racecheck: CUDA C++ alone, Triton places its own barriers
  for tool in memcheck racecheck; do
    [ "$tool" = racecheck ] && render=()
    # every tensor an allocation of its own, so that accesses beyond its end are seen
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 limit=260 limited compute-sanitizer --tool "$tool" --error-exitcode 9 \
      --target-processes all "$python" tests/gpu/sanitize.py "${render[@]}" || failed=1
  done
  return $failed
}

rows() { # case
  limited "$python" benchmarks/gpu.py "$1" "${weights[@]}" "${tiny[@]}" --json "$out/gpu.jsonl"
}

profile() { # one launch of each kernel whose name says that it is ours: shares of the peaks, and why warps wait
  limit=530 limited ncu --target-processes all --kernel-name-base demangled --kernel-name 'regex:liif::|^fused' \
    --launch-count 24 --section SpeedOfLight --section MemoryWorkloadAnalysis --section WarpStateStats \
    --section LaunchStats "$python" benchmarks/gpu.py gather render --once "${weights[@]}" "${tiny[@]}"
}

if [ $# -eq 0 ]; then
  sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'
  exit 2
fi
result=0
for stage in "$@"; do
  echo "== $stage"
  begin=$SECONDS
  case $stage in
    build | sanitize | profile) "$stage" 2>&1 | tee "$out/$stage.log" ;;
    test) tests 2>&1 | tee "$out/test.log" ;;
    gather | train | step | render | frames) rows "$stage" 2>&1 | tee "$out/$stage.log" ;;
    *)
      echo "gpu.sh: unknown stage $stage: build, test, sanitize, gather, train, step, render, frames or profile" >&2
      exit 2
      ;;
  esac
  status=${PIPESTATUS[0]}
  echo "== $stage: $([ "$status" -eq 0 ] && echo done || echo "FAILED ($status)") after $((SECONDS - begin)) s"
  [ "$status" -eq 0 ] || result=1
  # nothing else means anything without the kernels
  [ "$stage" = build ] && [ "$status" -ne 0 ] && break
done
exit $result
