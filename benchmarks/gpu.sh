#!/usr/bin/env bash
# All that needs a CUDA device, in stages of at most 9 minutes each. Build first; then as many as the time allows:
#
#     benchmarks/gpu.sh build test sanitize   # kernels from source, tests/gpu, compute-sanitizer
#     benchmarks/gpu.sh tune                  # liif-fast tune: the fused kernel's configuration on this card
#     benchmarks/gpu.sh gather train step head heads upscale large   # rows and bars of speed.py
#     benchmarks/gpu.sh profile               # ncu's figures for the gather and render kernels
#     benchmarks/gpu.sh all                   # each of these that has not succeeded yet
#
# Rows (gpu.jsonl), logs and a mark for each stage that succeeded (STAGE.done) go to $OUT, or to build/gpu. A stage that
# is named runs again. PYTHON: the interpreter that has torch (python3). LIIF_FAST_DATA: folder of test data, for Set5
# and the official weights (else these are fetched, Set5 is skipped). TORCH_CUDA_ARCH_LIST: what to build for (this
# device). TINY=1: on the CPU, small, to check this script.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-build/gpu}
limit=540 # seconds
stages=(build test sanitize tune gather train step head heads upscale large profile)
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

tune() { # the choice goes to the user's cache folder, from where the cases after it take it
  if [ -n "${TINY:-}" ]; then
    limited "$python" -m liif_fast tune --help
    return
  fi
  limited "$python" -m liif_fast tune
}

speed() { # cases and options
  limited "$python" benchmarks/speed.py "$@" --budget 45 "${weights[@]}" "${tiny[@]}" --json "$out/gpu.jsonl"
}

profile() { # one launch of each kernel whose name says that it is ours: shares of the peaks, and why warps wait
  local program=("$python" benchmarks/speed.py gather head-1080p --once "${weights[@]}" "${tiny[@]}")
  if [ -n "${TINY:-}" ]; then
    limited "${program[@]}"
    return
  fi
  limited ncu --target-processes all --kernel-name-base demangled --kernel-name 'regex:liif::|^fused' \
    --launch-count 24 --section SpeedOfLight --section MemoryWorkloadAnalysis --section WarpStateStats \
    --section LaunchStats "${program[@]}"
}

stage() {
  case $1 in
    build | sanitize | tune | profile) "$1" ;;
    test) tests ;;
    gather | train | step) speed "$1" ;;
    head) speed head-1080p --psnr ;;
    heads) speed head head-320-x2 head-320-x3 head-320-x4 head-320-x8 head-dvd head-1440 head-4k ;;
    upscale) speed upscale-1080p upscale-dvd upscale-1440 upscale-4k ;;
    large) speed tiles queries queries-10^8 scales --plot "$out" ;;
  esac
}

if [ $# -eq 0 ]; then
  sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'
  exit 2
fi
wanted=()
for name in "$@"; do
  if [ "$name" = all ]; then
    for name in "${stages[@]}"; do
      [ -e "$out/$name.done" ] || wanted+=("$name")
    done
  elif [[ " ${stages[*]} " = *" $name "* ]]; then
    wanted+=("$name")
  else
    echo "gpu.sh: unknown stage $name: one of ${stages[*]} or all is wanted" >&2
    exit 2
  fi
done
result=0
for name in "${wanted[@]}"; do
  echo "== $name"
  begin=$SECONDS
  rm -f "$out/$name.done"
  stage "$name" 2>&1 | tee "$out/$name.log"
  status=${PIPESTATUS[0]}
  echo "== $name: $([ "$status" -eq 0 ] && echo done || echo "FAILED ($status)") after $((SECONDS - begin)) s"
  if [ "$status" -eq 0 ]; then
    touch "$out/$name.done"
  else
    result=1
    [ "$name" = build ] && break # nothing else means anything without the kernels
  fi
done
exit $result
