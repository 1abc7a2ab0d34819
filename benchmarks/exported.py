"""What a user without liif_fast would run: the files of ``liif-fast export``, by the programs that are installed."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import Contender
from torch import Tensor

from liif_fast import export


def contenders(
    model, images: list[Tensor], high: tuple[int, int], work: dict[str, float], compiled: bool
) -> list[Contender]:
    """``upscale``'s, on a CPU; each makes its file and loads it in its first run.

    Args:
        work: of float32.
        compiled: AOTInductor's package too, which takes half a minute to make.
    """
    found = []
    for name, package, run in (("ONNX Runtime", "onnxruntime", _onnxruntime), ("OpenVINO", "openvino", _openvino)):
        if importlib.util.find_spec(package) and importlib.util.find_spec("onnxscript"):
            found.append(_contender(name, run, model, images, high, work))
    if compiled:
        found.append(_contender("AOTInductor", _inductor, model, images, high, work))
    return found


def _contender(name: str, opened: Callable, model, images: list[Tensor], high: tuple[int, int], work) -> Contender:
    ready: list[Callable[[Tensor], Tensor]] = []

    def run(i: int) -> Tensor:
        if not ready:
            with tempfile.TemporaryDirectory() as folder:
                ready.append(opened(model, Path(folder), high))
        return ready[0](images[i])

    # sums in other orders, through 34 layers; its first run makes the file
    return Contender(f"{name}, exported", "float32", run, 1e-4, work, compiles=True)


def _onnxruntime(model, folder: Path, high: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    export.to_onnx(model, folder / "liif.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / "liif.onnx"), options, providers=["CPUExecutionProvider"])
    size = np.array(high)
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy(), "size": size})[0])


def _openvino(model, folder: Path, high: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    import openvino

    export.to_onnx(model, folder / "liif.onnx")
    how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(str(folder / "liif.onnx"), "CPU", how)
    size = np.array(high)
    return lambda image: torch.from_numpy(compiled([image.numpy(), size])[0].copy())


def _inductor(model, folder: Path, high: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    export.to_pt2(model, folder / "liif.pt2")
    run, size = torch._inductor.aoti_load_package(str(folder / "liif.pt2")), torch.tensor(high)
    return lambda image: run(image, size)
