"""In how many parts of a batch LIIF's head is trained.

Most of a training step's memory are the rows of the head's layers, 4 * Q of each sample, which are kept for the
gradients. The loss is a mean over all colours, so the gradients are sums over the samples: the head's forward and
backward pass is done for a few samples at a time, and only theirs are there at once. The encoder runs once for all of
them, forward and backward, so that no work is done twice. Loss and gradients are those of the whole batch, but for the
order of their sums.

The key ``head_parts`` says how many parts; 1 is the whole batch at once. Without it a part has on CUDA as many samples
as ``PART_BYTES`` has room for; on a CPU, whose operator keeps nothing for each row, the batch is one part. Whatever the
key says, a batch is taken whole by models other than LIIF, where something could see the parts (methods of a model's
own, hooks, an MLP that does more than its weights say, torch.compile), in adversarial training and with several
processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..models import folding, overrides
from ..models.liif import LIIF

PART_BYTES = 40 << 20  # of one layer's rows in a part: enough of them to fill a GPU


def count(asked: int | None, module: Any, shape: Sequence[int], device: torch.device, amp: torch.dtype | None) -> int:
    """In how many parts to take a batch: 1, or up to as many as it has samples.

    Args:
        asked: the key ``head_parts``.
        module: the model, which is called without a wrapper, for a loss that is a mean over all colours.
        shape: ``(B, Q, 3)``, of the colours.
        device: of the batch and the model.
        amp: the dtype of autocast; None: there is none.
    """
    if asked == 1 or (asked is None and device.type != "cuda") or (layers := _layers(module)) is None:
        return 1
    samples, queries = shape[:2]
    if asked is None:
        width = max(len(b) for _, b in layers)
        dtype = layers[0][0].dtype if amp is None else amp
        sample = queries * (4 if module.local_ensemble else 1) * width * dtype.itemsize
        most = max(1, PART_BYTES // max(1, sample))
        asked = -(-samples // most)
    return max(1, min(asked, samples))


def _layers(module: Any) -> list[tuple[Tensor, Tensor]] | None:
    """Weights and biases of the model's MLP; None where something could see that not the whole batch is there."""
    if type(module) is not LIIF or not folding.runs(module, LIIF.forward) or module._own(*overrides.COLOURS):
        return None
    layers = folding.layers(module.imnet)
    if layers is None:
        return None
    # those of a parametrization are computed, perhaps with random numbers, whenever they are read
    plain = all(t.is_leaf and not folding.watched(t) for layer in layers for t in layer)
    return layers if plain else None
