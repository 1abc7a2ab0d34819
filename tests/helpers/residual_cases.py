"""A small EDSR, its gradients as they are and by its modules."""

from __future__ import annotations

import copy

import pytest
import torch

import liif_fast
from liif_fast.models.encoders import residual

BF16 = torch.bfloat16


def encoder(**args):
    torch.manual_seed(0)
    args = {"n_resblocks": 5, "n_feats": 8, "res_scale": 0.3, "no_upsampling": True, **args}
    return liif_fast.make({"name": "edsr-baseline", "args": args})


def trained(model, x, amp=None):
    """Features and the gradients of x and of all parameters that have one."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    with torch.autocast("cpu", dtype=amp or BF16, enabled=amp is not None):
        feat = model(x)
    weight = torch.linspace(-1, 1, feat.numel(), dtype=feat.dtype).view_as(feat).sin()
    (feat * weight).sum().backward()
    return feat.detach(), x.grad, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def by_modules(model, x, amp=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residual, "on_cuda", lambda x: False)
        return trained(copy.deepcopy(model), x, amp)


def relative(ours, want):
    return ((ours.double() - want.double()).norm() / want.double().norm()).item()
