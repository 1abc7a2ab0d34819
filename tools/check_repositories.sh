#!/usr/bin/env bash
# The official repository's and LTE's own programs, as they are and with liif_fast in the place of their models, as
# docs/repositories.md says: train, test and demo on a few pixels, on a CPU. Losses, figures and pictures must agree.
#
#     tools/check_repositories.sh PATH/liif PATH/lte     # clones of yinboc/liif and of jaewon-lee-b/lte
#
# PYTHON: an interpreter with liif_fast; what the programs import is fetched into build/repositories/packages.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
packages=build/repositories/packages
# of the release that goes with torch 2.13; another torch wants another: TORCHVISION="torchvision==..."
test -d "$packages" || "$python" -m pip install -q --no-deps --target "$packages" "${TORCHVISION:-torchvision==0.28.*}" \
  timm tensorboardX imageio protobuf
PYTHONPATH="$PWD/$packages:$PWD" "$python" tools/check_repositories.py "$@"
