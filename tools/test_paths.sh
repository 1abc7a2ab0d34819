#!/usr/bin/env bash
# The tests whose results depend on the CPU, once with each instruction set that this processor has (LIIF_FAST_CPU) or
# that plain C++ stands in for, and in plain PyTorch with bfloat16 multiplied in either precision (LIIF_FAST_MATMUL).
# Usage: tools/test_paths.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
tests=()
names=(
  ops decode chain liif liif_official liif_half liif_compile liif_errors tiles unit_order quantized cpu_kernels
  cpu_arguments golden on_device encoders encoder_state_dicts mlp baselines adversarial build not_finite transforms
  folding kept
)
for name in "${names[@]}"; do
  tests+=(tests/*/test_"$name".py)
done

run() {
  echo "== $*"
  env "$@" "$python" -m pytest -q ${WORKERS:-} "${tests[@]}"
}

facts='from liif_fast.head.ops import cpu_kernels as k; print(k()["available"], k()["on_request"], sep=",")'
for path in $("$python" -c "$facts" | tr , " "); do
  run LIIF_FAST_CPU="$path"
done
for products in bfloat16 float32; do
  run LIIF_FAST_MATMUL="$products"
  run LIIF_FAST_MATMUL="$products" LIIF_FAST_EXTENSION=0
done
