#!/usr/bin/env bash
# All that needs a CUDA device. For who has one for minutes only, in calls that each keep to a time of their own:
#
#     benchmarks/gpu.sh prepare   # beforehand, where the data is: fills .dev/ and says what to bring along
#     benchmarks/gpu.sh call1     # 240 s: is it right? doctor, tests/gpu without the slow ones, frames, tune
#     benchmarks/gpu.sh call2     # 190 s: why so fast? rows of gather and upscale, ncu of head and gather, memcheck
#     benchmarks/gpu.sh call3     # 240 s: what failed, again; rows of upscale, head with PSNR, video, training
#
# and for who has one and an hour:
#
#     benchmarks/gpu.sh all       # build, all of tests/gpu, sanitize, tune, all rows and bars, ncu
#     benchmarks/gpu.sh sanitize  # compute-sanitizer alone: memcheck and racecheck
#
# The calls need no network and nothing installed but PyTorch: what they need is in .dev/ (weights, Set5, the commit)
# and the library, built before; what they find is in .dev/ too (results/, cache/: what tune chose, failed: names of
# tests) and is packed into $OUT/found.tar.gz after every step. A later call on the same machine finds it there and
# needs nothing brought along again; for a fresh one unpack it first: tar -xzf found.tar.gz -C .dev
#
# A step that is not done in its time, or in what is left of the call, is ended; a table of them all comes last.
# PYTHON: the interpreter that has torch (python3). LIMIT: seconds for a call. TESTS: what call3 tests, in place of what
# failed. CONFIGURATIONS: what call2 profiles, see one.py ("half:best half:other"). LIIF_FAST_DATA: folder of test data.
# TORCH_CUDA_ARCH_LIST: what all builds for (this device). DEV: in place of .dev. TINY=1: on the CPU, small, to check
# this script.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
dev=${DEV:-.dev}
results=$dev/results
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
tiny=()
if [ -n "${TINY:-}" ]; then
  tiny=(--device cpu --tiny --rounds 2)
  export LIIF_FAST_GPU_TEST_DEVICE=cpu
fi

table=() # a line for each step
failed=0

pack() { # all that was found, so far
  [ -n "${OUT:-}" ] || return 0
  local parts=() part
  for part in results cache failed; do
    [ -e "$dev/$part" ] && parts+=("$part")
  done
  mkdir -p "$OUT"
  tar -czf "$OUT/found.part" -C "$dev" "${parts[@]}" && mv "$OUT/found.part" "$OUT/found.tar.gz"
}

# NAME SECONDS COMMAND...: a log of its own, whose end is shown; its outcome into the table
step() {
  local name=$1 most=$2 log=$results/$call-$1.log left=$((end - SECONDS)) begin=$SECONDS outcome status
  shift 2
  rm -f "$log"
  [ "$most" -lt "$left" ] || most=$left
  if [ "$most" -lt 10 ]; then
    table+=("$(printf '%-16s no time left' "$name")")
    failed=1
    return 1
  fi
  echo "== $name (at most $most s, log: $log)"
  # interrupted first, so that it can say what it has found; what does not listen is killed, with all that it started
  { timeout --signal=INT --kill-after=5 $((most - 5)) "$@" </dev/null >"$log" 2>&1; } 2>/dev/null
  status=$?
  tail -n "${SHOWN:-12}" "$log" | cut -c1-220
  case $status in
    0) outcome=done ;;
    124 | 137) outcome="OUT OF TIME" ;;
    *) outcome="FAILED ($status)" ;;
  esac
  [ "$status" -eq 0 ] || failed=1
  table+=("$(printf '%-16s %-12s %4d s  ' "$name" "$outcome" $((SECONDS - begin)))$(tail -n 1 "$log" | cut -c1-80)")
  pack
  return "$status"
}

card() { # driver, clock and power now
  [ -z "${TINY:-}" ] && command -v nvidia-smi >/dev/null || return
  step card 15 nvidia-smi --format=csv,noheader \
    --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.draw,power.limit,temperature.gpu
}

# SECONDS ARGUMENTS...: pytest; the names of what failed, or had begun when the run was ended, are kept in .dev/failed
tests() {
  local most=$1 status
  shift
  # a hung kernel does not hear a signal: "thread" ends the process, and pytest-xdist begins another
  "$python" -c 'import pytest_timeout' 2>/dev/null && set -- --timeout 60 --timeout-method thread "$@"
  SHOWN=40 step tests "$most" "$python" -m pytest -v --durations=10 -p no:cacheprovider "$@"
  status=$?
  [ -e "$results/$call-tests.log" ] || return "$status" # there was no time
  awk '{
    name = outcome = ""
    for (i = 1; i <= NF && i < 6; i++) {
      if (name == "" && $i ~ /^tests\//) name = $i
      if ($i ~ /^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)$/) outcome = $i
    }
    if (name != "" && outcome == "" && NF == 1) begun[name]
    if (name != "" && outcome != "") delete begun[name]
    if (name != "" && (outcome == "FAILED" || outcome == "ERROR")) bad[name]
  }
  END { for (name in begun) bad[name]; for (name in bad) print name }' "$results/$call-tests.log" | sort >"$dev/failed"
  [ -s "$dev/failed" ] || rm "$dev/failed"
  pack
  return "$status"
}

speed() { # NAME SECONDS ARGUMENTS...: rows
  local name=$1 most=$2
  shift 2
  SHOWN=60 step "$name" "$most" \
    "$python" benchmarks/speed.py "$@" "${model[@]}" "${tiny[@]}" --json "$results/gpu.jsonl"
}

film() { # SECONDS: frames a second, for seconds on end
  local quick=()
  [ -n "${TINY:-}" ] && quick=(--device cpu --tiny --seconds 0.1)
  step video "$1" "$python" benchmarks/video.py "${model[@]}" "${quick[@]}" --json "$results/gpu.jsonl"
}

tune() { # SECONDS ARGUMENTS...: kept in .dev/cache, where the steps after it find it
  [ -n "${TINY:-}" ] && set -- "$1" --help
  SHOWN=30 step tune "$1" "$python" -m liif_fast tune "${@:2}"
}

# shares of the peaks, and why warps wait
sections=(--section SpeedOfLight --section ComputeWorkloadAnalysis --section MemoryWorkloadAnalysis)
sections+=(--section WarpStateStats)

profile() { # SECONDS KIND:WHICH: of one launch
  local command=("$python" benchmarks/one.py "${2%:*}" "${2#*:}")
  if [ -n "${TINY:-}" ]; then
    command+=(--help)
  else
    command=(ncu --kernel-name regex:fused --launch-skip 2 --launch-count 1 "${sections[@]}" "${command[@]}")
  fi
  SHOWN=80 step "ncu-${2/:/-}" "$1" "${command[@]}"
}

profile_gather() { # SECONDS: of each kernel in csrc/cuda that the cases of gather launch
  local command=("$python" benchmarks/speed.py gather --once "${model[@]}" "${tiny[@]}")
  if [ -z "${TINY:-}" ]; then
    command=(ncu --kernel-name-base demangled --kernel-name regex:liif:: --launch-count 24 "${sections[@]}"
      "${command[@]}")
  fi
  SHOWN=80 step ncu-gather "$1" "${command[@]}"
}

sanitizer() { # SECONDS TOOL ARGUMENTS...
  local command=("$python" tests/gpu/sanitize.py "${@:3}")
  if [ -n "${TINY:-}" ]; then
    command+=(--few)
  else
    command=(compute-sanitizer --tool "$2" --error-exitcode 9 --target-processes all "${command[@]}")
  fi
  # every tensor an allocation of its own, so that accesses beyond its end are seen
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 step "$2" "$1" "${command[@]}"
}

prepare() {
  local from=${LIIF_FAST_DATA:-} to=$dev/data part
  if [ ! -f "$from/weights/edsr-baseline-liif.pth" ] || [ ! -d "$from/benchmark/Set5/HR" ]; then
    echo "gpu.sh: LIIF_FAST_DATA (${from:-unset}) has no weights/edsr-baseline-liif.pth or no benchmark/Set5" >&2
    return 1
  fi
  rm -rf "$to"
  mkdir -p "$to/weights" "$to/benchmark/Set5/LR_bicubic"
  cp "$from/weights/edsr-baseline-liif.pth" "$to/weights"
  for part in HR LR_bicubic/X2 LR_bicubic/X4; do
    cp -r --no-preserve=mode "$from/benchmark/Set5/$part" "$to/benchmark/Set5/$part"
  done
  echo "$(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo -dirty)" >"$dev/commit"
  if [ -z "${TINY:-}" ] && ! "$python" - <<'PYTHON'; then
from liif_fast.cli.doctor import facts

found = facts()["operators"]["corner_gather"]["cuda"]
raise SystemExit(0 if "compiled kernel" in found and "plain PyTorch" not in found else f"corner_gather: {found}")
PYTHON
    echo "gpu.sh: the library has no CUDA kernels that load here; for an H100 build it with" >&2
    echo "  TORCH_CUDA_ARCH_LIST=9.0 LIIF_FAST_BUILD=cuda $python setup.py build_ext --inplace" >&2
    return 1
  fi
  echo "commit $(cat "$dev/commit"); beside the working tree bring along, from $PWD:"
  du -shc "$dev" liif_fast/_C.abi3.so
}

call1() {
  local which=(-n 12 -m "not slow_gpu" tests/gpu)
  [ -n "${TINY:-}" ] && which=(tests/gpu/test_gather_gpu.py -k bfloat16_gradients_are_summed)
  card
  step doctor 30 "$python" -m liif_fast doctor
  tests 110 "${which[@]}"
  speed frames 60 frames --rounds 5 --budget 5
  tune "$LIMIT" --width 256
}

call2() {
  local name
  card
  for name in ${CONFIGURATIONS:-half:best half:other}; do
    profile 35 "$name"
  done
  profile_gather 40
  speed rows 90 gather upscale-4k upscale-dvd --rounds 7 --budget 25
  sanitizer "$LIMIT" memcheck --render
}

call3() {
  local which=() name
  card
  if [ -n "${TESTS:-}" ]; then
    read -ra which <<<"$TESTS"
  elif [ -s "$dev/failed" ]; then
    mapfile -t which <"$dev/failed"
  fi
  if [ ${#which[@]} -gt 0 ]; then
    [ ${#which[@]} -gt 4 ] && [ -z "${TINY:-}" ] && which=(-n 12 "${which[@]}")
    tests 60 "${which[@]}"
  fi
  speed upscale 80 upscale-4k upscale-dvd --rounds 9 --budget 30
  speed head "$LIMIT" head-1080p --psnr --rounds 9 --budget 25
  film 25
  speed training "$LIMIT" train step --rounds 9 --budget 20
}

build() { # without --no-deps pip would ask the network even for what is there
  if [ -z "${TORCH_CUDA_ARCH_LIST:-}" ]; then
    TORCH_CUDA_ARCH_LIST=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())') || return 1
    export TORCH_CUDA_ARCH_LIST
  fi
  local no_deps=()
  "$python" -c 'import torch, numpy, PIL, tqdm, safetensors, yaml' 2>/dev/null && no_deps=(--no-deps)
  LIIF_FAST_BUILD=cuda step build 900 \
    "$python" -m pip install -v --no-build-isolation "${no_deps[@]}" --editable .
}

sanitize() { # racecheck: CUDA C++ alone, Triton places its own barriers
  sanitizer 900 memcheck --render
  sanitizer 900 racecheck
}

all() {
  local name
  card
  build || return # nothing else means anything without the kernels
  step doctor 60 "$python" -m liif_fast doctor
  tests 1800 tests/gpu
  sanitize
  tune 900
  speed rows 3600 --suite --plot "$results"
  film 120
  for name in half:best half:other int8:best; do
    profile 120 "$name"
  done
  profile_gather 300
}

call=${1:-}
case $call in
  prepare) ;;
  call1 | call3) LIMIT=${LIMIT:-240} ;;
  call2) LIMIT=${LIMIT:-190} ;;
  all | sanitize) LIMIT=${LIMIT:-14400} ;;
  *)
    sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'
    exit 2
    ;;
esac
mkdir -p "$results"
if [ "$call" = prepare ]; then
  prepare
  exit
fi
if [ -d "$dev/data" ]; then
  LIIF_FAST_DATA=$(realpath "$dev/data") && export LIIF_FAST_DATA
fi
model=()
if [ -f "${LIIF_FAST_DATA:-}/weights/edsr-baseline-liif.pth" ]; then
  model=(--model "$LIIF_FAST_DATA/weights/edsr-baseline-liif.pth")
fi
if [ "$call" != all ]; then # there it is the user's own, for good
  LIIF_FAST_CACHE=$(realpath "$dev")/cache && export LIIF_FAST_CACHE
fi
end=$((SECONDS + LIMIT - 5)) # to kill and to pack
"$call"
pack
echo "== $call, $SECONDS s of $LIMIT, results in $results"
printf '%s\n' "${table[@]}"
exit $failed
