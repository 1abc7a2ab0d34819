"""One training step: forward, loss, backward, and the update unless something in it is not finite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import distributed
from . import parts
from .config import Config, ConfigError

LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}


def train_mode(module: nn.Module, norm_eval: bool) -> None:
    """``module.train()``; with ``norm_eval``, batch normalisation uses, and keeps, the statistics that it has.

    Raises:
        ConfigError: ``norm_eval`` of a model without batch normalisation.
    """
    module.train()
    if norm_eval:
        norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        if not norms:
            raise ConfigError("norm_eval: the model has no batch normalisation; leave it out")
        for norm in norms:
            norm.eval()


@dataclass(frozen=True)
class Outcome:
    """What a step came to, the same in all processes."""

    loss: float
    grad_norm: float
    updated: bool  # False: left out, because of `nan` or because fp16 overflowed and its scale was reduced
    nan: bool
    stop: bool  # a process was asked to stop
    failed: bool = False  # a process could not go on; the step is left out


class Step:
    """Trains ``module`` by batches as the official loader gives them.

    Two calls make a step, so that the next batch can be fetched while the device computes: ``begin`` starts it,
    ``end`` waits for the result and updates the weights. Random numbers inside the model depend on the seed, the number
    of the step and the rank only.

    Args:
        module: the model whose weights are trained.
        forward: what is called: the module, or a DistributedDataParallel around it.
        critic: for adversarial training, see ``liif_fast.training.gan``.
    """

    def __init__(
        self,
        config: Config,
        module: nn.Module,
        forward: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        seed: int,
        critic: Any = None,
    ) -> None:
        self.config, self.module, self.forward, self.optimizer = config, module, forward, optimizer
        self.device, self.seed, self.critic = device, seed, critic
        self.loss = LOSSES[config.loss]
        self.inp_sub, self.inp_div = norm_tensors(config.data_norm["inp"], (1, -1, 1, 1), device)
        self.gt_sub, self.gt_div = norm_tensors(config.data_norm["gt"], (-1,), device)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.dtype = half_precision(config.amp, device)
        self.scaler = torch.amp.GradScaler(device.type) if self.dtype == torch.float16 else None
        self._saved_buffers: list[Tensor] = []
        self.updating = False  # weights are being changed: an error now leaves them half done

    def begin(
        self, batch: dict[str, Tensor], number: int, share: float = 1.0, stop: bool = False, failed: bool = False
    ) -> Tensor:
        """Forward and backward; returns what ``end`` needs.

        Args:
            batch: ``inp [B, 3, h, w]`` and ``gt [B, Q, 3]`` in [0, 1], ``coord`` and ``cell [B, Q, 2]``; or, of a
                grid, ``gt [B, 3, h, w]``, ``coord [B, h, w, 2]`` and ``cell [B, 2]``.
            number: of the step in the whole run.
            share: what this process's mean counts, see ``Batches.share``.
            stop: this process was asked to stop.
            failed: this process cannot go on, and the batch is a stand-in: ``end`` leaves the step out.
        """
        torch.manual_seed(hash_seed(self.seed, number, distributed.rank()))
        # statistics that a normalisation layer keeps would remember a NaN, or a step that is left out
        self._saved_buffers = [b.clone() for b in self._buffers()]
        loss, norm = self.gradients(batch, share)
        # gradients are already the same everywhere; loss and the wish to stop are summed up. Filled, not copied from
        # the host, which would wait for the device
        wishes = [loss.new_full((), float(wish)) for wish in (stop, failed)]
        told = torch.stack([loss / distributed.world(), *wishes])
        return torch.cat([distributed.sum_(told), norm.reshape(1)])

    def gradients(self, batch: dict[str, Tensor], share: float = 1.0) -> tuple[Tensor, Tensor]:
        """The loss, times ``share``, and the norm of the gradients that the parameters have then: two numbers on the
        device, for which nothing waits."""
        inp = (batch["inp"] - self.inp_sub) / self.inp_div
        sub, div = of_colours((self.gt_sub, self.gt_div), batch["gt"])
        gt = (batch["gt"] - sub) / div
        if self.config.channels_last:
            inp = inp.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        n = 1
        if self.forward is self.module and self.critic is None:
            n = parts.count(self.config.head_parts, self.module, gt.shape, self.device)
        loss = self._whole(inp, batch, gt, share) if n == 1 else self._in_parts(n, inp, batch, gt, share)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        return loss, torch.nn.utils.get_total_norm(grads).float().detach()

    def _whole(self, inp: Tensor, batch: dict[str, Tensor], gt: Tensor, share: float) -> Tensor:
        """The loss times ``share``, of the batch at once, and its gradients."""
        with self._autocast():
            pred = self.forward(inp, batch["coord"], batch["cell"])
        check_colours(pred, gt)
        pred = pred.to(gt.dtype)
        if self.critic is None:
            loss = self.loss(pred, gt)
        else:
            loss = self.critic.generator_loss(pred, gt, batch["cell"], self._autocast)
        return self._backward(loss, share)

    def _in_parts(self, n: int, inp: Tensor, batch: dict[str, Tensor], gt: Tensor, share: float) -> Tensor:
        """As ``_whole``; what the head keeps for its gradients exists for one of ``n`` parts of the batch at a time."""
        model: Any = self.module
        with self._autocast():
            feat = model.gen_feat(inp)
        tensors = (feat.detach(), batch["coord"], batch["cell"], gt)
        images = inp.tensor_split(n) if model.adds_image else None
        losses, grads = [], []
        for i, (part, coord, cell, colours) in enumerate(zip(*(t.tensor_split(n) for t in tensors), strict=True)):
            image = () if images is None else (images[i],)
            part.requires_grad_(feat.requires_grad)
            with self._autocast():
                pred = model.query(part, coord, cell, *image)
            check_colours(pred, colours)
            # a mean counts as much as its part of the samples: in all that is the mean of the whole
            losses.append(self._backward(self.loss(pred.to(gt.dtype), colours), share * len(colours) / len(gt)))
            grads.append(part.grad)
        if feat.requires_grad:
            feat.backward(torch.cat(grads))
        return torch.stack(losses).sum()

    def _backward(self, loss: Tensor, weight: float) -> Tensor:
        """Adds the gradients of ``weight * loss``, which is returned."""
        weighted = loss if weight == 1 else loss * weight
        (weighted if self.scaler is None else self.scaler.scale(weighted)).backward()
        return weighted.detach()

    def end(self, begun: Tensor) -> Outcome:
        """Wait for the device, and update the weights if all is finite."""
        loss, stop, failed, norm = begun.tolist()
        if failed:
            self.undo()
            return Outcome(loss, norm, updated=False, nan=False, stop=False, failed=True)
        finite = [abs(x) < float("inf") for x in (loss, norm)]  # NaN compares false
        nan = not finite[0] or (not finite[1] and self.scaler is None)
        self.updating = True
        if all(finite):
            self.update(begun[3])
            if self.critic is not None:
                self.critic.update(self._autocast)
        else:
            self.undo()
        if self.scaler is not None:
            self.scaler.update()
        self.updating = False
        return Outcome(loss, norm, all(finite), nan, stop > 0)

    def update(self, norm: Tensor) -> None:
        """New weights from the gradients, clipped if their ``norm`` asks for it."""
        if self.config.grad_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.grad_clip, norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)

    def undo(self) -> None:
        """The buffers as they were before ``begin``, of which nothing is left then."""
        for buffer, saved in zip(self._buffers(), self._saved_buffers, strict=False):
            buffer.copy_(saved)
        self._saved_buffers = []

    def _buffers(self) -> Iterator[Tensor]:
        """The model's, and the discriminator's, which the generator's loss asks."""
        yield from self.module.buffers()
        if self.critic is not None:
            yield from self.critic.discriminator.buffers()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def half_precision(amp: str | None, device: torch.device) -> torch.dtype | None:
    """The dtype behind the key ``amp``, or ConfigError where it cannot be used."""
    if amp is None:
        return None
    if amp == "auto":
        bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
        return torch.bfloat16 if bf16 else torch.float16
    if amp == "fp16" and device.type != "cuda":
        raise ConfigError(f"amp: fp16 needs a CUDA device, this is {device.type}; use bf16")
    return torch.bfloat16 if amp == "bf16" else torch.float16


def check_colours(pred: Tensor, gt: Tensor) -> None:
    """ConfigError unless a model's answer has the shape of the colours asked for: a loss would broadcast others."""
    if not isinstance(pred, Tensor) or pred.shape != gt.shape:
        got = list(pred.shape) if isinstance(pred, Tensor) else type(pred).__name__
        queries = gt.shape[1:].numel() // 3
        cure = "out_dim of its imnet_spec must be 3" if gt.ndim == 3 else "it must answer grids of queries in 3 colours"
        raise ConfigError(
            f"model: gives {got} for {queries} queries of {gt.shape[0]} samples, {list(gt.shape)} is wanted: {cure}"
        )


def norm_tensors(part: dict[str, list[float]], shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """sub and div of one half of ``data_norm``, shaped to be applied."""
    sub, div = (torch.tensor(part[key], dtype=torch.float32, device=device).view(shape) for key in ("sub", "div"))
    return sub, div


def of_colours(norm: tuple[Tensor, Tensor], colours: Tensor) -> tuple[Tensor, Tensor]:
    """sub and div ``[3]`` or ``[1]``, shaped to be applied to colours ``[B, Q, 3]``, or to images ``[B, 3, h, w]``."""
    sub, div = (t.view(-1, 1, 1) if colours.ndim == 4 else t for t in norm)
    return sub, div


def hash_seed(*numbers: int) -> int:
    """One seed from several numbers, well mixed (splitmix64's finaliser after each)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state % 2**63
