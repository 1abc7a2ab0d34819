"""SwinIR (Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021, arXiv:2108.10257)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...base.shown import shown
from ...registry import register
from .. import folding, padding
from ..encoding import by_matrix_units
from .common import conv, reach
from .swinir_blocks import SwinTransformerBlock, edge_masks, pointwise, reach_of, trunc_normal_, window_of

_FEATURES = 64  # of the map; no argument in the official code
_LARGEST_WINDOW = 32  # a block keeps a number for each pair of its pixels

# Arguments of the official class of which only the default is known here, and why.
_FIXED: dict[str, tuple[Any, str]] = {
    "patch_size": (1, "larger patches were never trained for this use"),
    "ape": (False, "positions that are learnt for one size fit no other"),
    "upsampler": ("none", "LIIF and its kin do that themselves"),
    "upscale": (2, "without an upsampler it means nothing"),
    "img_range": (1.0, "LTE's code does not use it"),
    "norm_layer": (nn.LayerNorm, "another one would not be in a spec"),
}


class BasicLayer(nn.Module):
    """Blocks, of which every other one has its windows shifted by half of their side."""

    def __init__(self, blocks: list[SwinTransformerBlock], use_checkpoint: bool) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for block in self.blocks:
            if self.use_checkpoint and torch.is_grad_enabled():
                x = checkpoint(block, x, edges, use_reentrant=False)
            else:
                x = block(x, edges)
        return x


class RSTB(nn.Module):
    """Residual Swin transformer blocks: ``x + conv(blocks(x))`` on tokens ``[B, H, W, C]``."""

    def __init__(self, group: BasicLayer, last: nn.Module) -> None:
        super().__init__()
        self.residual_group = group
        self.conv = last

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return _tokens(self.conv(_map(self.residual_group(x, edges)))) + x


class PatchEmbed(nn.Module):
    """A map as tokens, normalised with ``patch_norm``: ``[B, C, H, W] -> [B, H, W, C]``."""

    def __init__(self, width: int, patch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if patch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = _tokens(x)
        return x if self.norm is None else self.norm(x)


def _tokens(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _map(x: Tensor) -> Tensor:
    x = x.permute(0, 3, 1, 2)
    # of a batch of one, the official tokens have a stride by which torch does not see channels last: in float32 its
    # other convolution rounds four times less, and a single image is to be the official one to 1e-6
    if len(x) == 1 and not torch.compiler.is_compiling() and not by_matrix_units(x.device.type, x.dtype):
        return x.contiguous()
    return x


class SwinIR(nn.Module):
    """SwinIR without an upsampling end, as LTE's repository has it: ``[B, in_chans, H, W] -> [B, 64, H, W]``.

    Images of any size: what is not whole windows is padded to them by ``padding.padded`` (reflection at the bottom and
    the right with the edge repeated, as in LTE's test program), and the map is cut back. The official module, called
    with such a size, leaves the edge out of its reflection, returns the padded map, and fails where the image is no
    larger than its padding.

    Args:
        img_size: of training images, or its (height, width): the size of the masks in the state dict, nothing else.
            Multiples of ``window_size``, above it.
        in_chans: channels of the images.
        embed_dim: width, a multiple of every number of heads.
        depths, num_heads: of each residual group, its blocks and their heads.
        window_size: side of the windows in pixels.
        mlp_ratio: width of the blocks' MLPs / ``embed_dim``.
        qkv_bias, qk_scale: of the attention; None: 1 / sqrt(embed_dim / heads).
        drop_rate, attn_drop_rate: dropout of tokens, of attention.
        drop_path_rate: stochastic depth of the last block; it rises from 0 at the first.
        patch_norm: a LayerNorm before the blocks.
        use_checkpoint: recompute the blocks in the backward pass: less memory.
        resi_connection: "1conv" or "3conv", at the end of each group.
        **fixed: the official class's other arguments, with their defaults only (see ``_FIXED``).

    Raises:
        ValueError: sizes that do not fit together, another value of a fixed argument.
        TypeError: an unknown argument.
    """

    def __init__(
        self,
        img_size: int | Sequence[int] = 48,
        in_chans: int = 3,
        embed_dim: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6, 6, 6),
        window_size: int = 8,
        mlp_ratio: float = 2.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        resi_connection: str = "1conv",
        **fixed: Any,
    ) -> None:
        super().__init__()
        _check_fixed(fixed)
        _check_sizes(embed_dim, depths, num_heads, window_size)
        size = _image(img_size, window_size)
        # made in the order of the official program, so that one seed gives the same initial weights
        self.window_size = window_size
        self.out_dim = _FEATURES
        self.conv_first = conv(in_chans, embed_dim)
        self.patch_embed = PatchEmbed(embed_dim, patch_norm)
        self.pos_drop = nn.Dropout(drop_rate)
        for name, rate in (
            ("drop_rate", drop_rate),
            ("attn_drop_rate", attn_drop_rate),
            ("drop_path_rate", drop_path_rate),
        ):
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
                raise ValueError(f"{name}: a number from 0 to 1 is wanted, got {shown(rate)}")
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device="cpu", dtype=torch.float32).tolist())

        def block(i: int, heads: int) -> SwinTransformerBlock:
            shift, last = window_size // 2 * (i % 2), (drop_rate, attn_drop_rate, next(rates))
            return SwinTransformerBlock(
                embed_dim, size, heads, window_size, shift, mlp_ratio, qkv_bias, qk_scale, *last
            )

        def group(depth: int, heads: int) -> RSTB:
            blocks = BasicLayer([block(i, heads) for i in range(depth)], use_checkpoint)
            return RSTB(blocks, _connection(embed_dim, resi_connection))

        self.layers = nn.ModuleList(group(*each) for each in zip(depths, num_heads, strict=True))
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = _connection(embed_dim, resi_connection)
        self.conv_before_upsample = nn.Sequential(conv(embed_dim, _FEATURES), nn.LeakyReLU(inplace=True))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                trunc_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @property
    def pad_to(self) -> int:
        """The side of the windows."""
        return self.window_size

    @property
    def receptive_field(self) -> int | None:
        """The halo that an exact tile needs, in input pixels; None as of EDSR.

        Exact for tiles that begin at multiples of ``pad_to``: the farthest pixel that any pixel depends on, through the
        windows as they lie and the convolutions, the official mask's e^-100 being nothing. 151 for the default: a tile
        of 256 is encoded with nearly five times its pixels, so tiles save memory, not time.
        """
        runs = folding.runs
        outer = [self.pos_drop, self.norm, *self.patch_embed.children()]
        known = runs(self, _FORWARD) and runs(self.patch_embed, _EMBED) and all(map(pointwise, outer))
        if folding.hooked_globally() or not known:
            return None
        steps: list[int | tuple[int, int] | None] = [reach(self.conv_first)]
        for layer in self.layers:
            if not (isinstance(layer, RSTB) and runs(layer, _RSTB) and runs(layer.residual_group, _GROUP)):
                return None
            steps += [*map(window_of, layer.residual_group.blocks), reach(layer.conv)]
        steps += [reach(self.conv_after_body), reach(self.conv_before_upsample)]
        sure = [step for step in steps if step is not None]
        return reach_of(sure) if len(sure) == len(steps) else None

    @property
    def in_channels(self) -> int | None:
        """Of the images; None if the first layer does not tell."""
        return getattr(self.conv_first, "in_channels", None)

    if TYPE_CHECKING:  # nn.Module's returns Any

        def __call__(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor) -> Tensor:
        whole = padding.padded(x, self.window_size)
        shallow = self.conv_first(whole)
        tokens = self.pos_drop(self.patch_embed(shallow))
        edges = edge_masks(self.window_size, self.window_size // 2, tokens)
        for layer in self.layers:
            tokens = layer(tokens, edges)
        deep = self.conv_after_body(_map(self.norm(tokens))) + shallow
        return padding.cut(self.conv_before_upsample(deep), whole, x, type(self).__name__)


# as they are now: a later replacement on a class is a change
_FORWARD, _RSTB, _GROUP, _EMBED = SwinIR.forward, RSTB.forward, BasicLayer.forward, PatchEmbed.forward


def _connection(width: int, kind: str) -> nn.Module:
    """Convolutions at the end of a group: one, or three through a quarter of the width."""
    if kind == "1conv":
        return conv(width, width)
    if kind != "3conv":
        raise ValueError(f"resi_connection: '1conv' or '3conv' is wanted, got {shown(kind)}")

    def relu() -> nn.Module:
        return nn.LeakyReLU(0.2, inplace=True)

    inner = width // 4
    return nn.Sequential(conv(width, inner), relu(), conv(inner, inner, 1), relu(), conv(inner, width))


def _check_fixed(fixed: dict[str, Any]) -> None:
    for name, value in fixed.items():
        if name not in _FIXED:
            raise TypeError(f"SwinIR has no argument {shown(name)}")
        default, why = _FIXED[name]
        if value != default:
            raise ValueError(f"{name}: {shown(default)} only, as {why}; got {shown(value)}")


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_sizes(embed_dim: int, depths: Sequence[int], num_heads: Sequence[int], window_size: int) -> None:
    for name, value in (("embed_dim", embed_dim), ("window_size", window_size)):
        if not _positive(value):
            raise ValueError(f"{name}: a positive whole number is wanted, got {shown(value)}")
    if window_size > _LARGEST_WINDOW:
        raise ValueError(f"window_size: at most {_LARGEST_WINDOW} is wanted, got {shown(window_size)}")
    for name, values in (("depths", depths), ("num_heads", num_heads)):
        if not isinstance(values, list | tuple) or not values or not all(map(_positive, values)):
            raise ValueError(f"{name}: a list of positive whole numbers is wanted, got {shown(values)}")
    if len(num_heads) != len(depths):
        raise ValueError(f"num_heads: one number for each of the {len(depths)} depths is wanted, got {len(num_heads)}")
    if wrong := [n for n in num_heads if embed_dim % n]:
        raise ValueError(f"num_heads: divisors of embed_dim = {embed_dim} are wanted, got {shown(wrong[0])}")


def _image(img_size: Any, window: int) -> Sequence[int]:
    size = (img_size, img_size) if isinstance(img_size, int) else img_size
    pair = isinstance(size, list | tuple) and len(size) == 2 and all(map(_positive, size))
    if not pair or any(n % window or n <= window for n in size):
        raise ValueError(
            f"img_size: a multiple of window_size = {window}, and larger, is wanted (or two), got {shown(img_size)}"
        )
    return size


@register("swinir")
def make_swinir(no_upsampling: bool = True, **architecture: Any) -> SwinIR:
    """SwinIR by name. ``architecture``: arguments of ``SwinIR``, none of which the official function takes.

    Raises:
        ValueError: ``no_upsampling=False``, which the official function takes and does not heed.
    """
    if no_upsampling is not True:
        raise ValueError(
            f"no_upsampling: True only, got {shown(no_upsampling)}: this SwinIR has no upsampling end (the official "
            "function takes False and leaves it out too)"
        )
    return SwinIR(**architecture)
