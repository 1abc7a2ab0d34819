"""The command in this process, with a small model in memory or in a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import liif_fast
from liif_fast.cli import common
from liif_fast.cli import main as cli

MLP = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}}


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


def small_model(folder: Path) -> Path:
    """A small untrained model in a file."""
    torch.manual_seed(0)
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}})
    path = folder / "small.safetensors"
    model.save(path)
    return path


def outcome(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``liif-fast ARGUMENTS``; a traceback fails."""
    try:
        code = cli.main(list(map(str, arguments)))
    except SystemExit as stop:  # argparse
        code = stop.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def caller(model_file: Path, capsys):
    """run(*arguments) -> (exit code, stdout, stderr) of ``liif-fast upscale``, with the model in this file."""

    def call(*arguments: object, command: str = "upscale") -> tuple[int, str, str]:
        model = [] if "-m" in arguments or command == "doctor" else ["-m", model_file]
        return outcome(capsys, command, *arguments, *model)

    return call


def small_lte(folder: Path, name: str = "lte", file: str = "lte.safetensors") -> Path:
    """A small untrained LTE, or LTE+ (``lte-fast``), in a file."""
    torch.manual_seed(0)
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    mlp = {"num_layer": 1} if name == "lte-fast" else {"imnet_spec": MLP}
    model = liif_fast.make({"name": name, "args": {"encoder_spec": encoder, "hidden_dim": 32, **mlp}})
    model.save(folder / file)
    return folder / file
