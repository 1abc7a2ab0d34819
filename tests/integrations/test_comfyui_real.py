"""The nodes in the real ComfyUI: COMFYUI=its folder, COMFYUI_PYTHON=its Python if that is not in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.skipif("COMFYUI" not in os.environ, reason="COMFYUI is not set to a checkout of ComfyUI")
def test_workflows_run_in_comfyui():
    command = [ROOT / "tools" / "check_comfyui.sh", os.environ["COMFYUI"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "interrupted at " in done.stdout
    assert "signatures are ComfyUI's" in done.stdout
