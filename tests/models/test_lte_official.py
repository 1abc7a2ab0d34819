"""LTE and LTEP against what the official classes gave: weights, colours, gradients."""

from __future__ import annotations

import lte_numbers
import pytest
import torch

import liif_fast

CHECKSUMS, FOUND = lte_numbers.stored()


@pytest.mark.parametrize("name", lte_numbers.MODELS)
def test_the_same_weights_from_the_same_seed(name):
    """Layers are built in the official order; checked of what follows, whose numbers are of these weights."""
    assert lte_numbers.checksum(lte_numbers.built(liif_fast.make, name)) == pytest.approx(CHECKSUMS[name], rel=1e-12)


@pytest.mark.parametrize(("name", "size", "dtype"), FOUND)
def test_colours_and_gradients(name, size, dtype):
    """1e-6 of the largest colour, and of each part's gradient; in float64 1e-12."""
    model = lte_numbers.built(liif_fast.make, name)
    rows, columns = map(int, size.split("x"))
    got = lte_numbers.summary(model, name, (rows, columns), getattr(torch, dtype))
    near = 1e-6 if dtype == "float32" else 1e-12
    for part, numbers in FOUND[name, size, dtype].items():
        scale = max(map(abs, numbers)) if part == "colours" else numbers[0]  # a gradient's norm
        assert got[part] == pytest.approx(numbers, rel=0, abs=near * scale), part


@pytest.mark.parametrize("name", ["lte", "lte-fast"])
def test_colours_of_inference(name):
    for size in lte_numbers.SIZES:
        model = lte_numbers.built(liif_fast.make, name).eval()
        with torch.no_grad():
            out = model(*lte_numbers.problem(name, size, torch.float32)).flatten()
        numbers = FOUND[name, f"{size[0]}x{size[1]}", "float32"]["colours"]
        got = out[:: out.numel() // 4][:4].tolist()
        assert got == pytest.approx(numbers, rel=0, abs=1e-6 * max(map(abs, numbers)))
