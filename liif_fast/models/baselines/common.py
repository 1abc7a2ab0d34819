"""What the baselines share with LIIF: the interface of training, evaluation and files around a network of images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...head.kept import Kept
from ...sizes import Target
from ...weights.state_dicts import default_norm
from .. import overrides
from ..image_interface import ImageInterface

_STRIP = 1 << 20  # output pixels computed at a time, which bounds the memory


class ImageModel(ImageInterface):
    """A network that makes an image of a given size, used through the same methods as ``LIIF``.

    A subclass defines ``name`` (its registered name), ``render(inp, size)`` and passes its arguments to ``__init__``.
    ``render`` is what makes every picture: one with another of the methods of ``bypassed`` needs a ``render`` to match.

    Attributes:
        data_norm: as of ``LIIF``.
        scale: the only one that the network is made for; None: any.
    """

    name: str
    scale: int | None = None
    bypassed: tuple[str, ...] = ("gen_feat", "query_rgb", "forward")  # what render, and so upscale, does not go through

    def __init__(self, **args: Any) -> None:
        super().__init__()
        self._args = args
        self.data_norm = default_norm()
        self._inp: Tensor | None = None
        self._rendered = Kept()

    def render(self, inp: Tensor, size: Sequence[int]) -> Tensor:
        """``[B, 3, h, w]`` normalised -> ``[B, 3, *size]`` normalised, with gradients when they are enabled."""
        raise NotImplementedError

    if TYPE_CHECKING:  # nn.Module's returns Any

        def __call__(self, inp: Tensor, coord: Tensor, cell: Tensor) -> Tensor: ...

    # --- the interface of training and validation ---

    def gen_feat(self, inp: Tensor) -> Tensor:
        """Keep the images for ``query_rgb``."""
        self._inp, self._rendered = inp, Kept()
        return inp

    def query_rgb(self, coord: Tensor, cell: Tensor) -> Tensor:
        """Colours of the last ``gen_feat``'s images: ``[B, Q, 2], [B, Q, 2] -> [B, Q, 3]``.

        The image is made at the size that ``cell`` (2 / size, the same for all) tells, and read at the pixels nearest
        to ``coord``.
        """
        inp = self._inp
        if inp is None:
            raise RuntimeError("query_rgb: there are no images yet; call gen_feat(inp) first")
        size = _size_of(cell)
        if torch.is_grad_enabled():
            return at(self.render(inp, size), coord)
        device = inp.device.type
        settings = size, self.training, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        given = [inp, *self.parameters(), *self.buffers()]
        return at(self._rendered.get(given, settings, lambda: self.render(inp, size)), coord)

    def forward(self, inp: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """``gen_feat(inp)``, then ``query_rgb(coord, cell)``; samples of different sizes go one by one."""
        if len(inp) == 1 and self._own("gen_feat", "query_rgb"):
            self.gen_feat(inp)
            return self.query_rgb(coord, cell)
        sizes = {_size(c) for c in cell[:, 0].tolist()}  # of all samples at once: each look at a device waits for it
        if len(sizes) == 1 and not self._own("gen_feat", "query_rgb"):
            return at(self.render(inp, sizes.pop()), coord)
        return torch.cat([self(*(t[i : i + 1] for t in (inp, coord, cell))) for i in range(len(inp))])

    # --- images and files ---

    def _upscale_tensor(self, pixels: Tensor, target: Target, tile: Any, dtype: Any, progress: Any) -> Tensor:
        if dtype not in (None, torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype: {self.name} runs in float32, bfloat16 or float16, got {dtype}")
        for given, name in ((target.window is not None, "window"), (target.point, "point")):
            if given:
                raise ValueError(f"{name}: {self.name} makes whole images, only a LIIF takes it; leave it out")
        if (own := self._own(*self.bypassed)) and not self._own("render"):
            raise ValueError(f"{overrides.described(self, own)}, which upscale does not use: give it a render to match")
        out = self._enlarge(pixels, target.result_size(pixels.shape[-2:]), tile, dtype)
        if progress is not None:
            progress(1.0)
        return out

    @property
    def spec(self) -> dict[str, Any]:
        """``{'name': ..., 'args': {...}}``, from which ``liif_fast.make`` builds the same model."""
        return {"name": self.name, "args": dict(self._args)}

    # --- inside ---

    def _own(self, *names: str) -> list[str]:
        """Which of these methods a subclass of liif_fast's class, or this instance, has replaced."""
        base = next(kind for kind in type(self).__mro__ if kind.__module__.startswith(f"{__package__}."))
        return overrides.own(self, base, names)

    @torch.no_grad()
    def _enlarge(self, pixels: Tensor, size: tuple[int, int], tile: int | str, dtype: torch.dtype | None) -> Tensor:
        """[B, 3 or 1, H, W] -> [B, 3 or 1, *size] of the same dtype."""
        peak = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(pixels.dtype, 1.0)
        norms = (_norm(self.data_norm["inp"], self.device), _norm(self.data_norm["gt"], self.device))
        (inp_sub, inp_div), (gt_sub, gt_div) = norms
        inp = (pixels.to(self.device).float() / peak).expand(-1, 3, -1, -1)
        own = {p.dtype for p in self.parameters()} or {torch.float32}
        if dtype is None and len(own) == 1:  # as LIIF: half precision where the weights have it
            dtype = next(iter(own))
        half = dtype in (torch.bfloat16, torch.float16)
        # autocast, and images, go with weights in float32
        model = self if own == {torch.float32} else copy.deepcopy(self).float()
        with torch.autocast(inp.device.type, dtype=dtype if half else torch.bfloat16, enabled=half):
            normal = (inp - inp_sub) / inp_div
            whole = tile == 0 or size[0] * size[1] <= _STRIP
            out = model.render(normal, size) if whole else model._in_strips(normal, size)
        out = out.float() * gt_div + gt_sub
        if not out.isfinite().all():
            raise ValueError(f"{self.name}: the result is not finite: the weights are damaged, or dtype overflows")
        out = out.clamp(0, 1)
        out = out if pixels.shape[1] == 3 else out.mean(1, keepdim=True)
        out = (out * peak).round() if peak != 1 else out
        return out.to(pixels.dtype).to(pixels.device)

    def _in_strips(self, inp: Tensor, size: tuple[int, int]) -> Tensor:
        return self.render(inp, size)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_inp": None, "_rendered": Kept()}


def at(image: Tensor, coord: Tensor) -> Tensor:
    """The colours of the pixels nearest to the coordinates: ``[B, C, H, W], [B, Q, 2] -> [B, Q, C]``.

    Equivalent to (away from the edges between pixels): ``F.grid_sample(image, coord.flip(-1)[:, None], mode='nearest',
    align_corners=False)[:, :, 0].transpose(1, 2)``.
    """
    n = torch.tensor(image.shape[-2:], device=coord.device)
    index = ((coord.float() + 1) * n / 2).floor().long().clamp(min=torch.zeros_like(n), max=n - 1)
    flat = index[..., 0] * image.shape[-1] + index[..., 1]
    return image.flatten(2).gather(2, flat.unsqueeze(1).expand(-1, image.shape[1], -1)).transpose(1, 2)


def enlarged(image: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic as Pillow and MATLAB have it (a = -0.5, antialiased when reducing), on values that are not rounded.

    PyTorch's own bicubic has a = -0.75 unless it is asked to be antialiased, which changes nothing else for enlarging.
    """
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image.float(), tuple(size), mode="bicubic", align_corners=False, antialias=True)


def _size_of(cell: Tensor) -> tuple[int, int]:
    """(height, width) of the image whose pixels have this size, ``[B, Q, 2]`` all the same."""
    return _size(cell[0, 0].tolist())


def _size(cell: Sequence[float]) -> tuple[int, int]:
    height, width = (round(2 / c) for c in cell)
    return height, width


def _norm(part: dict[str, list[float]], device: torch.device | None) -> tuple[Tensor, Tensor]:
    sub, div = (torch.tensor(part[key], dtype=torch.float32, device=device).view(1, -1, 1, 1) for key in ("sub", "div"))
    return sub, div
