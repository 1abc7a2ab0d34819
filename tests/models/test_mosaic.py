"""An image looked at again and again: the same pixels as ``render`` and ``upscale``, encoded once."""

from __future__ import annotations

import pytest
import torch

from liif_fast.base.room import Room
from liif_fast.head import sampling
from liif_fast.models import mosaic, tile_size, values
from liif_fast.models.mosaic import Mosaic

IMAGE = torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(0))
LARGE = Room(1 << 28)
PLACES = {
    "all": (sampling.Axis(140, 140), sampling.Axis(180, 180)),
    "a window of real numbers": (sampling.Axis(40, 70 * 3.7, 31), sampling.Axis(50, 90 * 3.7, 200)),
    "far in": (sampling.Axis(20, 70 * 200.3, 9000), sampling.Axis(20, 90 * 200.3, 100)),
    "the end": (sampling.Axis(9, 70 * 2.0, 131), sampling.Axis(9, 90 * 2.0, 171)),
}


def blocks(monkeypatch) -> None:
    """Of the least side, whatever the image's size."""
    monkeypatch.setattr(mosaic, "WHOLE", 0)
    monkeypatch.setattr(mosaic, "BLOCK", 16)


def rendered(model, image, pixels, dtype=None):
    """By ``render``: the window in the image's own pixels."""
    size = [axis.count for axis in pixels]
    n = image.shape[-2:]
    first = [axis.first * length / axis.whole for axis, length in zip(pixels, n, strict=True)]
    window = (*first, *(axis.count * length / axis.whole for axis, length in zip(pixels, n, strict=True)))
    out = model.render(values.normalised(model, image), size, dtype, window)
    return values.denormalised(model, out).clamp(0, 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("flags", [{}, {"cell_decode": False}, {"local_ensemble": False, "feat_unfold": False}])
def test_the_pixels_of_render(tiny, monkeypatch, place, whole, flags):
    if not whole:
        blocks(monkeypatch)
    model = tiny(**flags).eval()
    looked_at = Mosaic(model, IMAGE, torch.float32, Room(1 << 28))
    assert looked_at.side == (90 if whole else 16)
    got = looked_at.render(PLACES[place])
    assert got.dtype == torch.float32
    # sums in another order; in a window float32 coordinates of real numbers, of which those of render are as near
    torch.testing.assert_close(got, rendered(model, IMAGE, PLACES[place]), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-9)])
def test_in_half_precision(tiny, dtype, tolerance):
    """The hidden map is kept without the cell's share, so it is rounded at another place: once more its precision."""
    model, pixels = tiny().eval(), PLACES["a window of real numbers"]
    got = Mosaic(model, IMAGE, dtype, LARGE).render(pixels)
    torch.testing.assert_close(got, rendered(model, IMAGE, pixels, dtype), rtol=0, atol=tolerance)


def test_8_bits(tiny):
    model = tiny().eval().quantize(IMAGE)
    pixels = PLACES["a window of real numbers"]
    got = Mosaic(model, IMAGE, None, LARGE).render(pixels)
    # steps of 8 bits may turn over in a layer
    torch.testing.assert_close(got, rendered(model, IMAGE, pixels), rtol=0, atol=2e-2)


def test_integers_and_grey(tiny):
    model = tiny().eval()
    grey = (IMAGE[:, :1] * 65535).to(torch.uint16)
    pixels = PLACES["all"]
    got = Mosaic(model, grey, None, LARGE).render(pixels)
    want = model.upscale(grey, size=(140, 180))
    assert got.dtype == torch.uint16
    assert (got.int() - want.int()).abs().max() <= 1
    as_bytes = Mosaic(model, IMAGE, None, LARGE, torch.uint8).render(pixels)
    assert torch.equal(as_bytes, values.to_dtype(model.upscale(IMAGE, size=(140, 180)), torch.uint8))


class Counting:
    """How many pixels an encoder was given."""

    def __init__(self, model) -> None:
        self.pixels = 0
        model.encoder.register_forward_pre_hook(self.count)

    def count(self, module, given) -> None:
        self.pixels += given[0].shape[-2] * given[0].shape[-1]


def test_encoded_once(tiny):
    model = tiny().eval()
    seen = Counting(model)
    looked_at = Mosaic(model, IMAGE, None, Room(1 << 28))
    looked_at.prepare()
    assert seen.pixels == 70 * 90
    for pixels in PLACES.values():
        looked_at.render(pixels)
    assert seen.pixels == 70 * 90


def test_encoded_where_one_looks(tiny, monkeypatch):
    blocks(monkeypatch)
    model = tiny().eval()
    halo = tile_size.halo(model)
    seen = Counting(model)
    looked_at = Mosaic(model, IMAGE, None, Room(1 << 28))
    looked_at.prepare()
    assert seen.pixels == 0
    at = sampling.Axis(16, 70 * 4, 4 * 36), sampling.Axis(16, 90 * 4, 4 * 36)  # inside the block 2, 2
    looked_at.render(at)
    assert seen.pixels == (16 + 2 * halo) ** 2
    looked_at.render((sampling.Axis(40, 70 * 9, 9 * 37), sampling.Axis(40, 90 * 9, 9 * 37)))
    assert seen.pixels == (16 + 2 * halo) ** 2
    before = seen.pixels
    looked_at.render((at[0], sampling.Axis(80, 90 * 4, 4 * 36)))  # over the blocks 2 and 3
    assert seen.pixels == before + (16 + 2 * halo) ** 2, "the one that is new"


def test_what_there_is_no_room_for_is_encoded_again(tiny, monkeypatch):
    blocks(monkeypatch)
    model = tiny().eval()
    block = 16 * 16 * model.hidden_width * 4
    room = Room(3 * block)
    looked_at = Mosaic(model, IMAGE, None, room)
    want = Mosaic(model, IMAGE, None, LARGE).render(PLACES["all"])
    for _ in range(2):
        torch.testing.assert_close(looked_at.render(PLACES["all"]), want, rtol=0, atol=2e-6)
        assert room.held <= 3 * block


def test_two_images_in_one_room(tiny):
    """A name is never another's, not even that of a mosaic that is gone."""
    model, room = tiny().eval(), Room(1 << 28)
    for seed in range(5):
        image = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(seed))
        pixels = sampling.Axis(30, 30), sampling.Axis(30, 30)
        got = Mosaic(model, image, None, room).render(pixels)
        torch.testing.assert_close(got, rendered(model, image, pixels), rtol=0, atol=2e-6)


def test_a_piece_larger_than_all_the_room_is_refused(tiny, monkeypatch):
    model = tiny().eval()
    monkeypatch.setattr(model.encoder, "receptive_field", None)
    with pytest.raises(ValueError, match=r"^image: 90x70 is encoded in one piece, of 0 MiB, and 0 MiB are kept; take"):
        Mosaic(model, IMAGE, None, Room(1000))


def test_what_is_larger_than_all_the_room_is_encoded_where_one_looks(tiny, monkeypatch):
    """If it has exact tiles: little memory is no reason to refuse a photo."""
    monkeypatch.setattr(mosaic, "BLOCK", 16)
    model = tiny().eval()
    looked_at = Mosaic(model, IMAGE, None, Room(1000))
    assert looked_at.side == 16
    want = Mosaic(model, IMAGE, None, LARGE).render(PLACES["all"])
    torch.testing.assert_close(looked_at.render(PLACES["all"]), want, rtol=0, atol=2e-6)


class Doubling(torch.nn.Module):
    """Not one of liif_fast's MLPs, so it does not fold."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 2 * self.inner(x)


def unbounded(model):
    model.encoder.receptive_field = None


def not_folding(model):
    model.imnet = Doubling(model.imnet)


def by_its_own_method(model):
    by_class = model.query_rgb
    model.query_rgb = lambda coord, cell=None: by_class(coord, cell) * 0.5


@pytest.mark.parametrize("change", [unbounded, not_folding, by_its_own_method])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_without_tiles(tiny, change, dtype):
    model = tiny().eval()
    change(model)
    got = Mosaic(model, IMAGE, dtype, LARGE).render(PLACES["all"])
    want = model.upscale(IMAGE, size=(140, 180), dtype=dtype)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6 if dtype == torch.float32 else 2**-7)


def test_what_is_not_finite_in_half_precision_is_computed_again(tiny):
    model = tiny().eval()
    model.encoder.register_forward_hook(lambda module, given, out: out * 1e7)  # beyond float16
    pixels = PLACES["a window of real numbers"]
    with pytest.warns(UserWarning, match=r"not finite: computed again in float32"):
        got = Mosaic(model, IMAGE, torch.float16, LARGE).render(pixels)
    torch.testing.assert_close(got, rendered(model, IMAGE, pixels), rtol=0, atol=2e-6)


def test_near_what_upscale_gives_of_a_photo(official):
    image = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    got = Mosaic(official, image, torch.float32, LARGE).render((sampling.Axis(96, 96), sampling.Axis(128, 128)))
    torch.testing.assert_close(got, official.upscale(image, scale=4), rtol=0, atol=5e-6)
