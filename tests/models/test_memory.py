"""Memory is bounded by what is asked for in the end: pixel centres, large tiles, batches, small tiles."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from liif_fast import functional, reference
from liif_fast.head import sampling
from liif_fast.models import tile_size, tiles, values


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that an operation made, of those below ``limit``."""

    def __init__(self, limit):
        super().__init__()
        self.found, self.limit = 0, limit

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for t in result if isinstance(result, (tuple, list)) else [result]:
            # an expanded tensor, as the cell of all queries, is one of its elements
            if isinstance(t, torch.Tensor) and t.untyped_storage().nbytes() < self.limit:
                self.found = max(self.found, t.untyped_storage().nbytes())
        return result


@pytest.fixture
def encoded(tiny):
    """A model, and the shapes that its encoder gets."""
    model, shapes = tiny(), []
    model.encoder.register_forward_pre_hook(lambda module, given: shapes.append(tuple(given[0].shape)))
    return model, shapes


LONG = (1 << 24) + 5, torch.float32  # the last pixels have no float32 of their own


@pytest.mark.parametrize(("n", "dtype"), [*itertools.product((1, 7, 1000), (torch.float32, torch.float64)), LONG])
def test_centres_are_those_of_make_coord(n, dtype):
    whole = reference.make_coord([n], dtype=dtype)[:, 0]
    for start, stop in ((0, n), (n // 3, n // 3 + 1), (max(0, n - 9), n)):
        assert torch.equal(reference.pixel_centres(torch.arange(start, stop), n, dtype=dtype), whole[start:stop])


@pytest.mark.parametrize("block", [1, 5, 12, 13, 40, 1000])
def test_pieces_of_a_grid_are_the_grid(block):
    size, rows, cols = (9, 17), (2, 8), (3, 16)
    want = reference.make_coord(size, flatten=False)[slice(*rows), slice(*cols)]
    got = torch.full_like(want, torch.nan)
    for lines, columns, coord in sampling.blocks(size, rows, cols, block, torch.device("cpu"), torch.float32):
        assert len(coord) <= max(block, 13 if block >= 13 else 1)
        assert got[lines, columns].isnan().all()  # each once
        got[lines, columns] = coord.view_as(got[lines, columns])
    assert torch.equal(got, want)


@pytest.mark.parametrize("size", [(1, 500_000), (500_000, 1), (500, 1000)])
def test_a_large_output_of_a_small_picture(tiny, size, monkeypatch):
    """Nothing but the output itself is as long as its longer side."""
    monkeypatch.setattr(tiles, "_PIECE", 1 << 15)
    model, out_bytes = tiny([16]), 3 * size[0] * size[1]
    image = torch.randint(256, (1, 3, 22, 17), dtype=torch.uint8)
    with Largest(out_bytes) as largest:
        large = model.upscale(image, size=size, point=True)
    # the piece in float32, three channels, or its coordinates' 64-bit integers
    assert largest.found <= 16 * (1 << 15)
    rows, cols = (slice(n // 2, n // 2 + 8) for n in size)
    render = model.encode_part(values.normalised(model, image), (22, 17), (0, 0), None, size)
    part = render(tuple((s.start, min(s.stop, n)) for s, n in zip((rows, cols), size, strict=True)))
    assert torch.equal(large[:, :, rows, cols], values.to_dtype((part * 0.5 + 0.5).clamp(0, 1), torch.uint8))


@pytest.mark.parametrize("quantized", [False, True])
def test_layers_are_prepared_once_for_all_blocks(tiny, quantized, monkeypatch):
    model, inp = tiny([16, 9]), torch.rand(1, 3, 9, 8)
    model = model.quantize(inp) if quantized else model
    prepared, blocks = [], []
    monkeypatch.setattr(functional, "uniform", lambda *a, f=functional.uniform: prepared.append(a) or f(*a))
    render = model.encode_part(inp, (9, 8), (0, 0), None, (600, 400))
    pieces = [render(((0, 500), (0, 400)), blocks.append), render(((500, 600), (0, 400)), blocks.append)]
    assert len(blocks) > 4
    assert len(prepared) == 1
    assert torch.equal(torch.cat(pieces, 2), model.render(inp, (600, 400)))


def test_tiles_are_found_one_after_the_other():
    """A plan of 400 million tiles."""
    plan = tiles.plan((640_000, 640_000), (2_560_000, 10**9), 32, 35)
    first = list(itertools.islice(plan, 3))
    assert first[0].out[0][0] == first[0].out[1][0] == 0
    assert first[0].out[1][1] == first[1].out[1][0]


def test_a_long_thin_picture(encoded):
    model, shapes = encoded
    image = torch.rand(1, 3, 1, 5000)
    whole = model.upscale(image, size=(2, 7001), tile=0)
    assert (whole - model.upscale(image, size=(2, 7001), tile=100)).abs().max() <= 1e-5
    assert len(shapes) == 51


def test_small_tiles_are_made_larger(encoded, monkeypatch):
    model, shapes = encoded
    image = torch.rand(1, 3, 90, 70)
    small, counts = [], []
    for tile in (1, 31, 32):
        small.append(model.upscale(image, scale=1.5, tile=tile))
        counts.append(len(shapes))
        shapes.clear()
    assert counts == [9, 9, 9]
    assert torch.equal(small[0], small[2])
    assert torch.equal(small[1], small[2])
    model.encoder.receptive_field = 34  # as EDSR-baseline's: the border would be ten times a tile of 32
    for tile, expected in ((1, 4), (64, 4), (90, 1)):
        shapes.clear()
        model.upscale(image, scale=1.5, tile=tile)
        assert len(shapes) == expected
    monkeypatch.setattr(tile_size, "auto_tile", lambda *given: 32)  # what little memory allows is not raised
    shapes.clear()
    model.upscale(torch.rand(1, 3, 128, 96), scale=1.5)
    assert len(shapes) == 12


@pytest.mark.parametrize("tile", [0, 32, "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_takes_the_memory_of_one(encoded, tile, dtype, monkeypatch):
    model, shapes = encoded
    images = torch.rand(7, 3, 50, 40)
    want = torch.cat([model.upscale(image[None], scale=2, tile=tile, dtype=dtype) for image in images])
    monkeypatch.setattr(tile_size, "auto_tile", lambda *given, **named: 60)
    shapes.clear()
    shares = []
    got = model.upscale(images, scale=2, tile=tile, dtype=dtype, progress=shares.append)
    # pixels of one tile of 60 with a border of 3
    assert max(n * h * w for n, _, h, w in shapes) <= 66**2
    assert max(n for n, _, h, w in shapes) == (66**2 // (50 * 40) if tile != 32 else 66**2 // (38 * 38))
    # one convolution of two images may sum in another order than two of one; half precision rounds the difference
    assert (got - want).abs().max() <= (1e-5 if dtype == torch.float32 else 0.02)
    assert sum(shares) == pytest.approx(1)


def test_small_pictures_of_a_batch_go_together(encoded):
    model, shapes = encoded
    model.upscale(torch.rand(50, 3, 8, 8), scale=2)
    assert [s[0] for s in shapes] == [50]


def test_out_of_memory_in_a_batch(tiny, monkeypatch):
    model = tiny()
    images = torch.rand(5, 3, 40, 40)
    want = model.upscale(images, scale=2, tile=0)
    encode = model._encode

    def limited(inp):
        if len(inp) * inp.shape[-2] * inp.shape[-1] > 30 * 30:
            raise torch.OutOfMemoryError("out of memory")
        return encode(inp)

    monkeypatch.setattr(model, "_encode", limited)
    with pytest.warns(UserWarning, match="out of memory: trying again with") as caught:
        got = model.upscale(images, scale=2, tile=0)
    said = [str(w.message).removeprefix("out of memory: trying again with ") for w in caught]
    assert said == ["one image at a time", "tiles of 20 pixels"]
    assert (got - want).abs().max() <= 1e-5
