"""Samples made on the device: those that the wrapper would make of the same crops, however they are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import training_files as files

from liif_fast import data
from liif_fast.cli import main as cli
from liif_fast.data.loader import Batches
from liif_fast.data.on_device import Crops, OnDevice, hashed, reduced
from liif_fast.data.samples import centres
from liif_fast.images.resize import pil_bicubic, pil_weights
from liif_fast.training.config import ConfigError, check
from liif_fast.training.setup import build_samples
from liif_fast.training.step import hash_seed

CPU = torch.device("cpu")


def source(images, *, repeat=40, seed=3, batch_size=5, **wrapper) -> OnDevice:
    folder = data.ImageFolder(str(images), repeat=repeat, cache="device")
    wrapper = {"inp_size": 12, "scale_max": 4, "augment": True, "sample_q": 100} | wrapper
    samples = data.SRImplicitDownsampled(folder, **wrapper)
    return OnDevice(samples, Batches(len(samples), batch_size, shuffle=True, seed=seed), seed=seed, device=CPU)


@pytest.mark.parametrize("out", [5, 12, 48])
def test_reduction_is_pillows(out):
    """All sides from out to 4 out: bit for bit. Noise, and black and white where the filter overshoots."""
    rng = np.random.default_rng(out)
    most = 4 * out
    for low, high in ((0, 256), (0, 2)):
        sides = np.arange(out, most + 1)
        pixels = np.zeros((len(sides), most, most, 3), np.uint8)
        weights = np.zeros((len(sides), out, most))
        want = []
        for i, n in enumerate(sides):
            crop = rng.integers(low, high, (n, n, 3), dtype=np.uint8) * (255 if high == 2 else 1)
            pixels[i, :n, :n] = crop
            weights[i, :, :n] = pil_weights(int(n), out)
            want.append(pil_bicubic(crop, (out, out)))
        got = reduced(torch.from_numpy(pixels).transpose(1, 2), torch.from_numpy(weights))
        assert np.array_equal(got.numpy(), np.stack(want))


def test_weights_of_one_axis():
    """The expression of the docstring, reducing and enlarging."""
    row = np.random.default_rng(1).integers(0, 256, 37)
    for out in (5, 36, 37, 38, 90):
        got = (pil_weights(37, out) @ row + 2**21 >> 22).clip(0, 255)
        assert np.array_equal(got, pil_bicubic(row.astype(np.uint8)[None], (1, out))[0])


def by_the_wrapper(made: OnDevice, keys) -> list[dict[str, np.ndarray]]:
    """The samples of ``keys`` in plain NumPy and Pillow from the crops and choices that were drawn."""
    crops = Crops(made, torch.tensor(keys))
    chosen = crops.chosen().numpy()
    found = []
    for b, (index, _, _) in enumerate(keys):
        image = made.samples.dataset.pixels(index)
        height, width = image.shape[:2]
        side = int(crops.side[b])
        first = int(crops.corner[b] - made.start[index % len(made.sizes)])
        y, x = divmod(first, width)
        assert 0 <= y <= height - side
        assert 0 <= x <= width - side
        high = image[y : y + side, x : x + side]
        low = pil_bicubic(high, (made.samples.inp_size,) * 2)
        if made.samples.augment:
            flip_rows, flip_columns, transpose = crops.turns[b].tolist()
            for flip, axis in ((flip_rows, 0), (flip_columns, 1)):
                low, high = (np.flip(t, axis) if flip else t for t in (low, high))
            low, high = (t.swapaxes(0, 1) if transpose else t for t in (low, high))
        rows, columns = np.divmod(chosen[b], side)
        assert len(set(chosen[b])) == len(chosen[b])
        coord = np.stack([centres(side)[rows], centres(side)[columns]], -1)
        cell = np.float32([2 / side, 2 / side])
        found.append({"inp": low.transpose(2, 0, 1), "coord": coord, "cell": cell, "gt": high[rows, columns]})
    return found


@pytest.mark.parametrize(
    "wrapper",
    [{}, {"augment": False}, {"scale_min": 4, "scale_max": None, "sample_q": None}, {"scale_max": 1, "sample_q": 144}],
    ids=["range", "as it is", "whole crops", "scale 1"],
)
def test_samples_are_those_of_the_wrapper(images, wrapper):
    made = source(images, **wrapper)
    for keys, batch in zip(made.batches, made, strict=True):
        for b, want in enumerate(by_the_wrapper(made, keys)):
            for name, value in want.items():
                assert np.array_equal(batch[name][b].numpy(), value), name


def test_what_is_drawn_is_spread_evenly(images):
    """3,000 samples: scales, places, turns and queries cover their ranges; means within 5 standard deviations."""
    made = source(images, repeat=750, batch_size=3000)
    keys = next(iter(made.batches))
    crops = Crops(made, torch.tensor(keys))
    n = len(keys)
    assert crops.side.min() == 12
    assert crops.side.max() == 48
    # round(12 s) with s uniform in [1, 4]
    assert abs(crops.side.double().mean() - 30) < 5 * 36 / math.sqrt(12 * n)
    for turn in crops.turns.T:
        assert abs(turn.double().mean() - 0.5) < 5 * 0.5 / math.sqrt(n)
    sizes = made.sizes[torch.tensor(keys)[:, 0] % len(made.sizes)]
    first = crops.corner - made.start[torch.tensor(keys)[:, 0] % len(made.sizes)]
    for i, at in enumerate((first // crops.width, first % crops.width)):
        room = sizes[:, i] - crops.side
        assert abs((at[room > 0] / room[room > 0]).mean() - 0.5) < 5 * 0.4 / math.sqrt(n)
        assert (at == 0).any()
        assert (at == room).any()
    relative = crops.chosen() / (crops.side**2 - 1)[:, None]
    assert abs(relative.mean() - 0.5) < 5 * 0.3 / math.sqrt(n * 100)
    lagged = torch.stack([crops.side.double(), first.double() / crops.width, crops.turns[:, 0].double()])
    lagged = torch.corrcoef(torch.cat([lagged[:, 1:], lagged[:, :-1]]))  # with each other, and with the next sample's
    assert lagged[0, 2:].abs().max() < 5 / math.sqrt(n)
    assert lagged[2, 3:].abs().max() < 5 / math.sqrt(n)


def test_a_sample_depends_on_its_key_alone(images):
    made, again, other = source(images), source(images, batch_size=16), source(images, seed=4)
    keys = [(i, 2, 7 * i) for i in range(8)]
    whole = made.batch(keys)
    parts = [again.batch(keys[i : i + 2]) for i in range(0, 8, 2)]
    for name, value in whole.items():
        assert torch.equal(value, torch.cat([p[name] for p in parts]))
    assert not torch.equal(whole["inp"], other.batch(keys)["inp"])
    assert not torch.equal(whole["inp"], made.batch([(i, 3, p) for i, _, p in keys])["inp"])


def test_hash_is_the_trainers():
    numbers = (2**62 + 5, 3, 10**6)
    assert hashed(*numbers).item() == hash_seed(*numbers)
    assert hashed(7, torch.tensor([0, 1])).tolist() == [hash_seed(7, 0), hash_seed(7, 1)]


@pytest.fixture
def run(images, tmp_path, capsys):
    def call(*arguments, folder="run", **changes):
        changes = {"train_dataset__dataset__args__cache": "device", **changes}
        config = files.write(tmp_path / f"{folder}.yaml", files.configuration(images, **changes))
        code = cli.main(["train", str(config), "--save", str(tmp_path / folder), *arguments])
        _, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return tmp_path / folder

    return call


def test_training_resumes_bit_for_bit(run):
    whole = run(folder="whole", epoch_max=4, save_steps=1)
    run(epoch_max=2)
    resumed = run("--resume", epoch_max=4)
    assert files.losses(resumed) == files.losses(whole)
    assert len(files.losses(whole)) == 16
    assert files.epochs(resumed) == files.epochs(whole)
    assert files.same(files.weights(resumed), files.weights(whole))
    losses = [r["loss"] for r in files.epochs(whole)]
    assert losses[-1] < losses[0]


def refused(images, **changes) -> str:
    config = check(files.configuration(images, train_dataset__dataset__args__cache="device", **changes))
    with pytest.raises(ConfigError) as caught:
        build_samples("train_dataset", config.train_dataset)
    return str(caught.value)


def test_what_the_device_cannot_do_is_said(images):
    wrapper = "train_dataset__wrapper__args__"
    assert "inp_size" in refused(images, **{wrapper + "inp_size": None}, train_dataset__batch_size=1)
    assert "sample_q" in refused(images, **{wrapper + "sample_q": None}, train_dataset__batch_size=1)
    paired = {"name": "paired-image-folders", "args": {"root_path_1": str(images), "root_path_2": str(images)}}
    paired["args"]["cache"] = "device"
    wrapper = {"name": "sr-implicit-paired", "args": {"inp_size": 12}}
    spec = check(files.configuration(images, train_dataset={"dataset": paired, "wrapper": wrapper, "batch_size": 2}))
    with pytest.raises(ConfigError, match="sr-implicit-downsampled"):
        build_samples("train_dataset", spec.train_dataset)
