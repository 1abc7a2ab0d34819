"""The module's answers to bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from liif_queries import queries

import liif_fast


def test_bad_input(tiny):
    model = tiny()
    inp, (coord, cell) = torch.rand(1, 3, 4, 4), queries(1, 5)
    nan = coord.clone()
    nan[0, 2, 1] = float("nan")
    for arguments, error, words in [
        ((inp[0], coord, cell), ValueError, "inp: shape"),
        ((inp.to(torch.uint8), coord, cell), TypeError, "inp: a floating-point"),
        ((inp[..., :0], coord, cell), ValueError, "inp: shape .*empty"),
        ((inp, coord[0], cell), ValueError, "coord: shape"),
        ((inp, coord.expand(2, -1, -1), cell), ValueError, "coord: shape .* B = 1"),
        ((inp, coord[..., :1], cell), ValueError, "coord: shape"),
        ((inp, coord.long(), cell), TypeError, "coord: a floating-point"),
        ((inp, coord.tolist(), cell), TypeError, "coord: .*list"),
        ((inp, nan, cell), ValueError, "coord holds NaN"),
        ((inp, coord, nan), ValueError, "cell holds NaN"),
        ((inp, coord), ValueError, "cell: .*cell_decode"),
        ((inp, coord, cell[:, :2]), ValueError, "cell: the shape of coord"),
        ((inp, coord.to("meta"), cell), ValueError, "coord is on meta"),
        ((inp.to("meta"), coord, cell), ValueError, "inp is on meta"),
        ((inp, None, cell), TypeError, "coord: .*NoneType"),
    ]:
        with pytest.raises(error, match=words) as caught:
            model(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="call gen_feat"):
        tiny().query_rgb(coord, cell)
    with pytest.raises(ValueError, match=r"feat: shape \[B, 6"):
        model.query(torch.rand(1, 5, 4, 4), coord, cell)
    for feat, error in [("x", TypeError), (torch.ones(1, 6, 4, 4, dtype=torch.int32), TypeError)]:
        with pytest.raises(error, match="feat: a floating-point tensor"):
            model.query(feat, coord, cell)
    for feat in (torch.rand(1, 6, 4, 4).half(), torch.rand(1, 6, 4, 4).double()):
        with pytest.raises(ValueError, match=r"feat is torch\.float.* layers are torch\.float32"):
            model.query(feat, coord, cell)
    with pytest.raises(ValueError, match=r"feat: .*not empty"):
        model.query(torch.rand(1, 6, 0, 4), coord, cell)
    for bad in ([1], torch.rand(5), np.zeros((1, 3, 4, 4))):
        with pytest.raises((TypeError, ValueError), match="inp: "):
            model.render(bad, (4, 4))
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}
    with pytest.raises(ValueError, match="inp: 3 channels"):
        liif_fast.LIIF(encoder).gen_feat(torch.rand(1, 1, 4, 4))
    with pytest.raises(ValueError, match="puts out 1 channels"):
        tiny(out_dim=1).upscale(torch.rand(3, 4, 4), scale=2)
    with pytest.raises(TypeError, match="out_dim"):
        liif_fast.LIIF(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match=r"no spec.*register"):
        _ = model.spec
    for size in [(0, 3), (3,), (2.5, 4), "44", None]:
        with pytest.raises(ValueError, match="size: "):
            model.render(inp, size)
