#!/usr/bin/env bash
# Run the tests of LIIF in spandrel with the real spandrel:
#
#     tools/check_spandrel.sh                       # the environment .venv, or VENV
#     PYTHON=python3.12 tools/check_spandrel.sh     # any Python that has liif_fast's dependencies and pytest
#
# spandrel asks for torchvision, whose wheels on PyPI fail to load beside a CPU build of torch, and a torchvision that
# does not load breaks torchmetrics too. So spandrel goes without it into a folder, build/spandrel, that these tests
# alone see; they say what they put in torchvision's place. Where torchvision loads, it is used. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-${VENV:-.venv}/bin/python}
folder=$PWD/build/spandrel

"$python" -m pip install -q --no-deps --upgrade --target "$folder" "spandrel>=0.4.2,<0.5" einops
export PYTHONPATH=$PWD:$folder
"$python" -c 'import importlib.metadata as m; print("spandrel", m.version("spandrel"), "torch", m.version("torch"))'
"$python" -m pytest -q -p no:cacheprovider "$@" tests/integrations/test_spandrel.py
