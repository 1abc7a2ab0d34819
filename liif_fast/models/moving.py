"""One frame after the other, each computed only where it differs from the one before: exact, since what a tile depends
on is known. The frames of screen recordings and cartoons differ in little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..head import sampling
from ..head.precision import HALF
from ..sizes import Target
from . import reduction, tile_size, tiles, unchanged, values, whole_images
from .renderer import Renderer

if TYPE_CHECKING:
    from .liif import LIIF


class Result(NamedTuple):
    """A frame's: ``[B, C, OH, OW]`` on the model's device. It is kept for the frames to come, and not to be written."""

    image: Tensor
    finite: Tensor | None  # whether it is, on a device whose answer has not been waited for; None: it is


class _Kind(NamedTuple):
    """What frames of one shape have in common."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    pixels: sampling.Sampling
    plan: list[tiles.Tile]
    renderer: Renderer | None  # of whole frames, recorded, on CUDA

    def fits(self, frame: Tensor) -> bool:
        return (self.shape, self.dtype, self.device) == (frame.shape, frame.dtype, frame.device)


class Moving:
    """Enlarges frames in their order, in one thread at a time.

    Attributes:
        frames, frames_reused, tiles, tiles_reused: how many there were, and how many of them needed no computation.
    """

    def __init__(
        self,
        model: LIIF,
        target: Target,
        tile: int | str,
        dtype: torch.dtype | None,
        reuse: bool,
        pixels: sampling.Sampling | None = None,
    ) -> None:
        """pixels: where they lie, in place of what ``target`` says of that."""
        self.frames = self.frames_reused = self.tiles = self.tiles_reused = 0
        self.device = model.device or torch.device("cpu")
        tile_size.chosen(model, tile, self.device)  # what is wrong is said now
        self._int8 = dtype == torch.int8
        if self._int8 and (why := model.why_not_int8()):
            raise ValueError(f"dtype: int8: {why}")
        self._dtype = whole_images.chosen_dtype(model, None if self._int8 else dtype, self.device)
        self._given, self.target, self._tile, self._reuse = model, target, tile, reuse
        self._sampled = pixels
        self._model = model
        self._kind: _Kind | None = None
        self._last: tuple[Tensor, Result] | None = None
        self._begun = True

    def another(self) -> Moving:
        """Of the same kind, for other frames."""
        dtype = torch.int8 if self._int8 else self._dtype
        return Moving(self._given, self.target, self._tile, dtype, self._reuse, self._sampled)

    def forget(self) -> None:
        """Drop what is kept for the frames to come."""
        self._kind = self._last = None

    @torch.no_grad()
    def begin(self, ahead: Sequence[Tensor]) -> None:
        """All of the next frame is computed; if that and those after it are known, they help to choose the tiles."""
        self._last, self._begun = None, True
        if len(ahead) < 2 or not self._reuse or self._tile != "auto" or tile_size.why_none(self._given) is not None:
            return
        pixels, frames = self._pixels(ahead[0]), [self._looked_at(x) for x in ahead]
        least = tile_size.smallest(self._given)
        sides = self._side(frames[0]), least, 3 * least // 2, 2 * least, 3 * least
        plans = [self._plan(frames[0], pixels, side) for side in sides]
        plan = plans[unchanged.cheapest(self._given, plans, frames)]
        if self._kind is None or not self._kind.fits(ahead[0]) or self._kind.plan != plan:
            self._kind = self._kind_of(ahead[0], plan)

    @torch.no_grad()
    def next(self, frame: Tensor, alpha: Tensor | None = None) -> Result:
        """The frame ``[B, 3 or 1, H, W]`` enlarged; it is kept as well. alpha: as of ``Target``."""
        if self._begun and self._int8:  # calibrated on the first, as ``upscale`` does with each image
            self._model, chosen = self._given.quantize(frame), self._kind
            self._dtype = whole_images.chosen_dtype(self._model, None, self.device)
            self._kind = self._kind_of(frame, chosen.plan) if chosen is not None and chosen.fits(frame) else None
        kind, self._begun = self._kind, False
        if kind is None or not kind.fits(frame):
            kind, self._last = self._kind_of(frame), None
            self._kind = kind
        image = self._looked_at(frame, alpha)
        todo, last = kind.plan, self._last
        if last is not None and self._reuse:
            todo = unchanged.touched(kind.plan, last[0], image)
        if last is not None and len(todo) < len(kind.plan) and not _finite(last[1]):
            todo = kind.plan
        self.frames += 1
        self.tiles += len(kind.plan)
        self.tiles_reused += len(kind.plan) - len(todo)
        if not todo and last is not None:
            self.frames_reused += 1
            result = last[1]
        elif len(todo) == len(kind.plan) and kind.renderer is not None:
            result = self._replayed(image, frame, kind.renderer)
        else:
            out = self._empty(frame, kind) if len(todo) == len(kind.plan) or last is None else last[1].image.clone()
            result = Result(self._computed(image, out, kind, todo), None)
        self._last = (image, result) if self._reuse else None
        return result

    @torch.no_grad()
    def again(self, frame: Tensor, alpha: Tensor | None = None) -> Tensor:
        """One whose result was not finite: in float32 where that is needed, with a warning."""
        kind = self._kind_of(frame)
        return self._computed(self._looked_at(frame, alpha), self._empty(frame, kind), kind, kind.plan)

    def _computed(self, image: Tensor, out: Tensor, kind: _Kind, todo: list[tiles.Tile]) -> Tensor:
        return tiles.upscale(
            self._model, image, out, tile=self._side(image), dtype=self._dtype, pixels=kind.pixels, only=todo
        )

    def _replayed(self, image: Tensor, frame: Tensor, renderer: Renderer) -> Result:
        inp = values.normalised(self._model, image.to(self.device, non_blocking=True))
        colours = values.denormalised(self._model, renderer(inp))
        low, high = colours.aminmax()
        out = values.finished(colours, frame.shape[1], frame.dtype).contiguous(memory_format=_layout(frame))
        return Result(out, low * 0 + high * 0 == 0)

    def _empty(self, frame: Tensor, kind: _Kind) -> Tensor:
        shape = (*frame.shape[:2], *(axis.count for axis in kind.pixels))
        return torch.empty(shape, dtype=frame.dtype, device=self.device, memory_format=_layout(frame))

    def _looked_at(self, frame: Tensor, alpha: Tensor | None = None) -> Tensor:
        """What the model is given."""
        return frame if self.target.point else reduction.reduced(frame, self._pixels(frame), alpha)

    def _pixels(self, frame: Tensor) -> sampling.Sampling:
        if self._sampled is not None:
            return self._sampled
        in_size = frame.shape[-2:]
        return whole_images.sampled(in_size, self.target.result_size(in_size), self.target.window)

    def _side(self, image: Tensor) -> int:
        return tile_size.chosen(self._model, self._tile, self.device, image.shape[-2:])

    def _plan(self, image: Tensor, pixels: sampling.Sampling, side: int) -> list[tiles.Tile]:
        in_size = image.shape[-2], image.shape[-1]
        return list(tiles.Grid(in_size, pixels, tile_size.halo(self._model) or 0, self._model.pad_to).tiles(side))

    def _kind_of(self, frame: Tensor, plan: list[tiles.Tile] | None = None) -> _Kind:
        pixels, image = self._pixels(frame), self._looked_at(frame)
        plan = self._plan(image, pixels, self._side(image)) if plan is None else plan
        # a render of the model's own makes what ``tiles`` ask it for
        recorded = self.device.type == "cuda" and len(plan) == 1 and not self._model._own("render")
        renderer = self._renderer(pixels) if recorded else None
        return _Kind(frame.shape, frame.dtype, frame.device, pixels, plan, renderer)

    def _renderer(self, pixels: sampling.Sampling) -> Renderer:
        model = tiles.in_float32(self._model) if self._dtype == torch.float32 else self._model
        size = [axis.count for axis in pixels]
        return Renderer(model, size, self._dtype if self._dtype in HALF else None, pixels=pixels)


def _layout(frame: Tensor) -> torch.memory_format:
    """Channels last where the frame is an array's."""
    return torch.channels_last if frame.stride(1) == 1 else torch.contiguous_format


def _finite(result: Result) -> bool:
    return result.finite is None or bool(result.finite)
