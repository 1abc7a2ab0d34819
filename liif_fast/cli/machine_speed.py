"""How fast this machine is, measured, and the one thing that would make it faster: the first line of ``doctor``."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch

from ..base.cores import cores
from ..head import library, ops, triton
from ..head.triton import choices
from ..models.liif import LIIF
from ..upscaling import estimate
from . import common, reporting
from .errors import UsageError

_PHOTO = 12_000_000  # pixels
_SPEC = {"name": "edsr-baseline", "args": {"no_upsampling": True}}
_IMNET = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256] * 4}}


def measured() -> dict[str, Any]:
    """Within about a second, what ``upscale`` would take on its default device in its default precision: ``queries`` a
    second, ``seconds`` for 12 megapixels at x2 (both None where it cannot compute, with ``error``), and ``faster``."""
    try:
        device = common.device("auto")
        model = LIIF(_SPEC, _IMNET).to(device).eval()  # weights do not change the speed
        dtype = common.dtype("auto", device, model)
        speed = estimate.speed(model, dtype)
    except (RuntimeError, UsageError) as error:
        why = " ".join(str(error).split())[:200]
        return {"device": None, "dtype": None, "queries": None, "seconds": None, "error": why, "faster": None}
    return {
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "queries": 1 / speed.query if speed.query > 0 else None,
        "seconds": speed.seconds(_PHOTO, 4 * _PHOTO),
        "error": None,
        "faster": faster(device, dtype),
    }


def text(found: dict[str, Any]) -> str:
    """One line for people."""
    if found["error"]:
        return f"speed: nothing can be computed here: {found['error']}"
    rate = f"{found['queries'] / 1e6:.3g} million queries a second" if found["queries"] else "too fast to be measured"
    what = f"LIIF on EDSR-baseline, {found['dtype']} on {found['device']}"
    return (
        f"speed: {rate} ({what}), about {reporting.duration(max(1.0, found['seconds']))} for 12 megapixels x2; "
        f"faster: {found['faster']}"
    )


def faster(device: torch.device, dtype: torch.dtype) -> str:
    """The first that applies of what would help most."""
    if device.type == "cuda":
        return _on_cuda(device)
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        card = "there seems to be an NVIDIA card"
        if torch.version.cuda is None:
            return f"{card}, and torch is a CPU build: install its CUDA build"
        return f"{card}, and torch finds none: nvidia-smi says whether its driver works"
    if device.type != "cpu":
        return "nothing that a command could change"
    if library.status != "loaded":
        return f"compiled kernels (the library is {library.status.split(':')[0]}): {library.cure()}"
    threads, allowed = torch.get_num_threads(), cores()
    if threads < allowed // 2:  # with two threads a core, torch takes one of them
        given = os.environ.get("OMP_NUM_THREADS")
        cure = f"OMP_NUM_THREADS={given} is set, unset it" if given else f"OMP_NUM_THREADS={allowed} liif-fast ..."
        return f"torch uses {threads} of {allowed} cores: {cure}"
    if dtype == torch.float32 and ops.cpu_kernels().get("int8", "").endswith("vnni"):
        return "liif-fast upscale --dtype int8, at most 0.008 dB less on Set5 and Set14"
    return "nothing that a command could change; a CUDA card would be"


def _on_cuda(device: torch.device) -> str:
    ok, why = triton.available(device)
    if not ok:
        return f"the fused kernel, which cannot run ({why})"
    if choices.card(device) not in choices.load():
        return "liif-fast tune, which measures the fused kernel's configurations on this card"
    return "nothing that a command could change"
