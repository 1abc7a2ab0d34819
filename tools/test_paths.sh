#!/usr/bin/env bash
# The tests whose results depend on the CPU, once with each instruction set that this processor has (LIIF_FAST_CPU), and
# in plain PyTorch with bfloat16 multiplied in either precision (LIIF_FAST_MATMUL). Usage: tools/test_paths.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
tests=()
for name in ops decode chain liif tiles unit_order quantized cpu_kernels golden on_device encoders baselines build not_finite transforms folding kept; do
  tests+=("tests/test_$name.py")
done

run() {
  echo "== $*"
  env "$@" "$python" -m pytest -q ${WORKERS:-} "${tests[@]}"
}

paths=$("$python" -c "from liif_fast import ops; print(ops.cpu_kernels()['available'].replace(',', ' '))")
for path in $paths; do
  run LIIF_FAST_CPU="$path"
done
for products in bfloat16 float32; do
  run LIIF_FAST_MATMUL="$products"
  run LIIF_FAST_MATMUL="$products" LIIF_FAST_EXTENSION=0
done
