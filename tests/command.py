"""The command in this process, with a small model in memory."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image

from liif_fast.cli import common
from liif_fast.cli import main as cli


def photo(path: str | os.PathLike, seed: int = 0, size: tuple[int, int] = (14, 10)):
    """Write an image of noise; returns its path."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def runner(monkeypatch, model: torch.nn.Module, command: str = "upscale"):
    """run(*arguments) -> exit code of ``liif-fast COMMAND`` with this model."""
    monkeypatch.setattr(common, "load", lambda *_: (model, torch.float32))

    def run(*arguments: object) -> int:
        try:
            return cli.main([command, *(os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments)])
        except SystemExit as stop:
            return stop.code

    return run
