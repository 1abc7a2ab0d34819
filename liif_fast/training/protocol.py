"""What LTE's ``test.py`` (Lee & Jin, CVPR 2022) does beyond LIIF's: the options ``--window`` and ``--scale_max``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.shown import shown
from ..head.reference import make_coord
from .values import ConfigError, finite

_LARGEST = 1024  # pixels of a window


@dataclass(frozen=True)
class Protocol:
    """How a model is asked for whole images.

    Args:
        eval_type, eval_bsize: keys of the test configuration.
        window: pad the input to the next multiple of so many pixels by reflection, the edge repeated, and by a whole
            window where it is a multiple already; ask for all of the padded image at the scale of ``eval_type``, and
            cut the answer. 8 for SwinIR in LTE's tables; 0: as the image is.
        scale_max: at scales S above it the cell is S / scale_max times as large ("cell clip"). 4 in LTE's tables; None:
            the cell as it is.

    Raises:
        ConfigError: a value out of range, or without the keys that it needs.
    """

    eval_type: str | None
    eval_bsize: int | None
    window: int = 0
    scale_max: float | None = None

    def __post_init__(self) -> None:
        window, largest = self.window, self.scale_max
        if isinstance(window, bool) or not isinstance(window, int) or not 0 <= window <= _LARGEST:
            raise ConfigError(f"window: a whole number of pixels from 0 to {_LARGEST} is wanted, got {shown(window)}")
        if largest is not None and (not finite(largest) or largest <= 0):
            raise ConfigError(f"scale_max: a number above 0 is wanted, got {shown(largest)}")
        if self.eval_type is None and (window or largest is not None):
            raise ConfigError(
                f"{'window' if window else 'scale_max'}: needs a scale, and this configuration has no eval_type; add "
                "benchmark-S or div2k-S"
            )
        if largest is not None and self.eval_bsize is None:
            raise ConfigError(
                "scale_max: this configuration has no eval_bsize, without which LTE's program leaves the cell as it "
                "is; add eval_bsize, 30000 say"
            )

    @property
    def scale(self) -> int:
        """Of ``eval_type``, which is there."""
        return int(str(self.eval_type).split("-")[1])

    def queries(self, inp: Tensor, coord: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Input, coordinates and cells of a batch, rows ``[B, Q, 2]`` or a grid ``[B, H, W, 2]``, as they are asked."""
        if self.window:
            grid, count, s = coord.ndim == 4, len(inp), self.scale
            inp = _reflected(inp, self.window)
            h, w = inp.shape[-2:]
            coord = make_coord((h * s, w * s), flatten=False, device=inp.device)
            one = torch.tensor([2 / h / s, 2 / w / s], dtype=torch.float32, device=inp.device)
            cell = one.expand(count, 2) if grid else one.expand(count, coord[..., 0].numel(), 2)
            coord = (coord if grid else coord.flatten(0, 1)).expand(count, *(-1,) * (3 if grid else 2))
        if self.scale_max is not None:
            cell = cell * max(self.scale / self.scale_max, 1)
        return inp, coord, cell

    def cut(self, pred: Tensor, padded: torch.Size, shape: torch.Size, gt: Tensor) -> Tensor:
        """Of colours of the padded image those of ``gt``; ``padded`` and ``shape`` are those of the inputs.

        Raises:
            ConfigError: images that are not ``scale`` times as large as their inputs, or no colour for every query.
        """
        if not self.window:
            return pred
        (h, w), whole = ([self.scale * n for n in size[-2:]] for size in (shape, padded))
        wanted = (3, h, w) if gt.ndim == 4 else (h * w, 3)
        if gt.shape[1:] != wanted:
            raise ConfigError(
                f"window: eval_type {self.eval_type} wants images {self.scale} times as large as their inputs, "
                f"{w}x{h}, and the data has others; correct one of them"
            )
        asked = (len(gt), 3, *whole) if gt.ndim == 4 else (len(gt), whole[0] * whole[1], 3)
        if not isinstance(pred, Tensor) or pred.shape != asked:
            got = list(pred.shape) if isinstance(pred, Tensor) else type(pred).__name__
            raise ConfigError(f"model: gives {got} for the queries of a padded image, {list(asked)} is wanted")
        return pred[..., :h, :w] if gt.ndim == 4 else pred.unflatten(1, whole)[:, :h, :w].flatten(1, 2)


def _reflected(image: Tensor, window: int) -> Tensor:
    """``[B, C, H, W]`` with both sides made ``(n // window + 1) * window``.

    Where the official program's single reflection is too short (of 3 pixels for 8), the reflection goes on.
    """
    for dim in (2, 3):
        n = image.shape[dim]
        index = torch.arange((n // window + 1) * window, device=image.device) % (2 * n)
        image = image.index_select(dim, torch.where(index < n, index, 2 * n - 1 - index))
    return image
