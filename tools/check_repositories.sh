#!/usr/bin/env bash
# The official repository's and LTE's own programs, as they are and with liif_fast (docs/repositories.md), on a CPU:
#
#     tools/check_repositories.sh PATH/liif PATH/lte       # clones of github.com/yinboc/liif and jaewon-lee-b/lte
#
# LIIF_FAST_DATA: a folder with weights/edsr-baseline-liif.pth (official). The environment .venv, or VENV; or PYTHON, any
# that has liif_fast's dependencies. What theirs want besides (tensorboardX, imageio, timm, and the torchvision of this
# torch) goes into build/repositories/packages, which they alone see. The clones are copied, not touched. Some minutes.
set -euo pipefail
liif=$(cd "$1" && pwd) lte=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-${VENV:-.venv}/bin/python}
folder=$PWD/build/repositories

minor=$("$python" -c 'import torch; print(int(torch.__version__.split(".")[1]) + 15)') # torch 2.13: torchvision 0.28
"$python" -m pip install -q --no-deps --upgrade --target "$folder/packages" \
    tensorboardX imageio timm "torchvision==0.$minor.*"
PYTHONPATH=$PWD "$python" tools/check_repositories.py "$liif" "$lte" "$folder"
