#!/usr/bin/env bash
# Run the fused kernel's tests, which need no card, under each of several versions of triton:
#
#     tools/check_triton_versions.sh 3.6.0 ""        # "": the newest
#
# Each is unpacked into a folder of its own under build/triton-versions (up to 1 GB) and put in front of the
# environment's, .venv or $VENV. triton 3.6's interpreter wants numpy below 2.4: it is unpacked there too.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${VENV:-.venv}/bin/python

failed=0
for version in "${@:-}"; do
  folder=build/triton-versions/${version:-newest}
  if [ ! -d "$folder/triton" ]; then
    "$python" -m pip install -q --no-deps --target "$folder" "triton${version:+==$version}" "numpy<2.4"
  fi
  if result=$(PYTHONPATH="$folder" "$python" -m pytest -q tests/head/test_triton*.py tests/models/test_renderer.py 2>&1 | tail -1); then
    echo "triton ${version:-newest}: $result"
  else
    echo "triton ${version:-newest}: FAILED: $result"
    failed=1
  fi
done
exit $failed
