"""Adversarial training (SRGAN; Ledig et al., CVPR 2017): the key ``gan`` of a configuration.

    gan:
      discriminator: {name: srgan-discriminator, args: {}}
      optimizer: {name: adam, args: {lr: 1.e-4}}
      content: auto           # vgg19, gradients, none; auto: vgg19 if its weights are on this machine, else gradients
      content_weight: 1.0
      adversarial_weight: 0.001
      pixel_weight: 0.0       # of the loss that the key `loss` names

The loss of the generator (equation 3) is content_weight * content + adversarial_weight * (-log D(G(x))) +
pixel_weight * loss; then the discriminator learns to tell the two apart (equation 2). Samples must be whole crops:
``sample_q`` null.
With several processes, normalisation layers use each process's own batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import distributed
from ..models.baselines.losses import content_loss
from ..registry import make
from .optimizer import make_optimizer, make_schedule

CONTENTS = ("auto", "vgg19", "gradients", "none")
DEFAULTS: dict[str, Any] = {
    "discriminator": None,
    "optimizer": None,
    "content": "auto",
    "content_weight": 1.0,
    "adversarial_weight": 1e-3,
    "pixel_weight": 0.0,
}
Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


class Critic:
    """A discriminator with its optimizer, and the generator's loss.

    Args:
        spec: the key ``gan``, complete.
        milestones: the key ``multi_step_lr``, for both networks.
        pixel_loss: of predictions and colours.
        gt_norm: sub and div of the colours, for the last axis.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        milestones: Mapping[str, Any] | None,
        pixel_loss: Callable[..., Tensor],
        gt_norm: tuple[Tensor, Tensor],
        device: torch.device,
    ) -> None:
        self.spec, self.pixel_loss, self.gt_norm = spec, pixel_loss, gt_norm
        self.discriminator = make(spec["discriminator"]).to(device).train()
        self.optimizer = make_optimizer(self.discriminator.parameters(), spec["optimizer"])
        self.schedule = make_schedule(self.optimizer, milestones)
        self.content, self.content_name = content_loss(spec["content"], device)
        self.loss = float("nan")  # of the discriminator, of the last update
        self._images: Any = None  # two tensors, from generator_loss to update

    def generator_loss(self, pred: Tensor, gt: Tensor, cell: Tensor, autocast: Autocast) -> Tensor:
        """The loss of predictions and colours ``[B, Q, 3]`` that are whole images in the order of their pixels."""
        fake, real = (self._image(t, cell) for t in (pred, gt))
        self._images = (fake.detach(), real)
        self.discriminator.requires_grad_(False)
        with autocast():
            verdict = self.discriminator(fake)
        self.discriminator.requires_grad_(True)
        loss = self.spec["adversarial_weight"] * F.softplus(-verdict.float()).mean()  # -log sigmoid
        if self.content is not None:
            sub, div = self.gt_norm
            colours = (t * div.view(1, -1, 1, 1) + sub.view(1, -1, 1, 1) for t in (fake, real))
            loss = loss + self.spec["content_weight"] * self.content(*colours)
        return loss + self.spec["pixel_weight"] * self.pixel_loss(pred, gt)

    def update(self, autocast: Autocast) -> None:
        """One step of the discriminator on the images of the last ``generator_loss``; left out if it is not finite."""
        fake, real = self._images
        with autocast():
            # each by itself, so that batch normalisation shows the generator the same verdict; and not through
            # DistributedDataParallel: the gradients are averaged here
            of_fake, of_real = (self.discriminator(images).float() for images in (fake, real))
        loss = F.softplus(of_fake).mean() + F.softplus(-of_real).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        grads = [p.grad for p in self.discriminator.parameters() if p.grad is not None]
        for grad in grads:
            distributed.sum_(grad).div_(distributed.world())
        self.loss = loss.item()
        if torch.nn.utils.get_total_norm(grads).isfinite():
            self.optimizer.step()

    def end_of_epoch(self) -> None:
        """The discriminator's learning rate follows ``multi_step_lr`` too."""
        if self.schedule is not None:
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def at_epoch(self, epoch: int) -> None:
        """The schedule's place; the rate comes with the optimizer's state."""
        if self.schedule is not None:
            self.schedule.last_epoch = epoch

    @staticmethod
    def _image(colours: Tensor, cell: Tensor) -> Tensor:
        """[B, H * W, 3] -> [B, 3, H, W]"""
        if colours.ndim != 3:
            raise ValueError(f"gan: queries in rows [B, Q, 2] are wanted, got colours of shape {list(colours.shape)}")
        height, width = (round(2 / c) for c in cell[0, 0].tolist())
        if height * width != colours.shape[1]:
            raise ValueError(
                f"gan: whole crops are wanted, got {colours.shape[1]} queries of {width}x{height} pixels; leave "
                "sample_q out of the wrapper"
            )
        return colours.transpose(1, 2).unflatten(-1, (height, width))
