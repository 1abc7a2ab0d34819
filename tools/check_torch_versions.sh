#!/usr/bin/env bash
# Build the library once against the oldest torch that is supported, then run, with that very file, the tests of the
# operators and of what uses parts of torch that it does not promise to keep, under each of several torch versions:
#
#     tools/check_torch_versions.sh 2.11.0 2.13.0 ""        # "": the newest
#
# Each torch is installed into an environment of its own under build/torch-versions (several GB where pip takes a CUDA
# build). Prints one line for each version and ends with an error if any test fails.
set -euo pipefail
cd "$(dirname "$0")/.."
work=build/torch-versions
versions=("${@:-2.11.0}")
mkdir -p "$work"

environment() { # version -> folder of a virtual environment with it
  local folder="$work/venv-${1:-newest}"
  if [ ! -x "$folder/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q "torch${1:+==$1}" "setuptools>=77" wheel numpy pillow tqdm safetensors pyyaml \
      pytest torchmetrics hypothesis >&2
  fi
  echo "$folder"
}

oldest=$(environment "${versions[0]}")
rm -rf "$work/wheel"
LIIF_FAST_BUILD=cpu "$oldest/bin/python" -m pip wheel -q --no-build-isolation --no-deps --wheel-dir "$work/wheel" .
ls "$work/wheel"

failed=0
for version in "${versions[@]}"; do
  folder=$(environment "$version")
  "$folder/bin/python" -m pip install -q --no-deps --force-reinstall "$work"/wheel/*.whl
  torch=$("$folder/bin/python" -c 'import torch; print(torch.__version__)')
  # from another folder, so that the installed package and not the source tree is imported
  if result=$(cd "$work" && "../../$folder/bin/python" -m pytest -q -p no:cacheprovider -c ../../pyproject.toml \
    ../../tests/*/test_{ops,decode,cpu_kernels,cpu_arguments,quantized,transforms,folding,kept,renderer,torch_files}.py 2>&1 | tail -1); then
    echo "torch $torch: $result"
  else
    echo "torch $torch: FAILED: $result"
    failed=1
  fi
done
exit $failed
