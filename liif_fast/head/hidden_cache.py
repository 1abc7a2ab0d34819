"""The hidden map kept between queries, as long as it would be computed to the same."""

from __future__ import annotations

import torch
from torch import Tensor

from . import transforms
from .functional import AnyHead, hidden_map
from .kept import Kept


def kept_hidden_map(kept: Kept, feat: Tensor, head: AnyHead) -> Tensor:
    """``hidden_map(feat, head)``, from ``kept`` where features, weights and torch's settings have the same values."""
    if (
        torch.compiler.is_compiling()
        or transforms.active()
        or (feat.is_cuda and torch.cuda.is_current_stream_capturing())
    ):
        return hidden_map(feat, head)  # values cannot be looked at
    device = feat.device.type
    settings = (
        torch.is_autocast_enabled(device), torch.get_autocast_dtype(device),
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]  # unknown to the stubs
        torch.backends.mkldnn.conv.fp32_precision,  # type: ignore[attr-defined]
    )  # fmt: skip
    return kept.get((feat, head.w_conv, head.b_conv), settings, lambda: hidden_map(feat, head))
