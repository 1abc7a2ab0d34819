"""Whether a model can take an input or features: errors that name the argument, what came and what is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def check_input(inp: Tensor, encoder: nn.Module) -> None:
    """TypeError or ValueError unless the encoder can take ``inp`` ``[B, C, H, W]``."""
    if not isinstance(inp, Tensor) or not inp.is_floating_point():
        got = inp.dtype if isinstance(inp, Tensor) else type(inp).__name__
        raise TypeError(f"inp: a floating-point tensor [B, C, H, W] is wanted, got {got}; upscale takes images")
    if inp.ndim != 4 or 0 in inp.shape[1:]:
        raise ValueError(f"inp: shape [B, C, H, W] with no empty side is wanted, got {list(inp.shape)}")
    channels = getattr(encoder, "in_channels", None)
    if channels is not None and inp.shape[1] != channels:
        rgb = " (RGB)" if channels == 3 else ""
        raise ValueError(f"inp: {channels} channels{rgb} are wanted, got {inp.shape[1]}")
    weight = next(encoder.parameters(), inp)
    if inp.device != weight.device:
        raise ValueError(
            f"inp is on {inp.device} but the model is on {weight.device}: move it with .to({str(weight.device)!r})"
        )


def check_features(feat: Tensor, channels: int, imnet: nn.Module | None) -> None:
    """TypeError or ValueError unless these are features ``[B, channels, H, W]`` of the MLP's dtype."""
    if not isinstance(feat, Tensor) or not feat.is_floating_point():
        got = feat.dtype if isinstance(feat, Tensor) else type(feat).__name__
        raise TypeError(f"feat: a floating-point tensor [B, {channels}, H, W] is wanted, got {got}")
    if feat.ndim != 4 or feat.shape[1] != channels or 0 in feat.shape[1:]:
        raise ValueError(f"feat: shape [B, {channels}, H, W], H and W not empty, is wanted, got {list(feat.shape)}")
    weight = None if imnet is None else next(imnet.parameters(), None)
    if weight is not None and feat.dtype != weight.dtype and not torch.is_autocast_enabled(feat.device.type):
        raise ValueError(
            f"feat is {feat.dtype} but the model's layers are {weight.dtype}: convert one of them with .to, or use "
            "torch.autocast"
        )


def check_image(inp: Tensor | None, feat: Tensor, channels: int) -> Tensor:
    """TypeError or ValueError unless ``inp`` is the images ``[B, channels, H, W]`` of these features."""
    if not isinstance(inp, Tensor) or not inp.is_floating_point():
        got = inp.dtype if isinstance(inp, Tensor) else type(inp).__name__
        raise TypeError(f"inp: the images of feat, floating point [B, {channels}, H, W], are wanted, got {got}")
    if inp.ndim != 4 or inp.shape[:2] != (feat.shape[0], channels) or 0 in inp.shape[2:]:
        raise ValueError(f"inp: shape [{feat.shape[0]}, {channels}, H, W] is wanted, got {list(inp.shape)}")
    if inp.device != feat.device:
        raise ValueError(f"inp is on {inp.device} but feat is on {feat.device}: move it with .to({str(feat.device)!r})")
    return inp
