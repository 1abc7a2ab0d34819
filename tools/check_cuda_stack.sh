#!/usr/bin/env bash
# One whole CUDA stack on a machine that needs no GPU: an environment with a CUDA build of torch, the CUDA kernels
# compiled for every architecture, the library linked, loaded and asked what it has.
#
#     tools/check_cuda_stack.sh                      # Python 3.12, torch 2.11.0 (CUDA 13; 4.8 GB), nvcc on the PATH
#     PYTHON=python3.13 TORCH="torch==2.12.0 --index-url https://download.pytorch.org/whl/cu130" tools/check_cuda_stack.sh
#
# TORCH_CUDA_ARCH_LIST shortens the build. Everything lies under build/cuda-stack.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/build/cuda-stack
python=$work/venv/bin/python
mkdir -p "$work"

if [ ! -x "$python" ]; then
  "${PYTHON:-python3.12}" -m venv "$work/venv"
fi
# shellcheck disable=SC2086 # TORCH may hold options
"$python" -m pip install -q ${TORCH:-torch==2.11.0} "setuptools>=77" wheel
"$python" -m pip install -q numpy "pillow>=11.3" tqdm safetensors pyyaml
cuda=$("$python" -c 'import torch; print(torch.version.cuda or "")')
if [ -z "$cuda" ]; then
  echo "check_cuda_stack: this is a CPU build of torch; give another with TORCH=" >&2
  exit 1
fi

if ! nvcc=$(command -v "${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" || command -v /usr/local/cuda/bin/nvcc); then
  echo "check_cuda_stack: no nvcc: install CUDA $cuda's and put it on the PATH, or set CUDA_HOME" >&2
  exit 1
fi
"$nvcc" --version | tail -2

rm -rf "$work/wheel"
LIIF_FAST_BUILD=cuda "$python" -m pip wheel -q --no-build-isolation --no-deps --wheel-dir "$work/wheel" .
"$python" -m pip install -q --no-deps --force-reinstall "$work"/wheel/*.whl

cd "$work" # so that the installed package and not the source tree is imported
"$python" -W error::UserWarning - <<'PY'
import torch

import liif_fast
from liif_fast.head import library

assert library.status == "loaded", library.status
for name in ("corner_gather", "corner_gather_backward"):
    for key in ("CPU", "CUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"liif_fast::{name}", key), (name, key)
print(f"liif_fast {liif_fast.__version__}: loaded under torch {torch.__version__}, kernels for CPU and CUDA")
PY
"$python" -m liif_fast doctor

library=$("$python" -c 'import liif_fast, pathlib; print(pathlib.Path(liif_fast.__file__).with_name("_C.abi3.so"))')
if command -v cuobjdump >/dev/null; then
  cuobjdump --list-elf --list-ptx "$library" | sed 's/^/  /'
fi
ls -l "$library"
# the same file must load where torch has no CUDA: nothing of CUDA's own libraries may be needed to load it
if readelf -d "$library" | grep -E 'NEEDED.*(c10_cuda|torch_cuda|cudart)'; then
  echo "check_cuda_stack: the library cannot load under a CPU build of torch: it needs the above" >&2
  exit 1
fi
"$python" -m pytest --version >/dev/null 2>&1 || "$python" -m pip install -q pytest hypothesis
"$python" -m pytest -q -p no:cacheprovider -c "$root/pyproject.toml" "$root"/tests/*/test_{ops,decode,chain,cpu_kernels,cpu_arguments}.py
