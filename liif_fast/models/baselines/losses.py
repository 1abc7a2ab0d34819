"""The content loss of SRGAN: VGG19's features where its weights are on this machine, else differences of pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]

_VGG_FILE = "vgg19-dcbb9e9d.pth"  # torchvision's name of the ImageNet weights


def content_loss(name: str, device: torch.device) -> tuple[Loss | None, str]:
    """The loss of a name, of two images ``[B, 3, H, W]`` in [0, 1], and what it is, for people.

    Args:
        name: "vgg19"; "gradients"; "none"; "auto": vgg19 if it can be had, else gradients.

    Raises:
        FileNotFoundError: vgg19 is asked for, but torchvision or its weights are not here. They are never fetched.
    """
    if name == "none":
        return None, "no content loss"
    why = _why_no_vgg()
    if name == "vgg19" and why:
        raise FileNotFoundError(f"content: vgg19 cannot be used, {why}; use content: gradients")
    if name == "gradients" or why:
        reason = f" ({why})" if name == "auto" else ""
        return gradients, f"content loss: mean squared differences of pixels and gradients at three scales{reason}"
    return VGG19().to(device), "content loss: features of VGG19"


def gradients(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean squared error of pixels, of their horizontal and vertical differences, at scales 1, 1/2 and 1/4.

    A stand-in for VGG's features: like them it looks at edges rather than at colours, and it needs no weights.
    """
    total = sr.new_zeros(())
    for _ in range(3):
        total = total + F.mse_loss(sr, hr)
        for axis in (2, 3):
            total = total + F.mse_loss(sr.diff(dim=axis), hr.diff(dim=axis))
        sr, hr = F.avg_pool2d(sr, 2), F.avg_pool2d(hr, 2)
    return total / 3


class VGG19(nn.Module):
    """Mean squared distance of VGG19's features behind the fourth convolution of the fifth block (phi_5,4, equation 5).

    Times 0.006, which the paper's section 3.2 gives to bring it to the size of a pixel loss.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        import torchvision

        network = torchvision.models.vgg19()
        network.load_state_dict(torch.load(_weights(), map_location="cpu", weights_only=True))
        self.features = network.features[:36].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406], dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225], dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        of_sr, of_hr = (self.features((x - self.mean) / self.std) for x in (sr, hr))
        return 0.006 * F.mse_loss(of_sr, of_hr)


def _weights() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / _VGG_FILE


def _why_no_vgg() -> str | None:
    import importlib.util

    if importlib.util.find_spec("torchvision") is None:
        return "torchvision is not installed"
    return None if os.path.isfile(_weights()) else f"its weights {_weights()} are not here"
