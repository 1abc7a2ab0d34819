"""Datasets, wrappers and loaders, against what the official ones do."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
import training_files as files
from PIL import Image

from liif_fast import data
from liif_fast.data.loader import Batches, make_loader, workers
from liif_fast.data.samples import expand


def position_image(height: int, width: int) -> np.ndarray:
    """Red tells the row, green the column, blue both."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, (rows * 3 + columns * 5) % 256], -1).astype(np.uint8)


@pytest.fixture(autouse=True)
def _same_draws(monkeypatch):
    """``samples[i]`` draws from a fresh generator; here from one of a known seed, so that what is found in forty draws
    is found in every run."""
    seeds, seeded = itertools.count(), np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed=None: seeded(next(seeds) if seed is None else seed))


@pytest.fixture
def positions(tmp_path):
    """Three images 200 x 150, 160 x 220, 190 x 190 whose colours are their positions."""
    folder = tmp_path / "positions"
    folder.mkdir()
    for i, (h, w) in enumerate(((200, 150), (160, 220), (190, 190))):
        Image.fromarray(position_image(h, w)).save(folder / f"{i}.png")
    return folder


def folder_of(path, **args):
    return data.make({"name": "image-folder", "args": {"root_path": str(path), **args}})


# --- folders ---


@pytest.mark.parametrize("cache", ["none", "in_memory", "bin"])
def test_folder(positions, cache):
    (positions / "notes.txt").write_text("no image")
    (positions / ".hidden.png").write_bytes(b"")
    dataset = folder_of(positions, repeat=2, cache=cache)
    assert len(dataset) == 6
    for i in (0, 1, 4):
        image = dataset[i]
        want = torch.from_numpy(np.array(Image.open(positions / f"{i % 3}.png"))).permute(2, 0, 1).float().div(255)
        assert image.dtype == torch.float32
        assert torch.equal(image, want)
    assert len(folder_of(positions, first_k=2, cache=cache)) == 2


def test_bin_follows_the_images(positions):
    assert folder_of(positions, cache="bin")[0].shape == (3, 200, 150)
    (made,) = (positions.parent / "_bin_positions").iterdir()
    again = folder_of(positions, cache="bin")
    again.prepare()
    assert list((positions.parent / "_bin_positions").iterdir()) == [made]  # the second use writes nothing
    Image.fromarray(position_image(20, 30)).save(positions / "0.png")
    assert folder_of(positions, cache="bin")[0].shape == (3, 20, 30)


def test_split_file(positions):
    split = positions.parent / "split.json"
    split.write_text(json.dumps({"train": ["2.png", "0.png"], "val": ["9.png"]}))
    dataset = folder_of(positions, split_file=str(split), split_key="train")
    assert [f.name for f in dataset.files] == ["2.png", "0.png"]
    with pytest.raises(data.DataError, match=r"1 files of .* missing, the first is 9\.png"):
        folder_of(positions, split_file=str(split), split_key="val")
    with pytest.raises(data.DataError, match=r"split_key 'test'; keys: train, val"):
        folder_of(positions, split_file=str(split), split_key="test")


def test_several_folders(positions, tmp_path):
    files.make_images(tmp_path / "other", sizes=((20, 20),))
    dataset = folder_of(positions, cache="in_memory")
    both = data.make({"name": "image-folder", "args": {"root_path": [str(tmp_path / "other"), str(positions)]}})
    assert len(both) == 4
    assert torch.equal(both[1], dataset[0])


def test_pairs(positions, tmp_path):
    low = files.make_images(tmp_path / "low", sizes=((100, 75), (80, 110), (95, 95)))
    pairs = data.make(
        {"name": "paired-image-folders", "args": {"root_path_1": str(low), "root_path_2": str(positions)}}
    )
    assert [t.shape for t in pairs[1]] == [(3, 80, 110), (3, 160, 220)]
    (low / "02.png").unlink()
    with pytest.raises(data.DataError, match=r"has 2 images, .* has 3"):
        data.make({"name": "paired-image-folders", "args": {"root_path_1": str(low), "root_path_2": str(positions)}})


def test_too_little_memory(positions, monkeypatch):
    from liif_fast.data import cache

    monkeypatch.setattr(cache, "_available", lambda: 1000)
    with pytest.raises(data.DataError, match="cache: bin"):
        folder_of(positions, cache="in_memory").prepare()


# --- samples ---


def located(sample: dict, image: np.ndarray, side: int) -> tuple[int, int, np.ndarray]:
    """The crop that a sample's ground truth is of, found from its colours, whatever was flipped: row, column, and the
    crop's (row, column) in the image at every query, in the order of the queries."""
    rgb = (sample["gt"] * 255).round().long().numpy()
    assert np.array_equal(image[rgb[:, 0], rgb[:, 1]], rgb)  # red and green tell where each colour is from
    return int(rgb[:, 0].min()), int(rgb[:, 1].min()), rgb[:, :2]


@pytest.mark.parametrize("augment", [False, True])
def test_downsampled(positions, augment):
    """A crop of round(inp_size * scale), reduced by Pillow's bicubic filter after ToTensor's and ToPILImage's trip to
    float and back; coordinates are pixel centres of that crop, flips do the same to both."""
    spec = {"name": "sr-implicit-downsampled", "args": {"inp_size": 20, "scale_max": 4, "augment": augment}}
    dataset = folder_of(positions, cache="in_memory")
    samples = data.make(spec, args={"dataset": dataset})
    sides, turned = set(), set()
    for i in range(40):
        sample = samples[i % 3]
        side = math.isqrt(len(sample["gt"]))
        assert side * side == len(sample["gt"])
        assert 20 <= side <= 80
        sides.add(side)
        assert torch.equal(sample["cell"], torch.full((side * side, 2), 2 / side))
        image = position_image(*dataset.size(i % 3))
        top, left, at = located(sample, image, side)
        crop = image[top : top + side, left : left + side]
        # undo the flips: the order of the queries tells them
        at = at.reshape(side, side, 2) - (top, left)
        transposed = at[0, 0, 0] != at[0, 1, 0]  # along a row of the crop the image's row changes
        if transposed:
            at = at.swapaxes(0, 1)
        flips = (at[0, 0, 0] != 0, at[0, 0, 1] != 0)
        turned.add((bool(transposed), *map(bool, flips)))
        assert np.array_equal(
            at, np.stack(np.mgrid[:side, :side], -1)[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
        )
        small = np.asarray(Image.fromarray(crop).resize((20, 20), Image.Resampling.BICUBIC))
        small = small[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
        small = small.swapaxes(0, 1) if transposed else small
        assert torch.equal(sample["inp"], torch.from_numpy(small.copy()).permute(2, 0, 1).float().div(255))
        r = 1 / side
        axis = -1 + r + (2 * r) * torch.arange(side).float()  # the official make_coord
        assert torch.equal(sample["coord"], torch.cartesian_prod(axis, axis))
    assert len(sides) > 15  # the scale is drawn for each sample
    assert len(turned) == (8 if augment else 1)


def test_queries_are_drawn_without_replacement(positions):
    spec = {"name": "sr-implicit-downsampled", "args": {"inp_size": 20, "scale_min": 2, "sample_q": 1500}}
    sample = data.make(spec, args={"dataset": folder_of(positions)})[0]
    assert sample["coord"].shape == sample["cell"].shape == (1500, 2)
    assert len(sample["coord"].unique(dim=0)) == 1500
    at = ((sample["coord"] + 1) * 40 / 2).floor()
    rgb = (sample["gt"] * 255).round()[:, :2]
    assert torch.equal(at - at.min(0).values, rgb - rgb.min(0).values)  # each colour belongs to its coordinate
    assert at.std(0).min() > 10  # from everywhere


@pytest.mark.parametrize("s", [2, 2.5, 3])
def test_whole_images_downsampled(positions, s):
    spec = {"name": "sr-implicit-downsampled", "args": {"scale_min": s}}
    sample = data.make(spec, args={"dataset": folder_of(positions)})[1]
    h, w = math.floor(160 / s + 1e-9), math.floor(220 / s + 1e-9)
    assert sample["inp"].shape == (3, h, w)
    assert len(sample["gt"]) == round(h * s) * round(w * s)


def test_paired(positions, tmp_path):
    low = tmp_path / "low"
    low.mkdir()
    for i, (h, w) in enumerate(((100, 75), (80, 110), (95, 95))):
        Image.fromarray(position_image(h, w)).save(low / f"{i}.png")
    pairs = data.make(
        {"name": "paired-image-folders", "args": {"root_path_1": str(low), "root_path_2": str(positions)}}
    )
    spec = {"name": "sr-implicit-paired", "args": {"inp_size": 16, "augment": False}}
    samples = data.make(spec, args={"dataset": pairs})
    for i in range(6):
        sample = samples[i % 3]
        inp, gt = (sample["inp"] * 255).round().long(), (sample["gt"] * 255).round().long()
        assert inp.shape == (3, 16, 16)
        assert len(gt) == 32 * 32
        assert (gt[0, 0], gt[0, 1]) == (2 * inp[0, 0, 0], 2 * inp[1, 0, 0])  # the same place at twice the size
        assert (gt[-1, 0], gt[-1, 1]) == (2 * inp[0, -1, -1] + 1, 2 * inp[1, -1, -1] + 1)
    whole = data.make({"name": "sr-implicit-paired", "args": {}}, args={"dataset": pairs})[0]
    assert whole["inp"].shape == (3, 100, 75)
    assert len(whole["gt"]) == 200 * 150


def test_uniform_varied(tmp_path):
    low = files.make_images(tmp_path / "low", sizes=((8, 8),) * 5)
    high = files.make_images(tmp_path / "high", sizes=((64, 64),) * 5)
    pairs = data.make({"name": "paired-image-folders", "args": {"root_path_1": str(low), "root_path_2": str(high)}})
    spec = {"name": "sr-implicit-uniform-varied", "args": {"size_min": 8, "size_max": 64, "augment": False}}
    samples = data.make(spec, args={"dataset": pairs})
    for i, side in enumerate((8, 22, 36, 50, 64)):  # from the first to the last
        sample = samples[i]
        assert torch.equal(sample["cell"], torch.full((side * side, 2), 2 / side))
        image = Image.open(high / f"{i:02}.png")
        want = np.asarray(image if side == 64 else image.resize((side, side), Image.Resampling.BICUBIC))
        assert torch.equal(sample["gt"], torch.from_numpy(want.copy()).flatten(0, 1).float().div(255))
    spec["args"] |= {"gt_resize": 64, "sample_q": 100, "augment": True}
    sample = data.make(spec, args={"dataset": pairs})[0]
    assert torch.equal(sample["cell"], torch.full((100, 2), 2 / 64))
    mirrored = {
        torch.equal(data.make(spec, args={"dataset": pairs})[0]["inp"], pairs[0][0].flip(-1)) for _ in range(20)
    }
    assert mirrored == {True, False}


# --- loaders ---


@pytest.mark.parametrize("n", [1, 2])
def test_workers_change_nothing(positions, n):
    dataset = folder_of(positions, repeat=3, cache="in_memory")
    spec = {
        "name": "sr-implicit-downsampled",
        "args": {"inp_size": 20, "scale_max": 4, "sample_q": 50, "augment": True},
    }
    samples = data.make(spec, args={"dataset": dataset})
    samples.prepare()
    batches = Batches(len(samples), 2, shuffle=True, seed=7)
    alone, helped = (list(make_loader(samples, batches, seed=7, num_workers=k)) for k in (0, n))
    assert len(alone) == 5
    for a, b in zip(alone, helped, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in ("inp", "coord", "cell", "gt"))
    assert not torch.equal(alone[0]["coord"][0], alone[0]["coord"][1])  # samples differ


def test_batches_in_few_bytes(positions):
    """What travels from the workers is uint8, and expands to what the official loader gives."""
    spec = {"name": "sr-implicit-downsampled", "args": {"inp_size": 20, "scale_min": 2, "sample_q": 50}}
    samples = data.make(spec, args={"dataset": folder_of(positions, cache="in_memory")})
    (batch,) = make_loader(samples, Batches(3, 3, shuffle=False, seed=0), seed=0, num_workers=0)
    assert batch["inp"].dtype == batch["gt"].dtype == torch.uint8
    assert batch["cell"].shape == (3, 2)
    full = expand(batch)
    assert {k: (t.dtype, tuple(t.shape)) for k, t in full.items()} == {
        "inp": (torch.float32, (3, 3, 20, 20)),
        "coord": (torch.float32, (3, 50, 2)),
        "cell": (torch.float32, (3, 50, 2)),
        "gt": (torch.float32, (3, 50, 3)),
    }
    assert expand(full).keys() == full.keys()


def test_number_of_workers(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert workers(None) == 1
    assert workers(5) == 5
