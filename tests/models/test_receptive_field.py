"""How far an output pixel of each encoder sees: the halo of exact tiles, right and tight."""

from __future__ import annotations

import pytest
import torch
from small_encoders import RDN, make

from liif_fast.models.encoders import rdn


@pytest.fixture(autouse=True)
def _tiny_rdn(monkeypatch):
    monkeypatch.setitem(rdn._CONFIGS, "tiny", RDN["tiny"])


def response(encoder, size):
    """Where a perturbation of the middle input pixel changes the output, in float64: bool ``[H, W]``.

    With random weights the farthest pixels get products of hundreds of small factors, far below the rounding of what
    is there already. So the picture is black, without biases, and all weights are positive: every path adds to the
    change, ReLU lets all pass, and a change of any size down to 1e-308 differs from 0.
    """
    encoder = encoder.double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 4:
                parameter.uniform_(0.5, 1.5).div_(parameter[0].numel())  # a gain of about 1: no overflow
            else:
                parameter.zero_()
        x = torch.zeros(1, 3, *size, dtype=torch.float64)
        assert not encoder(x).any()
        x[:, :, size[0] // 2, size[1] // 2] = 1
        y = encoder(x)
    assert y.isfinite().all()
    return y.ne(0).any(1)[0]


def assert_sees(encoder, radius, *sizes):
    """The response is the whole square of the radius and nothing else, in images larger on every side, or strips."""
    assert encoder.receptive_field == radius
    for size in sizes or [(2 * radius + 5, 2 * radius + 4)]:
        rows, cols = ((torch.arange(n) - n // 2).abs() <= radius for n in size)
        assert torch.equal(response(encoder, size), rows[:, None] & cols)


@pytest.mark.parametrize(("args", "radius"), [({"n_resblocks": 0}, 2), ({"n_resblocks": 3}, 8), ({}, 34)], ids=str)
def test_receptive_field_of_edsr_is_right_and_tight(args, radius):
    assert_sees(make("edsr-baseline", **{"n_feats": 8, **args}, no_upsampling=True), radius)


@pytest.mark.parametrize(("config", "kernel", "radius"), [("A", 3, 123), ("B", 3, 131), ("A", 1, 120), ("tiny", 5, 12)])
def test_receptive_field_of_rdn_is_right_and_tight(config, kernel, radius, monkeypatch):
    with torch.device("meta"):
        assert make("rdn", RDNconfig=config, RDNkSize=kernel, no_upsampling=True).receptive_field == radius
    # growth 2 instead of 32 or 64 (no radius depends on a width), and strips for the large ones: fast
    monkeypatch.setitem(rdn._CONFIGS, config, (*RDN[config][:2], 2))
    strips = [] if config == "tiny" else [(2 * radius + 5, 1), (1, 2 * radius + 4)]
    assert_sees(make("rdn", G0=2, RDNconfig=config, RDNkSize=kernel, no_upsampling=True), radius, *strips)


def test_rcan_sees_the_whole_image():
    """Why it has no halo: one pixel changes the farthest ones, many times the reach of the convolutions away."""
    encoder = make("rcan", n_resgroups=1, n_resblocks=1, n_feats=8, reduction=2, no_upsampling=True).double()
    assert encoder.receptive_field is None
    x = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, 0, 0] += 1
    with torch.no_grad():
        difference = (encoder(changed) - encoder(x)).abs().amax(1)
    assert difference.min() > 1e-12  # float64 rounding is 1e-16
