"""Streams of a caller who has modes of his own, stops early, or waits in another thread."""

from __future__ import annotations

import itertools
import os
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast.images.photo import Photo


@pytest.fixture
def model(tiny):
    return tiny(hidden=[8, 8]).eval()


def noise(n, size=(20, 30)):
    return list(np.random.default_rng(0).integers(0, 256, (n, *size, 3), np.uint8))


def blocking(release, n=9):
    """Frames of which the one after n does not come."""
    yield from noise(n)
    release.wait(60)


def test_autocast_is_that_of_the_caller(model):
    frames = [torch.from_numpy(x).permute(2, 0, 1) / 255 for x in noise(2)]
    with torch.autocast("cpu", torch.bfloat16):
        want = [model.upscale(x, scale=2) for x in frames]
        got = list(model.stream(frames, scale=2))
    assert all(map(torch.equal, want, got))
    assert not torch.equal(want[0], model.upscale(frames[0], scale=2))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_frames_are_made_with_the_callers_gradients(model, mode):
    layer, seen = torch.nn.Conv2d(3, 3, 1), []

    def frames():
        for x in noise(3):
            made = layer(torch.from_numpy(x).permute(2, 0, 1)[None] / 255).sigmoid()
            seen.append((made.requires_grad, torch.is_inference_mode_enabled()))
            yield made

    with mode():
        got = list(model.stream(frames(), scale=0.5))
        want = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    assert seen == [want] * 3
    assert not any(x.requires_grad for x in got)


def test_dtypes_that_change_where_the_size_does_not(model):
    one, other, third = noise(3)
    frames = [one, other.astype(np.uint16) * 257, third.astype(np.float32) / 255]
    for frame, large in zip(frames, model.stream(frames, scale=2), strict=True):
        np.testing.assert_array_equal(large, model.upscale(frame, scale=2))


def test_notes_of_frames_are_said(model):
    with pytest.warns(UserWarning, match="CMYK converted"):
        list(model.stream([Image.fromarray(x).convert("CMYK") for x in noise(2)], scale=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="CMYK converted"):
            list(model.stream([Image.fromarray(noise(1)[0]).convert("CMYK")], scale=1))


def test_photos_with_alpha(model):
    photo = Photo(noise(1)[0], noise(1)[0][..., 0].copy())
    (large,) = model.stream([photo], scale=2)
    np.testing.assert_array_equal(large.alpha, model.upscale(photo, scale=2).alpha)


def test_frames_that_do_not_come_are_not_waited_for(model):
    release, got = threading.Event(), []
    running = model.stream(blocking(release), scale=2)
    for _ in range(9):
        next(running)
    consumer = threading.Thread(target=lambda: got.append(next(running, "ended")), daemon=True)
    consumer.start()
    time.sleep(0.1)
    start = time.monotonic()
    running.close(patience=0.1)
    consumer.join(30)
    assert got == ["ended"]
    assert time.monotonic() - start < 30
    (reader,) = [x for x in running._work.threads if x.is_alive()]
    release.set()
    reader.join(30)
    assert not reader.is_alive()
    assert next(running, None) is None


def test_what_is_computed_is_dropped_and_the_frames_are_ended(model):
    ended = []

    def frames():
        try:
            while True:
                yield noise(1)[0]
        finally:
            ended.append(True)

    running = model.stream(frames(), scale=2)
    next(running)
    running.close()
    assert ended
    assert running._work.inbox.empty()
    assert running._moving._last is None
    assert running._moving._kind is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told(model):
    running = model.stream(itertools.repeat(noise(1)[0]), scale=1)
    next(running)
    if not (child := os.fork()):
        code = 1
        try:
            for _ in range(5):
                next(running)
        except RuntimeError as error:
            code = 0 if "forked process" in str(error) else 2
        finally:
            os._exit(code)
    end = time.monotonic() + 60
    while not (found := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.05)
    if not found[0]:
        os.kill(child, 9)
        os.waitpid(child, 0)
    running.close()
    assert found == (child, 0)
