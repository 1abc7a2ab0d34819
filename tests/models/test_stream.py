"""Frames of a video: what ``upscale`` makes of each, without computing again what has not changed."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast.models import stream, tile_size, tiles, unchanged


@pytest.fixture
def model(tiny):
    return tiny(hidden=[8, 8]).eval()


def noise(n, size=(20, 30), seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, *size, 3), np.uint8))


def screen(n, size=(150, 170)):
    """A still page on which a small square moves, and now and then nothing does."""
    page = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    frames = []
    for i in range(n):
        frame = page.copy()
        at = 4 * (i - i // 3)
        frame[at : at + 5, at : at + 5] = 255
        frames.append(frame)
    return frames


@pytest.mark.parametrize("how", [{"scale": 2}, {"size": (13, 77)}, {"scale": 1.5, "window": (1.5, 2, 9, 11)}])
def test_each_frame_is_what_upscale_makes(model, how):
    frames = noise(5)
    got = list(model.stream(iter(frames), **how))
    assert len(got) == 5
    for frame, large in zip(frames, got, strict=True):
        np.testing.assert_array_equal(large, model.upscale(frame, **how))


@pytest.mark.parametrize(
    "kind",
    [
        lambda a: a,
        lambda a: a[..., 0].copy(),
        lambda a: a.astype(np.uint16) * 257,
        lambda a: Image.fromarray(a),
        lambda a: torch.from_numpy(a).permute(2, 0, 1),
        lambda a: torch.from_numpy(a).permute(2, 0, 1).float() / 255,
        lambda a: np.concatenate([a, a[..., :1] // 128 * 255], -1),
        lambda a: Image.fromarray(a).convert("RGBA"),
    ],
)
def test_all_kinds_of_frames(model, kind):
    frames = [kind(a) for a in noise(3)]
    for frame, large in zip(frames, model.stream(frames, scale=2), strict=True):
        assert type(large) is type(frame)
        np.testing.assert_array_equal(np.asarray(large), np.asarray(model.upscale(frame, scale=2)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_dtypes(model, dtype):
    frames = noise(3)
    got = list(model.stream(frames, scale=2, dtype=dtype))
    np.testing.assert_array_equal(got[0], model.upscale(frames[0], scale=2, dtype=dtype))
    refreshed = list(model.stream(frames, scale=2, dtype=dtype, refresh=1))  # int8: calibrated on each
    for frame, large in zip(frames, refreshed, strict=True):
        np.testing.assert_array_equal(large, model.upscale(frame, scale=2, dtype=dtype))


def test_unchanged_tiles_are_not_computed_and_no_bit_differs(model, monkeypatch):
    frames, computed = screen(12), []
    once = tiles._upscale_tile
    monkeypatch.setattr(tiles, "_upscale_tile", lambda *a: computed.append(a[4]) or once(*a))
    with model.stream(frames, scale=2, tile=32) as running:
        got = list(running)
    reused = len(computed)
    computed.clear()
    every = list(model.stream(frames, scale=2, tile=32, reuse=False))
    for one, other in zip(got, every, strict=True):
        np.testing.assert_array_equal(one, other)
    assert running.frames == 12
    assert running.frames_reused == 3
    assert running.tiles == len(computed)
    assert running.tiles - running.tiles_reused == reused < len(computed) / 3


def test_small_tiles_are_chosen_where_little_moves(model):
    for frames, few in ((screen(9), False), (noise(9, (150, 170)), True)):
        running = model.stream(frames, scale=2)
        got = list(running)
        assert (running.tiles == len(frames)) == few
        for frame, large in zip(frames, got, strict=True):
            assert np.abs(large.astype(int) - model.upscale(frame, scale=2)).max() <= 1  # other tiles round otherwise


def test_a_run_that_resumes_at_a_refresh_has_the_same_bits(model):
    frames = screen(6) + noise(5, (150, 170)) + screen(7)
    whole = list(model.stream(frames, scale=2, refresh=4))
    for start in (4, 8, 12):
        for one, other in zip(whole[start:], model.stream(frames[start:], scale=2, refresh=4), strict=True):
            np.testing.assert_array_equal(one, other)


def test_results_are_the_callers_own(model):
    """Writing to one does not change those to come; nor does a source that uses one array for all its frames."""
    page, moved = screen(2)

    def one_array():
        frame = page.copy()
        for i in range(6):
            frame[...] = page if i % 2 else moved
            yield frame
            frame[...] = 0

    want = [model.upscale(x, scale=2) for x in (moved, page)]
    for i, large in enumerate(model.stream(one_array(), scale=2)):
        assert np.abs(large.astype(int) - want[i % 2]).max() <= 1
        large[...] = 7


def test_frames_of_other_sizes_and_dtypes(model):
    frames = [*noise(2), *noise(2, (9, 8)), *(x.astype(np.uint16) * 257 for x in noise(2))]
    for frame, large in zip(frames, model.stream(frames, scale=2), strict=True):
        np.testing.assert_array_equal(large, model.upscale(frame, scale=2))


def test_models_without_tiles_reuse_whole_frames(model):
    del model.encoder.receptive_field
    frames = [x for x in noise(3) for _ in range(2)]
    running = model.stream(frames, scale=2)
    for frame, large in zip(frames, running, strict=True):
        np.testing.assert_array_equal(large, model.upscale(frame, scale=2))
    assert (running.frames_reused, running.tiles_reused) == (3, 3)


def test_results_come_while_frames_are_read(model):
    first = threading.Event()

    def frames():
        yield from noise(stream._AHEAD + stream._READY + 1)
        assert first.wait(60)
        yield from noise(2)

    got = 0
    for _ in model.stream(frames(), scale=1):
        first.set()
        got += 1
    assert got == stream._AHEAD + stream._READY + 3


def test_errors_come_in_their_turn(model):
    def frames():
        yield from noise(2)
        raise OSError("the camera is gone")

    running = model.stream(frames(), scale=2)
    assert len([next(running), next(running)]) == 2
    with pytest.raises(OSError, match="the camera is gone"):
        next(running)
    assert next(running, "ended") == "ended"

    running = model.stream([*noise(1), "frame.png"], scale=2)
    next(running)
    with pytest.raises(TypeError, match="image"):
        next(running)
    with torch.no_grad():
        model.encoder.first.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        next(model.stream(noise(1), scale=2))


def test_threads_end(model):
    def ours():
        return [t for t in threading.enumerate() if "_run" in t.name]

    endless = model.stream(itertools.cycle(noise(2)), scale=2)
    next(endless)
    assert ours()
    endless.close()
    assert not ours()
    assert next(endless, None) is None
    forgotten = model.stream(itertools.cycle(noise(2)), scale=2)
    next(forgotten)
    del forgotten
    assert not ours()
    list(model.stream(noise(3), scale=2))
    assert not ours()


@pytest.mark.parametrize(
    ("frames", "options", "error", "match"),
    [
        (np.zeros((4, 4, 3), np.uint8), {"scale": 2}, TypeError, r"frames: .*one image \[4, 4, 3\]"),
        (3, {"scale": 2}, TypeError, "frames: an iterable of images is wanted, got int"),
        ([], {}, ValueError, "either scale or size"),
        ([], {"scale": -1}, ValueError, "scale"),
        ([], {"size": (0, 1)}, ValueError, "size"),
        ([], {"scale": 2, "window": (1, 2)}, ValueError, "window"),
        ([], {"scale": 2, "tile": -1}, ValueError, "tile"),
        ([], {"scale": 2, "dtype": torch.float64}, ValueError, "dtype"),
        ([], {"scale": 2, "refresh": 0}, ValueError, "refresh: a number of frames"),
    ],
)
def test_wrong_arguments_are_said_at_once(model, frames, options, error, match):
    with pytest.raises(error, match=match):
        model.stream(frames, **options)


def test_no_frames(model):
    assert list(model.stream([], scale=2)) == []


def test_touched_is_its_definition():
    plan = list(tiles.plan((40, 50), (80, 100), 16, 5))
    rng = np.random.default_rng(0)
    for _ in range(20):
        changed = torch.from_numpy(rng.random((40, 50)) < 0.002)
        want = [t for t in plan if changed[slice(*t.inp[0]), slice(*t.inp[1])].any()]
        one = torch.from_numpy(rng.integers(0, 256, (2, 3, 40, 50), np.uint8))
        other = one.clone()
        other[1, 2][changed] += 1
        assert unchanged.touched(plan, one, other) == want
        assert unchanged.touched(plan, one, one.clone()) == []
        for tile in plan[::5]:
            assert unchanged.touched([tile], one, other) == [tile] * (tile in want)


def test_small_tiles_are_as_small_as_tiles_get(model):
    assert tile_size.smallest(model) == 32
