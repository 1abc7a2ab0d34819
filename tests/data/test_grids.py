"""The wrappers of grids of queries, LTE's ``-fast``: shapes of the official ones, each colour at its coordinate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import training_files as files
from PIL import Image

from liif_fast import data
from liif_fast.data.loader import Batches, make_loader
from liif_fast.data.on_device import OnDevice
from liif_fast.data.samples import expand

DOWN, PAIRED = "sr-implicit-downsampled-fast", "sr-implicit-paired-fast"


def positions(folder, sizes):
    """Images whose red tells the row and whose green the column."""
    folder.mkdir()
    for i, (h, w) in enumerate(sizes):
        rows, columns = np.mgrid[:h, :w]
        Image.fromarray(np.stack([rows, columns, rows * 0], -1).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def down(folder, cache="none", **args):
    dataset = data.make({"name": "image-folder", "args": {"root_path": str(folder), "cache": cache}})
    return data.make({"name": DOWN, "args": args}, args={"dataset": dataset})


def paired(tmp_path, **args):
    low = positions(tmp_path / "low", ((50, 40), (45, 60)))
    high = positions(tmp_path / "high", ((150, 121), (137, 182)))
    roots = {"root_path_1": str(low), "root_path_2": str(high)}
    dataset = data.make({"name": "paired-image-folders", "args": roots})
    return data.make({"name": PAIRED, "args": args}, args={"dataset": dataset})


def checked(sample, side):
    """(row, column) in the crop of every query; colours differ by as much as that says, whatever was turned."""
    at = (sample["gt"][:2] * 255).round().permute(1, 2, 0)
    where = ((sample["coord"] + 1) / sample["cell"] - 0.5).round()  # in the crop
    assert where.min() >= 0
    assert where.max() < side
    for _ in range(2):
        for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            if torch.equal(at - at[0, 0], (where - where[0, 0]) * torch.tensor(signs)):
                return where
        where = where.flip(-1)
    pytest.fail("colours and coordinates do not belong together")


@pytest.mark.parametrize("augment", [False, True])
def test_downsampled(tmp_path, augment):
    """As many pixels of the crop as the input has, each once, from everywhere."""
    samples = down(positions(tmp_path / "a", ((150, 140),)), inp_size=20, scale_min=2, scale_max=4, augment=augment)
    for _ in range(8):
        sample = samples[0]
        assert {k: (t.dtype, tuple(t.shape)) for k, t in sample.items()} == {
            "inp": (torch.float32, (3, 20, 20)),
            "coord": (torch.float32, (20, 20, 2)),
            "cell": (torch.float32, (2,)),
            "gt": (torch.float32, (3, 20, 20)),
        }
        side = round(2 / sample["cell"][0].item())
        assert 40 <= side <= 80
        where = checked(sample, side)
        assert len(where.flatten(0, 1).unique(dim=0)) == 400
        assert where.flatten(0, 1).std(0).min() > side / 5


@pytest.mark.parametrize("augment", [False, True])
def test_paired(tmp_path, augment):
    """A window of inp_size pixels of the crop at the larger scale, anywhere in it."""
    samples = paired(tmp_path, inp_size=16, augment=augment)
    corners = set()
    for i in range(30):
        sample = samples[i % 2]
        assert [*sample["inp"].shape, *sample["coord"].shape, *sample["gt"].shape] == [3, 16, 16, 16, 16, 2, 3, 16, 16]
        assert torch.equal(sample["cell"], torch.full((2,), 2 / 48))  # of the crop, not of the window
        where = ((sample["coord"] + 1) * 24 - 0.5).round()
        checked(sample, 48)
        assert torch.equal(where - where[0, 0], torch.cartesian_prod(*2 * [torch.arange(16.0)]).view(16, 16, 2))
        corners.add(tuple(where[0, 0].int().tolist()))
    assert len(corners) > 20
    assert max(max(c) for c in corners) > 24  # 32 is the last


def test_whole_images(tmp_path):
    """Every pixel in its place: the rows of the plain wrapper as an image."""
    folder = positions(tmp_path / "a", ((61, 47),))
    for s in (2, 2.5, 6):
        fast = down(folder, scale_min=s)[0]
        plain = data.make(
            {"name": "sr-implicit-downsampled", "args": {"scale_min": s}},
            args={"dataset": data.make({"name": "image-folder", "args": {"root_path": str(folder)}})},
        )[0]
        assert torch.equal(fast["inp"], plain["inp"])
        assert torch.equal(fast["gt"].flatten(1).T, plain["gt"])
        assert torch.equal(fast["coord"].flatten(0, 1), plain["coord"])
        assert torch.equal(fast["cell"], plain["cell"][0])
    samples = paired(tmp_path)
    sample = samples[0]
    assert [*sample["gt"].shape] == [3, 150, 120]  # three times 50x40, the rest cut off
    assert [*sample["coord"].shape] == [150, 120, 2]


def test_batches(tmp_path):
    """They travel in few bytes, with one cell for each sample, and stay so."""
    folder = positions(tmp_path / "a", ((100, 100),) * 3)
    samples = down(folder, inp_size=20, scale_max=4)
    (batch,) = make_loader(samples, Batches(3, 3, shuffle=False, seed=0), seed=0, num_workers=0)
    assert batch["inp"].dtype == batch["gt"].dtype == torch.uint8
    full = expand(batch)
    assert [tuple(t.shape) for t in full.values()] == [(3, 3, 20, 20), (3, 20, 20, 2), (3, 2), (3, 3, 20, 20)]
    assert all(t.dtype == torch.float32 for t in full.values())
    assert torch.equal(full["cell"], batch["cell"])
    assert all(torch.equal(a, b) for a, b in zip(expand(full).values(), full.values(), strict=True))


def test_batches_made_on_the_device(tmp_path):
    """The same kind of sample: colours of the pixels at the coordinates, each pixel once."""
    folder = positions(tmp_path / "a", ((100, 90), (85, 120)))
    samples = down(folder, cache="device", inp_size=20, scale_max=4, augment=True)
    samples.check(4)
    made = OnDevice(samples, Batches(2, 2, shuffle=False, seed=0), seed=0, device=torch.device("cpu"))
    (batch,) = made
    assert [tuple(t.shape) for t in batch.values()] == [(2, 3, 20, 20), (2, 20, 20, 2), (2, 2), (2, 3, 20, 20)]
    for i in range(2):
        sample = {name: t[i] for name, t in expand(batch).items()}
        where = checked(sample, round(2 / sample["cell"][0].item()))
        assert len(where.flatten(0, 1).unique(dim=0)) == 400


def test_what_does_not_fit(tmp_path):
    folder = files.make_images(tmp_path / "images")
    with pytest.raises(data.DataError, match="400 queries, inp_size squared, are more than the 100 pixels of a sample"):
        down(folder, inp_size=20, scale_min=0.5).check()
    with pytest.raises(data.DataError, match="inp_size: with a range of scales it is needed"):
        down(folder, scale_max=2).check(2)
    with pytest.raises(data.DataError, match=r"batch_size 1, or inp_size$"):
        down(folder, scale_min=2).check(2)
    with pytest.raises(data.DataError, match="paired-image-folders"):
        data.make({"name": PAIRED}, args={"dataset": down(folder).dataset})
    with pytest.raises(TypeError):  # the official ones have no such argument
        down(folder, sample_q=5)
