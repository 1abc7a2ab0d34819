"""In how many parts of a batch the head is trained, and which models take it whole."""

from __future__ import annotations

import pytest
import torch
import training_files as files
from torch import nn

import liif_fast
from liif_fast.training import parts
from liif_fast.training.config import ConfigError, check

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def liif(width=256, **args):
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [width, 64]}}
    return liif_fast.make({"name": "liif", "args": {**files.TINY_LIIF["args"], "imnet_spec": imnet, **args}})


# a sample of 2304 queries has 9216 rows with four corners
@pytest.mark.parametrize(
    ("shape", "changes", "expected"),
    [
        ((16, 2304, 3), {}, 4),
        ((17, 2304, 3), {"local_ensemble": False}, 1),
        ((18, 2304, 3), {"local_ensemble": False}, 2),
        ((4, 2304, 3), {}, 1),
        ((16, 3, 48, 48), {}, 4),
        ((5, 2304, 3), {}, 2),
        ((3, 10**6, 3), {}, 3),
        ((1, 10**6, 3), {}, 1),
        ((16, 0, 3), {}, 1),
        ((0, 2304, 3), {}, 1),
    ],
)
def test_number_by_rows(shape, changes, expected):
    model = liif(**changes)
    assert parts.count(None, model, shape, CUDA) == expected
    assert parts.count(None, model, shape, CPU) == 1
    assert parts.count(1, model, shape, CUDA) == 1
    for device in (CPU, CUDA):
        assert parts.count(3, model, shape, device) == max(1, min(3, shape[0]))


class Subclass(liif_fast.LIIF):
    pass


class Doubled(nn.Module):
    def forward(self, weight):
        return weight * 2


def hook(*_):
    return None


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.register_forward_hook(hook),
        lambda m: m.register_full_backward_hook(hook),
        lambda m: m.imnet.register_forward_hook(hook),
        lambda m: m.imnet.layers[2].register_forward_pre_hook(hook),
        lambda m: m.imnet.layers[0].weight.register_hook(hook),
        lambda m: m.imnet.layers[0].bias.register_post_accumulate_grad_hook(hook),
        lambda m: m.imnet.layers.insert(1, nn.Dropout(0.5)),
        lambda m: nn.utils.parametrize.register_parametrization(m.imnet.layers[2], "weight", Doubled()),
        lambda m: m.compile(),
        lambda m: m.imnet.compile(),
        *(lambda m, n=n: setattr(m, n, getattr(m, n)) for n in ("gen_feat", "query_rgb", "query", "forward")),
        lambda m: setattr(m, "imnet", None),
        lambda m: setattr(m, "__class__", Subclass),
    ],
)
def test_models_that_take_it_whole(change):
    model = liif()
    assert parts.count(3, model, (16, 2304, 3), CPU) == 3
    change(model)
    assert parts.count(3, model, (16, 2304, 3), CPU) == 1


def test_a_hook_on_all_modules():
    handle = nn.modules.module.register_module_forward_hook(hook)
    try:
        assert parts.count(3, liif(), (16, 2304, 3), CPU) == 1
    finally:
        handle.remove()


def test_other_models_take_it_whole():
    assert parts.count(3, liif_fast.make(files.METASR), (16, 2304, 3), CPU) == 1
    assert parts.count(3, liif().quantize(), (16, 2304, 3), CPU) == 1


def test_what_an_encoder_does_is_no_obstacle():
    """It runs once, for the whole batch."""
    model = liif()
    model.encoder.register_forward_hook(hook)
    model.encoder.body.append(nn.BatchNorm2d(8))
    model.encoder.body.append(nn.Dropout(0.5))
    assert parts.count(3, model, (16, 2304, 3), CPU) == 3


def test_the_key(tmp_path):
    for value, expected in ((None, None), (1, 1), (7, 7)):
        raw = files.configuration(tmp_path) | {"head_parts": value}
        assert check(raw).head_parts == expected
    for value in (0, -1, 1.5, "2", True, 2**70, [2]):
        with pytest.raises(ConfigError, match="head_parts: a whole number above 0 is wanted"):
            check(files.configuration(tmp_path, head_parts=value))
