"""The numbers of images and those of the network: dtypes, ranges, normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .liif import LIIF


def not_finite() -> ValueError:
    """The refusal of what is not finite, to raise."""
    return ValueError("the result is not finite in float32: the model's weights or the image are damaged")


def check_channels(number: int) -> None:
    """ValueError unless a model puts out as many channels as an image has."""
    if number != 3:
        raise ValueError(f"this model puts out {number} channels, an image has 3: use render() for what is no image")


def normalised(model: LIIF, image: Tensor) -> Tensor:
    """An image [B, 3 or 1, H, W] of any dtype as the network's input: [B, 3, H, W] float32, channels last."""
    channels = getattr(model.encoder, "in_channels", None)
    if channels not in (None, 3):
        raise ValueError(f"this model takes {channels} channels, an image has 3: use render() for what is no image")
    x = from_dtype(image).expand(-1, 3, -1, -1)
    inp = {k: _channels(v, x) for k, v in model.data_norm["inp"].items()}
    return ((x - inp["sub"]) / inp["div"]).contiguous(memory_format=torch.channels_last)


def denormalised(model: LIIF, colours: Tensor) -> Tensor:
    """What the network puts out as colours of an image, in place."""
    gt = {k: _channels(v, colours) for k, v in model.data_norm["gt"].items()}
    return colours.mul_(gt["div"]).add_(gt["sub"])


def finished(colours: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Colours, [B, 3, h, w], as an image has them: clamped, in place; of one channel if it is grey; of its dtype."""
    colours = colours.clamp_(0, 1)
    return to_dtype(colours.mean(1, keepdim=True) if channels == 1 else colours, dtype)


def _channels(values: list[float], like: Tensor) -> Tensor:
    """One value for each channel. Filled, not copied from the host, for which a device would be waited for."""
    return torch.stack([torch.full((), v, dtype=like.dtype, device=like.device) for v in values]).view(1, -1, 1, 1)


def to_dtype(image: Tensor, dtype: torch.dtype) -> Tensor:
    """float32 in [0, 1] to ``dtype``: integers are rounded, half to even."""
    if dtype.is_floating_point:
        return image.to(dtype)
    return (image * torch.iinfo(dtype).max).round_().to(dtype)


def from_dtype(image: Tensor) -> Tensor:
    """Integer images to float32 in [0, 1]; floating point as float32."""
    if image.is_floating_point():
        return image.float()
    return image.float() / torch.iinfo(image.dtype).max
