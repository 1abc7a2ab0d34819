"""An image that is looked at again and again, at any window and scale: encoded once, where one looks, and kept."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..base.room import Room
from ..head import functional, precision, sampling
from ..head.precision import HALF
from . import heap, overrides, tile_size, tiles, values, whole_images
from .overrides import Spans
from .parts import half_precision

if TYPE_CHECKING:
    from .liif import LIIF

WHOLE = 1 << 30  # bytes in which an image is encoded at once, by the estimate of ``tile_size``
BLOCK = 128  # least side, input pixels, of what is encoded and kept of a larger one
_names = itertools.count()  # of mosaics in a room: an id would be another's when this one is gone


class Mosaic:
    """The hidden map of an image in blocks, each made when a pixel is asked for that depends on it.

    Blocks that are missing are encoded together with the border that the encoder sees, as ``tiles`` are, so that
    results equal those of the whole image to float32 rounding. Models without exact tiles (``tile_size.why_none``)
    have one block, the whole image; those with methods of their own for colours are asked by them each time, and
    nothing is kept.

    Args:
        model: of a single image ``[1, 3 or 1, H, W]``, in [0, 1] if floating point, else over its type's range; an
            8-bit model has to be calibrated.
        dtype: of the computation, as ``LIIF.upscale`` takes it, but int8.
        made: dtype of the results, as of an image; None: the image's.
        room: where blocks are kept; what does not fit is encoded again when it is needed.

    Raises:
        ValueError: the whole image has to be one block, which is larger than all the room.
    """

    def __init__(
        self, model: LIIF, image: Tensor, dtype: torch.dtype | None, room: Room, made: torch.dtype | None = None
    ) -> None:
        self.image, self.room, self.made = image, room, made or image.dtype
        self._name = next(_names)
        self.device = model.device or image.device
        self.dtype = whole_images.chosen_dtype(model, dtype, self.device)
        self.model = tiles.in_float32(model) if self.dtype == torch.float32 else model
        self.size = image.shape[-2], image.shape[-1]
        self.own = bool(model._own(*overrides.COLOURS, "render"))
        self._head: functional.AnyHead | None = None if self.own else self.model.head()
        self._ordered = False
        self.side = self._side()

    def _side(self) -> int:
        """Of the blocks."""
        exact = tile_size.why_none(self.model) is None
        itemsize = 2 if self.dtype in HALF else 4
        needed = math.prod(self.size) * tile_size.bytes_per_pixel(self.model, itemsize)
        channels = self.model.encoder.out_dim if self._head is None else self.model.hidden_width
        block = math.prod(self.size) * channels * itemsize
        if exact and (needed > WHOLE or block > self.room.size):
            return max(BLOCK, 2 * (tile_size.halo(self.model) or 0) // 16 * 16)
        if not self.own and block > self.room.size:
            raise ValueError(
                f"image: {self.size[1]}x{self.size[0]} is encoded in one piece, of {block >> 20} MiB, and "
                f"{self.room.size >> 20} MiB are kept; take a smaller image, or give more memory"
            )
        return max(self.size)

    @torch.no_grad()
    def render(self, pixels: sampling.Sampling) -> Tensor:
        """``[1, 3 or 1, rows, columns]``, on the CPU.

        Equivalent to: ``tiles.upscale(model, image, out, pixels=pixels, ...)``, up to the roundings of another order.
        A result that is not finite in half precision is computed again by that, which says so.
        """
        count = [axis.count for axis in pixels]
        pixels = sampling.limited(pixels, self.size, self.model.scale_max)
        out = torch.empty(1, self.image.shape[1], *count, dtype=self.made, device="cpu")
        with heap.kept() if self.device.type == "cpu" else contextlib.nullcontext():
            if not self.own:
                colours = values.denormalised(self.model, self._colours(pixels, count))
                values.check_channels(colours.shape[1])
                if bool(colours.isfinite().all()):
                    return out.copy_(values.finished(colours, out.shape[1], out.dtype))
            side = tile_size.chosen(self.model, "auto", self.device, self.size)
            return tiles.upscale(self.model, self.image, out, tile=side, dtype=self.dtype, pixels=pixels)

    def prepare(self) -> None:
        """Encode what is encoded at once."""
        if not self.own and self.side >= max(self.size):
            with torch.no_grad():
                self._block()

    def _colours(self, pixels: sampling.Sampling, count: list[int]) -> Tensor:
        (tile,) = tiles.Grid(self.size, pixels, 0).tiles(max(1 << 62, *self.size))
        part, map_size, origin = self._part(tile.hidden)
        image = added = None
        if self.model.adds_image:
            rows, cols = ((0, n) for n in self.size) if self._head is None else tile.hidden
            image = values.normalised(self.model, self.image[:, :, slice(*rows), slice(*cols)].to(self.device))
            added = self.model._added(image, self.size, (rows[0], cols[0]))
        ask: Callable[[Tensor, Tensor], Tensor]
        if self._head is None:

            def ask(coord: Tensor, cell: Tensor) -> Tensor:
                with half_precision(self.device.type, self.dtype):  # the features are of that precision
                    return self.model._query(part, coord, cell, inp=image)
        else:
            render = self.model._colours(part, self._head, map_size, origin)

            def ask(coord: Tensor, cell: Tensor) -> Tensor:
                colours = render(coord, cell if self.model.cell_decode else None)
                return colours if added is None else colours.add_(added(coord))

        out = torch.empty(1, self.model._out_dim(), *count, device=self.device)
        return functional.render_grid(ask, pixels, out, (0, count[0]), (0, count[1]))

    def _part(self, span: Spans) -> tuple[Tensor, tuple[int, int], tuple[int, int]]:
        """Of the map what has these rows and columns; the size of all of it; where the part begins."""
        if self.side >= max(self.size):
            whole = self._block()
            map_size = whole.shape[2:] if self._head is None else whole.shape[1:3]
            return whole, (map_size[0], map_size[1]), (0, 0)
        rows, cols = ((a // self.side, -(-b // self.side)) for a, b in span)
        kept = {at: self.room.get((self._name, at)) for at in itertools.product(range(*rows), range(*cols))}
        missing = [at for at, block in kept.items() if block is None]
        if missing:
            around = tuple((min(n), max(n) + 1) for n in zip(*missing, strict=True))
            kept.update(self._made((around[0], around[1])))
        lines = [torch.cat([kept[row, col] for col in range(*cols)], 2) for row in range(*rows)]
        return torch.cat(lines, 1), self.size, (rows[0] * self.side, cols[0] * self.side)

    def _made(self, around: Spans) -> dict[tuple[int, int], Tensor]:
        """These rows and columns of blocks, encoded in one piece."""
        (top, bottom), (left, right) = (
            (a * self.side, min(n, b * self.side)) for (a, b), n in zip(around, self.size, strict=True)
        )
        piece = self._encoded(((top, bottom), (left, right)))
        made = {}
        for row, col in itertools.product(range(*around[0]), range(*around[1])):
            y, x = row * self.side - top, col * self.side - left
            block = piece[:, y : y + self.side, x : x + self.side].clone(memory_format=torch.contiguous_format)
            made[row, col] = block
            self.room.put((self._name, (row, col)), block, block.nbytes)
        return made

    def _block(self) -> Tensor:
        """The only one."""
        block = self.room.get((self._name, None))
        if block is None:
            block = self._encoded(((0, self.size[0]), (0, self.size[1])))
            self.room.put((self._name, None), block, block.nbytes)
        return block

    def _encoded(self, span: Spans) -> Tensor:
        """These rows and columns of the hidden map, ``[1, h, w, D]``; where the MLP does not fold, of the features,
        ``[1, C, h, w]``: then they are all of them."""
        halo = tile_size.halo(self.model) or 0
        rows, cols = (tiles.with_halo(s, n, halo, self.model.pad_to) for s, n in zip(span, self.size, strict=True))
        x = values.normalised(self.model, self.image[:, :, slice(*rows), slice(*cols)].to(self.device))
        whole = x.shape[-2:] == self.image.shape[-2:]
        dtype = self.dtype if self._head is None else precision.matmul_dtype(self.dtype, self.device.type)
        with half_precision(self.device.type, dtype):
            feat = self.model._encode(x)
            if self._head is None:
                return feat
            if not whole and feat.shape[2:] != x.shape[2:]:
                raise ValueError("image: this model's encoder changes the size, so it is encoded in one piece only")
            if not self._ordered:
                self._head = self.model.ordered(self._head, feat, self.dtype, 1 << 30)
                self._ordered = True
            hidden = functional.hidden_map(feat, self._head)
        hidden = hidden.to(self.dtype) if self.dtype in HALF else hidden
        if whole and span == ((0, self.size[0]), (0, self.size[1])):
            return hidden
        (top, bottom), (left, right) = span
        return hidden[:, top - rows[0] : bottom - rows[0], left - cols[0] : right - cols[0]]
