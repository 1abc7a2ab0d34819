#!/usr/bin/env bash
# Run the nodes of integrations/comfyui in a real ComfyUI, without a screen, on the CPU:
#
#     tools/check_comfyui.sh ~/ComfyUI                                  # a checkout, with its Python in .venv or venv
#     COMFYUI_PYTHON=python3.12 tools/check_comfyui.sh ~/ComfyUI        # any Python with ComfyUI's requirements
#
# liif_fast needs no more packages than ComfyUI does. Last run with ComfyUI 0.3.64.
set -euo pipefail
comfyui=$(cd "${1:?a checkout of ComfyUI is wanted: tools/check_comfyui.sh PATH}" && pwd)
cd "$(dirname "$0")/.."
for python in "${COMFYUI_PYTHON:-}" "$comfyui"/{.venv,venv}/bin/python python3; do
  if [ -n "$python" ] && command -v "$python" > /dev/null; then
    break
  fi
done
PYTHONPATH=$PWD:$PWD/tests/helpers "$python" tools/check_comfyui.py "$comfyui"
