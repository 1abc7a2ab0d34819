"""Whole images by a LIIF, one, of one size again and again, or those of a video: what its methods for them do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..images.kinds import Picture
from ..sizes import Target, checked_size, checked_window
from . import overrides, whole_images
from .checks import check_input
from .image_interface import ImageInterface
from .parts import encode_part
from .renderer import Renderer
from .stream import Stream


class Rendering(ImageInterface):
    """The methods of ``LIIF`` that make whole images; ``self`` is one."""

    if TYPE_CHECKING:  # nn.Module's returns Any

        def __call__(self, inp: Tensor, coord: Tensor, cell: Tensor | None = None) -> Tensor: ...

    def render(
        self: Any,
        inp: Tensor,
        size: Sequence[int],
        dtype: torch.dtype | None = None,
        window: Sequence[float] | None = None,
    ) -> Tensor:
        """A whole image at ``size`` (height, width), without gradients: ``[B, 3, H, W] -> [B, out_dim, *size]``.

        Input and output are normalised as the network's own (see ``data_norm``); ``upscale`` takes images. Neither
        coordinates nor intermediate values of the whole grid ever exist at once on the CPU; large images of a batch are
        encoded one by one, so that a batch needs no more memory than an image and the images themselves. In a graph of
        ``torch.compile`` or ``torch.export`` all is done at once, and of a window's image all is encoded.

        Args:
            dtype: half precision for encoder and hidden map; None: the model's, or that of autocast.
            window: (top, left, height, width) of the part of the input that becomes the image, in input pixels: real
                numbers, also beyond the border, where the colours of the border go on. None: all of it.

        Equivalent to: ``forward(inp, make_coord(size), cell=2 / size)``, reshaped. With a window (t, l, h, w) of
        H x W pixels ``make_coord(size, [(2 * t / H - 1, 2 * (t + h) / H - 1), (2 * l / W - 1, 2 * (l + w) / W - 1)])``
        ``.clamp(-1 + 1e-6, 1 - 1e-6)`` and ``cell=2 / size * (h / H, w / W)``.
        """
        size = checked_size(size)
        check_input(inp, self.encoder)
        return whole_images.render(self, inp, whole_images.sampled(inp.shape[-2:], size, window), dtype)

    def renderer(
        self: Any,
        size: Sequence[int],
        dtype: torch.dtype | None = None,
        compile: bool = False,
        window: Sequence[float] | None = None,
    ) -> Renderer:
        """``render`` for one size again and again, as for video: on CUDA a graph with fixed buffers; see there.

        Args:
            compile: the encoder by ``torch.compile``; the first call with a shape then takes long.
            window: as of ``render``.
        """
        return Renderer(self, checked_size(size), dtype, compile, None if window is None else checked_window(window))

    def stream(
        self: Any,
        frames: Iterable[Picture],
        scale: float | None = None,
        size: Sequence[int] | None = None,
        *,
        window: Sequence[float] | None = None,
        point: bool = False,
        tile: int | str = "auto",
        dtype: torch.dtype | None = None,
        reuse: bool = True,
        refresh: int | None = None,
    ) -> Stream[Picture]:
        """The frames of a video, enlarged one after the other while others are read: an iterator, see ``Stream``.

        Args:
            frames: an iterable of images of any kinds that ``upscale`` takes, as are its results.
            scale, size, window, point, tile, dtype: as of ``upscale``.
            reuse: tiles that depend only on pixels as in the frame before are not computed again, which changes no bit.
            refresh: every so many frames all is computed anew, and the tiles are chosen anew, as at the beginning.

        Equivalent to: ``(self.upscale(frame, scale, size, ...) for frame in frames)``, up to the roundings that the
        choice of tiles makes and that of ``renderer``'s kernels on CUDA.
        """
        return Stream(self, frames, Target(scale, size, window, point), tile, dtype, reuse, refresh)

    def encode_part(self: Any, *part: Any, **options: Any) -> overrides.Piece:
        """Encode a part of an input, to render pieces of the image with it: ``parts.encode_part`` of this model."""
        return encode_part(self, *part, **options)
