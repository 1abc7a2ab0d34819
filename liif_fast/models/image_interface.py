"""What every model of images has: ``upscale`` of all kinds of pictures, ``save``, where it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..sizes import Target
from ..weights import checkpoints


class ImageInterface(nn.Module):
    """A module that enlarges pictures by its ``_upscale_tensor``."""

    def upscale(
        self,
        image: Any,
        scale: float | None = None,
        size: Sequence[int] | None = None,
        *,
        window: Sequence[float] | None = None,
        point: bool = False,
        tile: int | str = "auto",
        dtype: torch.dtype | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Any:
        """Enlarge an image (or reduce it: any scale above 0), in bounded memory; returns the same kind as it gets.

        Args:
            image: PIL image; NumPy array ``[H, W]`` or ``[H, W, 1 | 3 | 4]``, uint8, uint16 or float in [0, 1]; tensor
                ``[3, H, W]`` or ``[B, 3, H, W]``, uint8, uint16 or float in [0, 1] (colours are clamped to [0, 1]). The
                images of a batch are computed one after the other as far as memory wants it.
            scale: factor for both sides, or
            size: (height, width) of the result; PIL images are first turned upright, as their EXIF says.
            window: (top, left, height, width) of the part of the image that is enlarged, in its pixels: real numbers,
                also beyond the border, whose colours go on there. ``scale`` is then of this part. LIIF only.
            point: below scale 1 sample LIIF at points, which aliases, as the official code does. Else the image is
                reduced first, see ``liif_fast.models.reduction``.
            tile: side of the tiles in input pixels; 0: no tiles; "auto": as large as a memory budget allows. The
                result is the same for any, to float32 rounding (``liif_fast.tiles``), so a side that is not
                worth the border around it is raised (to 64 for the encoders of liif_fast, to 32 for those that see
                less). Other models than LIIF compute large images in strips of rows with "auto".
            dtype: of the computation: float32 (default), bfloat16 or float16; coordinates are float32 in all. int8, of
                LIIF only: ``quantize(image)`` first, whose encoder is bfloat16 on CPUs with matrix units for it (AMX).
            progress: called with the share of the output that is done, in parts that add up to 1.

        A tensor's may be compiled, as one graph (``torch.compile(model.upscale, fullgraph=True)``), and a module that
        calls it exported (``torch.export``); of LIIF only. A graph has the whole batch at once, whatever memory that
        takes, and all of an image for a window of it, so that it takes neither ``tile`` nor ``progress``; for int8
        compile a model that is quantized already. Sides of any length: from scale 1 on, without a window, or with a
        size that is larger than all of them; else a graph, or an export, is of its sides.

        Raises:
            TypeError, ValueError: naming the argument, what came and what is wanted.
            RuntimeError: by a graph, when it runs: colours outside of [0, 1], a result that is not finite (in half
                precision too, which is not computed again), 8-bit layers that are not calibrated. On CUDA it is a
                device-side assertion, after which the process cannot use the device.
        """
        from ..images import pictures  # brings Pillow, which takes longer to import than all the rest

        target = Target(scale, size, window, point)

        def enlarge(pixels: Tensor, alpha: Tensor | None = None) -> Tensor:
            return self._upscale_tensor(pixels, target._replace(alpha=alpha), tile, dtype, progress)

        return pictures.apply(image, enlarge, window)

    def _upscale_tensor(
        self,
        pixels: Tensor,
        target: Target,
        tile: int | str,
        dtype: torch.dtype | None,
        progress: Callable[[float], None] | None,
    ) -> Tensor:
        """[B, 3 or 1, H, W] -> [B, 3 or 1, OH, OW] of the same dtype."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, spec and ``data_norm`` as safetensors; ``liif_fast.load(path)`` gives the model back."""
        checkpoints.save(self, path)

    @property
    def device(self) -> torch.device | None:
        """Where the parameters are; None without any."""
        return next((p.device for p in self.parameters()), None)
