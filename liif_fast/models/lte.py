"""LTE: LIIF's module with the head of the official ``models/lte.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.shown import shown
from ..head import fourier, reference, transforms, unwatched
from ..head.precision import as_geometry, geometry_dtype
from ..registry import make, register
from . import folding, overrides
from .checks import check_image
from .liif import LIIF

SCALE_MAX = 4  # up to which LTE's authors train
CONVOLUTION, _INNER, _PHASE = nn.Conv2d.forward, nn.Conv2d._conv_forward, nn.Linear.forward


class _Always:
    """A flag of LIIF that LTE has not: it is True, and nothing would compute or save another value."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, kind: type) -> bool:
        return True

    def __set__(self, model: Any, value: Any) -> None:
        if value is not True:
            raise ValueError(f"{self.name}: LTE has no such choice, it is always True, got {shown(value)}")


@register("lte")
class LTE(LIIF):
    """Local Texture Estimator (CVPR 2022): of each feature, coefficients and frequencies, whose waves the MLP reads.

    Drop-in for the official ``LTE``: constructor, methods, state-dict keys and numbers; all else is LIIF's: what
    ``upscale``, ``render``, ``stream`` and the commands do with one they do with the other. Not 8-bit layers.

    Args:
        encoder_spec, pad_to: as of ``LIIF``; the encoder must keep the image's size (``LTEP`` takes others too).
        imnet_spec: spec of the decoding MLP without ``in_dim``, which is ``hidden_dim``.
        hidden_dim: coefficients of a feature, an even number; half of them of cosines, half of sines.
        scale_max: whole images that are enlarged by more have the cells of this scale, as in LTE's ``demo.py`` and
            ``test.py`` beyond the scales that it was trained at; None: their own. Queries have the cells that they
            come with. Not in the official class; saved with the model only if it is another than 4.

    Attributes:
        coef, freq: the convolutions of the features to coefficients and to frequencies.
        phase: the linear layer of the cell to a phase of each wave.
        inp: the images of the last ``gen_feat``: the head's colours are added to them.
    """

    adds_image = True
    _name = "lte"
    imnet: nn.Module | None
    local_ensemble, feat_unfold, cell_decode = _Always(), _Always(), _Always()

    def __init__(
        self,
        encoder_spec: Mapping[str, Any] | nn.Module,
        imnet_spec: Mapping[str, Any] | None = None,
        hidden_dim: int = 256,
        pad_to: int | None = None,
        scale_max: float | None = SCALE_MAX,
    ) -> None:
        self._begin(encoder_spec, hidden_dim, pad_to, scale_max)
        if not isinstance(imnet_spec, Mapping):
            raise TypeError(
                f"imnet_spec: the spec of an MLP, {{'name': 'mlp', ...}}, is wanted, got {shown(imnet_spec)}"
            )
        self._spec_args = {**self._spec_args, "imnet_spec": imnet_spec}
        self.imnet = make(imnet_spec, args={"in_dim": self._in_dim()})

    def _begin(
        self,
        encoder_spec: Mapping[str, Any] | nn.Module,
        hidden_dim: int,
        pad_to: int | None,
        scale_max: float | None,
    ) -> None:
        """All but the MLP."""
        LIIF.__init__(self, encoder_spec, None, pad_to=pad_to)
        if not isinstance(hidden_dim, int) or isinstance(hidden_dim, bool) or hidden_dim < 2 or hidden_dim % 2:
            raise ValueError(f"hidden_dim: an even number from 2 is wanted, got {shown(hidden_dim)}")
        real = isinstance(scale_max, int | float) and not isinstance(scale_max, bool)
        if scale_max is not None and not (real and 0 < scale_max < math.inf):
            raise ValueError(f"scale_max: a number above 0, or None, is wanted, got {shown(scale_max)}")
        self.scale_max = scale_max
        del self._spec_args["imnet_spec"]
        self._spec_args["hidden_dim"] = hidden_dim
        self.coef = nn.Conv2d(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.freq = nn.Conv2d(self.encoder.out_dim, hidden_dim, 3, padding=1)
        self.phase = nn.Linear(2, hidden_dim // 2, bias=False)

    # --- the official interface ---

    def gen_feat(self, inp: Tensor) -> Tensor:
        """As ``LIIF.gen_feat``; the images are kept too, for ``query_rgb``."""
        feat = super().gen_feat(inp)
        self.inp = inp
        return feat

    def query_rgb(self, coord: Tensor, cell: Tensor | None = None) -> Tensor:
        """As ``LIIF.query_rgb``, of the images of the last ``gen_feat``."""
        if self.feat is not None and self._own("query"):
            return self.query(self.feat, coord, cell, self.inp)
        return super().query_rgb(coord, cell)

    def query(self, feat: Tensor, coord: Tensor, cell: Tensor | None = None, inp: Tensor | None = None) -> Tensor:
        """As ``LIIF.query``.

        Args:
            inp: ``[B, out_dim, H, W]``, the images that ``feat`` was encoded from, to which the colours are added.

        Equivalent to: ``reference.lte(coef(feat), freq(feat), coord, cell, phase, imnet) + skip(inp, coord)``.
        """
        if inp is None:
            raise TypeError("inp: LTE adds its colours to the images, so query(feat, coord, cell, inp) is wanted")
        return self._query(feat, coord, cell, inp=inp)

    def why_not_int8(self) -> str:
        return (
            f"8-bit layers read what follows a ReLU, and the first of {type(self).__name__} reads negative numbers "
            "too: take bfloat16"
        )

    # --- inside ---

    def _arguments(self) -> dict[str, Any]:
        return {**self._spec_args, **({} if self.scale_max == SCALE_MAX else {"scale_max": self.scale_max})}

    def _own(self, *names: str) -> list[str]:
        return overrides.own(self, LTE, names)

    def _in_dim(self) -> int:
        return self._spec_args["hidden_dim"]

    def _out_dim(self) -> int:
        layers = self._layers()
        return super()._out_dim() if layers is None else layers[-1][0].shape[0]

    def check_map(self, feat: Tensor, inp: Tensor) -> None:
        if feat.shape[2:] != inp.shape[2:]:
            raise ValueError(
                f"encoder_spec: LTE wants features of the image's size, {inp.shape[2]}x{inp.shape[3]}, got "
                f"{feat.shape[2]}x{feat.shape[3]} (the official class mixes the two); lte-fast takes others"
            )

    @property
    def reach(self) -> int:
        return 1

    def ordered(self, head: Any, feat: Tensor, dtype: torch.dtype | None, queries: int) -> Any:
        return head

    def _layers(self) -> list[tuple[Tensor, Tensor]] | None:
        return folding.layers(self.imnet)

    def _along(self, freq: Tensor, dim: int) -> Tensor:
        """The channels of ``freq`` along y, then those along x, from the order in which they are kept."""
        return torch.cat([freq.unflatten(dim, (-1, 2)).select(dim + 1, i) for i in range(2)], dim)

    def head(self) -> fourier.FourierHead | None:
        """As ``LIIF.head``: None where a layer may do more than its weights say."""
        parts = ((self.coef, CONVOLUTION), (self.freq, CONVOLUTION), (self.phase, _PHASE))
        layers = self._layers()
        if layers is None or not all(folding.runs(module, forward) for module, forward in parts):
            return None
        if not all(as_made(conv) for conv in (self.coef, self.freq)) or self.phase.bias is not None:
            return None
        if not len(self.coef.weight) == len(self.freq.weight) == 2 * len(self.phase.weight):
            return None
        tensors = (self.coef.weight, self.coef.bias, self.freq.weight, self.freq.bias, self.phase.weight)
        if not torch.compiler.is_compiling() and not unwatched.plain(tensors):
            return None
        frequencies = self._along(self.freq.weight, 0), self._along(self.freq.bias, 0)
        return fourier.fold((self.coef.weight, self.coef.bias), frequencies, self.phase.weight, layers)

    def _by_reference(self, feat: Tensor, coord: Tensor, cell: Tensor | None) -> Tensor:
        def called(module: Any) -> Callable[[Tensor], Tensor]:
            own = next((p.dtype for p in module.parameters()), None)
            return lambda x: module(x if own is None else x.to(own)).to(wide)

        wide, mlp = geometry_dtype(feat.dtype), self._mlp()
        assert mlp is not None
        coord, cell = as_geometry(feat, coord, cell)
        coef, freq = self.coef(feat).to(wide), self.freq(feat).to(wide)
        freq = torch.stack(self._along(freq, 1).chunk(2, 1), 2).flatten(1, 2)  # in the order of the reference
        chunk = 30_000 if not torch.is_grad_enabled() else max(1, coord.shape[1])
        cells = [None] * -(-coord.shape[1] // chunk) if cell is None else cell.split(chunk, 1)
        pieces = [
            reference.lte(coef, freq, c, s, called(self.phase), called(mlp))
            for c, s in zip(coord.split(chunk, 1), cells, strict=True)
        ]
        return torch.cat(pieces, 1)

    def _added(self, inp: Tensor, in_size: Sequence[int], origin: Sequence[int]) -> Callable[[Tensor], Tensor]:
        if inp.shape[1] != (out := self._out_dim()):
            raise ValueError(
                f"inp: LTE adds its colours to the images, so {out} channels are wanted, got {inp.shape[1]}"
            )
        image = inp.to(geometry_dtype(inp.dtype))
        if tuple(in_size) == tuple(inp.shape[-2:]) and not transforms.active():
            return lambda coord: _between(image, coord.to(image.dtype))
        return lambda coord: reference.skip(image, coord.to(image.dtype), in_size, origin)

    def _query(
        self,
        feat: Tensor,
        coord: Tensor,
        cell: Tensor | None = None,
        cached: bool = False,
        inp: Tensor | None = None,
    ) -> Tensor:
        inp = check_image(inp, feat, self._out_dim())
        self.check_map(feat, inp)
        colours = super()._query(feat, coord, cell, cached)
        return colours + self._added(inp, inp.shape[-2:], (0, 0))(coord).to(colours.dtype)

    def _forget(self) -> None:
        super()._forget()
        self.inp = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "inp": None}


def _between(image: Tensor, coord: Tensor) -> Tensor:
    """``reference.skip`` of a whole image in one operation, which has no derivatives of other kinds than backward's."""
    sampled = F.grid_sample(image, coord.flip(-1).unsqueeze(1), "bilinear", "border", align_corners=False)
    return sampled[:, :, 0].transpose(1, 2)


def as_made(conv: nn.Module, side: int = 3) -> bool:
    """Whether a convolution is one that keeps the size, of ``side`` x ``side``, with a bias."""
    return (
        isinstance(conv, nn.Conv2d)
        and type(conv)._conv_forward is _INNER
        and "_conv_forward" not in vars(conv)
        and conv.kernel_size == (side, side)
        and conv.padding == (side // 2,) * 2
        and (conv.stride, conv.dilation, conv.groups, conv.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
        and conv.bias is not None
    )
