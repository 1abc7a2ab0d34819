"""The figures of the documentation show what the operators do, and are drawn at every build of it."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from liif_fast.head import functional, reference

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def products(run) -> int:
    """Multiply-adds of torch's products and of the operators, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def test_every_figure_of_the_page_is_drawn_twice_the_same(figures, tmp_path):
    for name in ("a", "b"):
        figures.draw(tmp_path / name)
    shown = set(re.findall(r"\]\(figures/(\w+)\.svg\)", PAGE))
    assert shown == set(figures.FIGURES)
    for name in shown:
        drawn = (tmp_path / "a" / f"{name}.svg").read_bytes()
        assert drawn == (tmp_path / "b" / f"{name}.svg").read_bytes()
        assert len(list(ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}path"))) > 20, name


def test_weights_are_the_areas_opposite(figures):
    """Of rectangles between the query and centres of pixels, in feature pixels."""
    index, _, weight = figures.query_corners()
    at = torch.tensor([(c + 1) * n / 2 for c, n in zip(figures.QUERY, figures.MAP, strict=True)])
    areas = [math.prod((at - (index[3 - k] + 0.5)).abs().tolist()) for k in range(4)]
    assert weight.sum().item() == pytest.approx(1)
    assert weight.tolist() == pytest.approx(areas, abs=1e-6)  # their sum is one pixel
    assert len(set(weight.tolist())) == 4, "a query between equal areas would not show whose they are"


def test_work_is_what_torch_counts(figures):
    mlp, head = figures.official_head()
    side, scale = 6, 2
    queries = (scale * side) ** 2
    feat = torch.randn(1, figures.OFFICIAL["channels"], side, side)
    coord = reference.make_coord((scale * side, scale * side)).unsqueeze(0)
    cell = torch.full_like(coord, 2 / (scale * side))
    shown = {way: sum(steps.values()) for way, steps in figures.multiply_adds(head, [scale]).items()}
    with torch.no_grad():
        paper = products(lambda: reference.liif(feat, coord, cell, mlp))
        folded = products(lambda: functional.render(functional.hidden_map(feat, head), head, coord, cell))
    assert shown == {"as the paper writes it": paper / queries, "folded, x2": folded / queries}


def test_what_training_keeps(figures):
    """Of the paper's way at least every layer's input; of ``decode`` nothing that grows with the queries."""
    paper, gathered, decoded = figures.kept(side=8, queries=128).values()
    inputs = 4 * (9 * figures.OFFICIAL["channels"] + 4 + sum(figures.OFFICIAL["hidden_list"]))  # of four corners
    assert paper > 4 * inputs
    assert paper > gathered > 4 * 4 * sum(figures.OFFICIAL["hidden_list"])
    twice = figures.kept(side=8, queries=256)["folded: decode"]
    assert 2 * twice == pytest.approx(decoded)


def test_a_pixel_sees_as_far_as_a_tile_has_a_border(figures):
    seen, halo = figures.reach()
    around = len(seen) // 2
    assert around > halo
    for axis in (0, 1):
        where = seen.amax(1 - axis).nonzero()
        assert (where.min() - around, where.max() - around) == (-halo, halo)
    inside = slice(around - halo, around + halo + 1)
    assert bool((seen[inside, inside] > 0).all())


def test_the_tile_is_one_that_upscaling_computes(figures):
    every, tile, halo = figures.example_tile()
    covered = torch.zeros(figures.IMAGE, dtype=torch.int)
    for t in every:
        covered[slice(*t.out[0]), slice(*t.out[1])] += 1
    assert bool((covered == 1).all())
    for (first, last), (start, stop), n in zip(tile.hidden, tile.inp, figures.IMAGE, strict=True):
        assert (start, stop) == (max(0, first - halo), min(n, last + halo))
    assert all(start > 0 for start, _ in tile.hidden), "one at the border would not show what is around it"
