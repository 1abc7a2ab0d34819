"""The fused kernel with LTE's first layer (``render_fourier``): its arguments, what it must give, cases for triton's
interpreter. ``Sample.w_pos`` is w_phase here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from cpu_paths import Sample
from cpu_paths import sample as plain_sample
from torch import Tensor

from liif_fast import reference
from liif_fast.head import fourier, ops
from liif_fast.head.triton import render
from liif_fast.head.triton.configs import Config, candidates

FLAGS = (
    {},
    {"cell": False},
    {"ensemble": False},
    {"cell": False, "ensemble": False, "out": 1},
    {"L": 1, "Q": 1, "h": 1, "w": 1},
    {"L": 2, "Q": 16, "out": 8},
    {"L": 4, "Q": 17, "out": 9},
    {"L": 5, "Q": 33, "B": 1, "out": 16},
)


def sample(dtype: torch.dtype = torch.float32, **sizes: Any) -> Sample:
    """Arguments of render_fourier; angles of some half turns."""
    s = plain_sample(dtype, **sizes)
    frequencies = s.hidden.shape[-1] // 2
    rows = torch.randn(*s.hidden.shape[:3], 4, frequencies)
    rows[..., 2:, :] *= 3
    return s._replace(hidden=rows.flatten(-2).to(dtype), w_pos=torch.randn(frequencies, 2))


def exact(s: Sample) -> Tensor:
    """render_fourier in float64 after the geometry, which is float32's own."""
    index, rel, weight = reference.corners(s.coord, s.size, s.ensemble)
    image = torch.arange(len(s.coord), device=s.coord.device).view(-1, 1, 1)
    rows = s.hidden[image, index[..., 0] - s.origin[0], index[..., 1] - s.origin[1]].double()
    cell = s.cell
    if cell is not None:
        cell = torch.stack([cell[..., 0] * s.size[0], cell[..., 1] * s.size[1]], -1).double().unsqueeze(-2)
        cell = cell.expand(*rel.shape)
    x = fourier.features(rows, rel.double(), cell, s.w_pos.double())
    for w, b in zip(s.w_mlp.double(), s.b_mlp.double(), strict=True):
        x = (x @ w.T + b).relu()
    return (x * weight.double().unsqueeze(-1)).sum(-2) @ s.w_out.double().T + s.b_out.double()


def cases(structures: dict[str, Config], gluon: Config) -> Iterator[tuple[str, Sample, Config]]:
    """Dtypes x structures x flags, sizes off the tile; the widths as shipped."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        name = f"waves-{str(dtype)[6:]}"
        half = dtype != torch.float32
        for structure, config in {**structures, **({"gluon": gluon} if half else {})}.items():
            for changed in FLAGS[::3] if dtype == torch.float16 else FLAGS:
                torch.manual_seed(0)
                words = " ".join(f"{k}={v}" for k, v in changed.items())
                yield f"{name} {structure} {words}", sample(dtype, **{"D": 64, **changed}), config
        for D in (128, 256):
            torch.manual_seed(0)
            config = candidates(90, "half" if half else "float32", D)[0]
            yield f"{name} shipped {D}", sample(dtype, D=D, Q=37, B=1), config
        yield f"{name} part", part_of_a_map(dtype), gluon if half else structures["pairs"]
    for structure in structures:
        yield f"waves-bfloat16 {structure} tma", sample(torch.bfloat16, D=64), structures[structure]._replace(tma=True)


def part_of_a_map(dtype: torch.dtype = torch.float32) -> Sample:
    """A piece of a map at an origin, strided coordinates, one cell for all queries."""
    s = sample(dtype, D=64, h=9, w=11)
    y, x = torch.rand(2, 37, 2).unbind(-1)
    coord = torch.stack([(y * 4 + 3.5) / 9, (x * 4 + 4.5) / 11], 0).permute(1, 2, 0) * 2 - 1
    cell = torch.tensor([0.1, 0.07]).expand(2, 37, 2)
    return s._replace(hidden=s.hidden[:, 2:8, 3:10], coord=coord, cell=cell, origin=(2, 3))


def not_finite(config: Config) -> None:
    """NaN, infinite frequencies and rows that are not at hand give NaN in their own queries and nowhere else."""
    for at, value in ((1, math.nan), (2, math.nan), (2, math.inf), (3, math.nan)):
        arguments = list(sample(D=64, ensemble=False))
        arguments[at] = arguments[at].clone()
        arguments[at].view(-1)[1] = value
        assert_nan(render.render_fourier(*arguments, config=config), ops.PLAIN["render_fourier"](*arguments), at)
    for channel, value in ((0, math.nan), (40, math.nan), (70, math.nan), (127, math.nan), (64, math.inf)):
        s = sample(D=64, h=2, w=2, ensemble=False)
        s.hidden[0, 0, 1, channel] = value
        assert_nan(render.render_fourier(*s, config=config), ops.PLAIN["render_fourier"](*s), channel)
    s = part_of_a_map()
    index, _, _ = reference.corners(s.coord, s.size)
    missing = ((index[..., 0] < 4) | (index[..., 0] > 5) | (index[..., 1] < 5) | (index[..., 1] > 7)).any(-1)
    part = s._replace(hidden=s.hidden[:, 2:4, 2:5], origin=(4, 5))
    ours, whole = (render.render_fourier(*given, config=config) for given in (part, s))
    assert missing.any()
    assert ours[missing].isnan().all()
    assert torch.equal(ours[~missing], whole[~missing])


def assert_nan(ours: Tensor, want: Tensor, what: object) -> None:
    assert want.isnan().any(), what
    assert torch.equal(ours.isnan(), want.isnan()), what


def of_no_size() -> None:
    for changed in ({"B": 0}, {"Q": 0}, {"out": 0}):
        s = sample(D=64, **changed)
        assert render.render_fourier(*s).shape == (*s.coord.shape[:2], len(s.b_out)), changed


def table(kernel: Callable[..., None], fine: bool) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, ours, exact) of the waves themselves, for angles up to 2^22."""
    grid = torch.linspace(-3, 3, 2049)
    angle = torch.cat([grid, torch.randn(1023) * 1e3, torch.randn(1024) * 1e6])
    cosine, sine = torch.empty_like(angle), torch.empty_like(angle)
    kernel[(1,)](angle, cosine, sine, len(angle), fine)
    # a remainder by 2 is exact
    turned = torch.fmod(angle.double(), 2) * math.pi
    yield "cosine", cosine, turned.cos()
    yield "sine", sine, turned.sin()
    odd = torch.tensor([2.0**22, 2.0**23 + 1, 3e7 + 1, -(2.0**47) - 2**24, 1e30, -3e38, math.nan, math.inf] * 2)
    cosine, sine = torch.empty_like(odd), torch.empty_like(odd)
    kernel[(1,)](odd, cosine, sine, len(odd), fine)
    for found in (cosine, sine):
        assert torch.equal(found.isfinite(), odd.isfinite())
        assert found[odd.isfinite()].abs().max() <= 1 + 1e-4
