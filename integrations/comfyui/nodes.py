"""The two nodes, of ComfyUI's V3 schema: new features come to that alone, and its own upscale nodes are of it.

An IMAGE is ``[B, H, W, C]``, float32 in [0, 1]; a LIIF_MODEL is a ``liif_fast.LIIF``.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import comfy.model_management as model_management
import folder_paths
import torch
from comfy.utils import ProgressBar
from comfy_api.latest import ComfyExtension, io
from torch import Tensor

import liif_fast
from liif_fast.sizes import MAX_OUTPUT_PIXELS, output_size
from liif_fast.weights import pretrained

FOLDERS = ("liif", "upscale_models")  # of ComfyUI's models
MAX_SIDE = 16384  # ComfyUI's own MAX_RESOLUTION
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "int8")}
WORKING = 2 << 30  # bytes to free on the device: tiles of a half of what is free, of more than 512 x 512 pixels
Liif = io.Custom("LIIF_MODEL")
log = logging.getLogger(__name__)
folder_paths.add_model_folder_path("liif", os.path.join(folder_paths.models_dir, "liif"))
# which takes files of all kinds, unless it is told
folder_paths.folder_names_and_paths["liif"] = (
    folder_paths.get_folder_paths("liif"),
    folder_paths.supported_pt_extensions,
)


class LoadLiif(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LiifFast_Load",
            display_name="Load LIIF model",
            category="loaders",
            description="Weights of a LIIF or an LTE: a file of models/liif or models/upscale_models, or a name that "
            "liif_fast knows (liif-fast models says where those come from).",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=choices(),
                    tooltip="A name without a folder is in the package, or fetched once.",
                )
            ],
            outputs=[Liif.Output(display_name="model")],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str) -> Any:
        """Another file under the same name is loaded anew."""
        if "/" not in model_name:
            return model_name
        found = os.stat(_path(model_name))
        return model_name, found.st_mtime_ns, found.st_size

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        if model_name not in choices():
            raise ValueError(
                f"model_name: {model_name!r} is no file of models/{' or models/'.join(FOLDERS)}, nor a name that "
                "liif_fast knows: put the file there, or choose another"
            )
        model = liif_fast.load(_path(model_name) if "/" in model_name else model_name)
        if not isinstance(model, liif_fast.LIIF):
            raise ValueError(
                f"model_name: a LIIF is wanted, {model_name} is a {type(model).__name__}: choose another file"
            )
        return io.NodeOutput(model)


class UpscaleLiif(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": 0, "min": 0, "max": MAX_SIDE}
        # without rounding: real numbers
        start = {"default": 0.0, "min": -float(MAX_SIDE), "max": float(MAX_SIDE), "step": 0.5, "round": False}
        extent = {**start, "min": 0.0}
        return io.Schema(
            node_id="LiifFast_Upscale",
            display_name="Upscale to any size (LIIF)",
            category="image/upscaling",
            description="Enlarges (or reduces) images, or a window of them, to any size. An alpha channel is enlarged "
            "as coverage, and the colours under transparent pixels do not count.",
            inputs=[
                io.Image.Input("image"),
                Liif.Input("model"),
                io.Int.Input("width", tooltip="Of the result in pixels; 0: by the height and the aspect.", **side),
                io.Int.Input("height", tooltip="Of the result in pixels; 0: by the width and the aspect.", **side),
                io.Float.Input(
                    "scale",
                    default=2.0,
                    min=0.01,
                    max=64.0,
                    step=0.1,
                    round=False,
                    tooltip="Factor for both sides, where width and height are 0; else it is not used.",
                ),
                io.Float.Input(
                    "window_left",
                    tooltip="The part of the image that is enlarged, in its pixels, also fractions of them, and beyond "
                    "its border, whose colours go on there. All four 0: the whole image.",
                    **start,
                ),
                io.Float.Input("window_top", **start),
                io.Float.Input("window_width", tooltip="0: up to the image's right border.", **extent),
                io.Float.Input("window_height", tooltip="0: up to the image's lower border.", **extent),
                io.Combo.Input(
                    "dtype",
                    options=["auto", *DTYPES],
                    default="auto",
                    tooltip="Of the computation. auto: half precision on a CUDA device, as ComfyUI chooses it for "
                    "others, else that of the weights, float32.",
                ),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=MAX_SIDE,
                    tooltip="Side of the tiles in pixels of the image; 0: as large as memory allows. The result is the "
                    "same for any.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        model: liif_fast.LIIF,
        width: int,
        height: int,
        scale: float,
        window_left: float,
        window_top: float,
        window_width: float,
        window_height: float,
        dtype: str,
        tile: int,
    ) -> io.NodeOutput:
        image = _checked(image)
        whole = image.shape[1:3]
        window = _window(whole, (window_top, window_left), (window_height, window_width))
        size = _size(whole if window is None else window[2:], width, height, scale)
        device = model_management.get_torch_device()
        progress = _Progress(len(image) if image.shape[-1] == 4 else 1)
        options = {
            "size": size,
            "window": window,
            "dtype": _dtype(dtype, device, model),
            "tile": tile or "auto",
            "progress": progress,
        }
        model_management.free_memory(model_management.module_size(model) + WORKING, device)
        try:
            model.to(device)
            return io.NodeOutput(_enlarged(model, image, options))
        finally:
            model.to("cpu")  # where ComfyUI's upscale node leaves its models, too


class _Progress:
    """Shares of ``LIIF.upscale``, of so many calls of it, in ComfyUI's bar; ends the work where ComfyUI is told to."""

    STEPS = 1000

    def __init__(self, calls: int) -> None:
        self.bar, self.calls, self.done = ProgressBar(self.STEPS), calls, 0.0

    def __call__(self, share: float) -> None:
        model_management.throw_exception_if_processing_interrupted()
        self.done += share / self.calls
        self.bar.update_absolute(min(self.STEPS, round(self.done * self.STEPS)))


def choices() -> list[str]:
    """Files as FOLDER/NAME, then the LIIFs among liif_fast's own names."""
    files = [f"{folder}/{name}" for folder in FOLDERS for name in folder_paths.get_filename_list(folder)]
    return files + [name for name in pretrained.names() if "liif" in name]


def _path(model_name: str) -> str:
    return folder_paths.get_full_path_or_raise(*model_name.split("/", 1))


def _checked(image: Tensor) -> Tensor:
    """[B, H, W, 1, 3 or 4], float32 in [0, 1], where results are wanted."""
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"image: [B, H, W, 1, 3 or 4] is wanted, got {list(image.shape)}")
    image = image.to(model_management.intermediate_device(), torch.float32)
    if not image.numel():
        return image
    low, high = (bound.item() for bound in image.aminmax())
    if not (low > float("-inf") and high < float("inf")):  # nor NaN
        raise ValueError(f"image: finite colours are wanted, got {low:.4g} to {high:.4g}: see what made the image")
    if low < 0 or high > 1:
        log.warning("image: colours from %.4g to %.4g are clamped to 0 to 1, as where ComfyUI saves them", low, high)
        image = image.clamp(0, 1)
    return image


def _window(whole: Any, start: tuple[float, float], extent: tuple[float, float]) -> tuple[float, ...] | None:
    """(top, left, height, width); None: the whole image."""
    if not any((*start, *extent)):
        return None
    sides = []
    for name, length, first, wanted in zip(("height", "width"), whole, start, extent, strict=True):
        if not wanted and first >= length:
            raise ValueError(f"window_{name}: 0 is up to the border, but the window begins at {first:g} of {length}")
        sides.append(wanted or length - first)
    return *start, *sides


def _size(part: Any, width: int, height: int, scale: float) -> tuple[int, int]:
    """(height, width) of the result of a part of the image."""
    if width < 0 or height < 0:
        raise ValueError(f"width, height: 0 or more pixels are wanted, got {width} and {height}")
    if not width and not height:
        size = output_size(part, scale, None)
    else:
        size = (
            height or max(1, round(width * part[0] / part[1])),
            width or max(1, round(height * part[1] / part[0])),
        )
    if size[0] * size[1] > MAX_OUTPUT_PIXELS:
        raise ValueError(
            f"width, height, scale: at most {MAX_OUTPUT_PIXELS} pixels are made, {size[1]} x {size[0]} are wanted: "
            "choose a smaller size, or a window"
        )
    return size


def _dtype(name: str, device: torch.device, model: liif_fast.LIIF) -> torch.dtype | None:
    """None: that of the weights."""
    if name == "auto":
        if device.type != "cuda":
            return None
        if model_management.should_use_bf16(device):
            return torch.bfloat16
        return torch.float16 if model_management.should_use_fp16(device) else None
    if name not in DTYPES:
        raise ValueError(f"dtype: one of auto, {', '.join(DTYPES)} is wanted, got {name!r}")
    if name == "int8" and (why := model.why_not_int8()):
        raise ValueError(f"dtype: int8: {why}")
    return DTYPES[name]


def _enlarged(model: liif_fast.LIIF, image: Tensor, options: dict[str, Any]) -> Tensor:
    """On the image's device; the tiles are on the model's."""
    if image.shape[-1] != 4:
        return model.upscale(image.movedim(-1, 1), **options).movedim(1, -1)
    large = image.new_empty(len(image), *options["size"], 4)
    for one, out in zip(image, large, strict=True):  # arrays have alpha
        out.copy_(torch.from_numpy(model.upscale(one.cpu().numpy(), **options)))
    return large


class LiifExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadLiif, UpscaleLiif]


async def comfy_entrypoint() -> LiifExtension:
    return LiifExtension()
