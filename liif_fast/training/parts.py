"""In how many parts of a batch LIIF's head is trained.

Most of a training step's memory are the rows of the head's layers, 4 * Q of each sample, which are kept for the
gradients. The loss is a mean over all colours, so the gradients are sums over the samples: the head's forward and
backward pass is done for a few samples at a time, and only theirs are there at once. The encoder runs once for all of
them, forward and backward, so that no work is done twice. Loss and gradients are those of the whole batch, but for the
order of their sums.

The key ``head_parts`` says how many parts; 1 is the whole batch at once. Without it a part has on CUDA as many samples
as have ``PART_ROWS`` rows at most; on a CPU, whose operator keeps nothing for each row, the batch is one part. Whatever
the key says, a batch is taken whole by models other than LIIF, where something could see the parts (methods of a
model's own, hooks, an MLP that does more than its weights say, torch.compile), in adversarial training and with several
processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .. import distributed
from ..models import folding, overrides
from ..models.liif import LIIF
from ..models.lte import LTE
from ..models.ltep import LTEP

# Of a layer in one part: enough to keep a large GPU busy, which multiplies some 20,000 at a time. Four samples of the
# official configuration.
PART_ROWS = 40_000


def count(asked: int | None, module: Any, shape: Sequence[int], device: torch.device) -> int:
    """In how many parts to take a batch: 1, or up to as many as it has samples.

    Args:
        asked: the key ``head_parts``.
        module: the model, which is called without a wrapper, for a loss that is a mean over all colours.
        shape: ``(B, Q, 3)`` or ``(B, 3, h, w)``, of the colours.
        device: of the batch and the model.
    """
    if asked == 1 or (asked is None and device.type != "cuda") or not _in_parts(module):
        return 1
    samples, queries = shape[0], math.prod(shape[1:]) // 3
    if asked is None:
        most = max(1, PART_ROWS // max(1, queries * (4 if module.local_ensemble else 1)))
        asked = -(-samples // most)
    return max(1, min(asked, samples))


def obstacle(setup: Any) -> str | None:
    """Why the parts that a ``Setup``'s configuration asks for are not made, in a few words; None: nothing hinders them,
    or none are asked for."""
    config = setup.config
    if config.head_parts in (None, 1):
        return None
    reasons = {
        "there are several processes": distributed.connected(),
        "gan": config.gan is not None,
        "compile": config.compile,
        "the model is no LIIF or LTE, or something in it would see the parts": not _in_parts(setup.module),
    }
    return next((reason for reason, found in reasons.items() if found), None)


def _in_parts(module: Any) -> bool:
    """Whether nothing could see that not the whole batch is there."""
    if type(module) not in (LIIF, LTE, LTEP) or not folding.runs(module, LIIF.forward):
        return False
    if module._own(*overrides.COLOURS) or module.head() is None:
        return False
    mlp: Any = module.layers if isinstance(module, LTEP) else module.imnet.layers
    layers = list(mlp[::2])
    layers += [module.coef, module.freq, module.phase] if isinstance(module, LTE) else []
    tensors = (t for layer in layers for t in (layer.weight, layer.bias) if t is not None)
    # those of a parametrization are computed, perhaps with random numbers, whenever they are read
    return all(t.is_leaf and not folding.watched(t) for t in tensors)
