"""Parts of animated PNGs put together: every disposal and blending in every kind of pixel, against plain arithmetic."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_bytes import chunk
from image_files import wrote

from liif_fast.images import apng
from liif_fast.images.files import ImageError, read
from liif_fast.images.frames import frames_of

WIDTH, HEIGHT = 12, 10
PALETTE = np.random.default_rng(5).integers(0, 256, (16, 3), dtype=np.uint8)
COVER = np.array([0, 255, *np.random.default_rng(6).integers(0, 256, 14)], np.uint8)
KINDS = {  # colour type, channels, depth, chunks
    "rgba": (6, 4, 8, b""),
    "rgb": (2, 3, 8, b""),
    "grey": (0, 1, 8, b""),
    "grey with alpha": (4, 2, 8, b""),
    "palette": (3, 1, 8, chunk(b"PLTE", PALETTE.tobytes()) + chunk(b"tRNS", COVER.tobytes())),
    "key": (2, 3, 8, chunk(b"tRNS", struct.pack(">3H", 128, 0, 128))),
    "grey key": (0, 1, 8, chunk(b"tRNS", struct.pack(">H", 128))),
    "16 bits": (6, 4, 16, b""),
    "grey of 16 bits": (0, 1, 16, b""),
}


def colours(kind: str, samples: np.ndarray) -> np.ndarray:
    """RGBA of 8 bits."""
    depth = KINDS[kind][2]
    values = np.rint(samples / 257).astype(int) if depth == 16 else samples
    opaque = np.full((*values.shape[:2], 1), 255)
    if kind == "palette":
        return np.concatenate([PALETTE[values[..., 0]], COVER[values[..., 0]][..., None]], 2)
    if "key" in kind:
        key = [128] if "grey" in kind else [128, 0, 128]
        opaque = np.where((values == key).all(2), 0, 255)[..., None]
    if values.shape[2] in (2, 4):
        values, opaque = values[..., :-1], values[..., -1:]
    return np.concatenate([np.broadcast_to(values, (*values.shape[:2], 3)), opaque], 2)


def animation(kind: str, seed: int) -> tuple[bytes, list[np.ndarray]]:
    """A file of four frames, and what is to be seen: RGBA of each."""
    rng = np.random.default_rng(seed)
    colour, channels, depth, more = KINDS[kind]
    data = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, 0))
    data += chunk(b"acTL", struct.pack(">II", 4, 0)) + more
    canvas, seen, number = np.zeros((HEIGHT, WIDTH, 4)), [], 0
    for i in range(4):
        x, y = (int(rng.integers(0, n)) if i else 0 for n in (8, 6))
        w, h = (int(rng.integers(1, n + 1)) if i else n for n in (WIDTH - x, HEIGHT - y))
        samples = rng.integers(0, 16 if kind == "palette" else 2**depth, (h, w, channels))
        samples = samples // 128 * 128 if "key" in kind else samples
        disposal, over = int(rng.integers(0, 3)), int(rng.integers(0, 2))
        data += chunk(b"fcTL", struct.pack(">5IHHBB", number, w, h, x, y, 50, 1000, disposal, over))
        packed = zlib.compress(b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in samples))
        data += chunk(b"fdAT", struct.pack(">I", number + 1) + packed) if i else chunk(b"IDAT", packed)
        number += 2 if i else 1
        before, own = canvas.copy(), colours(kind, samples).astype(float)
        place = canvas[y : y + h, x : x + w]
        if over:
            new, old = own[..., 3:] / 255, place[..., 3:] / 255
            both = new + old * (1 - new)
            own[..., :3] = (own[..., :3] * new + place[..., :3] * old * (1 - new)) / np.maximum(both, 1e-9)
            own[..., 3:] = both * 255
        place[:] = own
        seen.append(canvas.copy())
        if disposal == 1:
            place[:] = 0
        elif disposal == 2:
            canvas = before
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b""), seen


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_what_the_standard_says(tmp_path, kind):
    for seed in range(20):
        data, wanted = animation(kind, seed)
        path = wrote(tmp_path, data)
        found = list(frames_of(read(path), path, "PNG"))
        assert len({photo.alpha is None for photo in found}) == 1
        for photo, want in zip(found, wanted, strict=True):
            alpha = np.full((HEIGHT, WIDTH), 255) if photo.alpha is None else photo.alpha
            assert np.abs(alpha - want[..., 3]).max() <= 3, seed  # of 16 bits Pillow gives the upper 8
            seen = want[..., 3] > 40  # of thinner ones 8 bits do not say the colour
            assert np.abs(photo.pixels - want[..., :3])[seen].max(initial=0) <= 8, seed
            assert photo.milliseconds == 50


def test_frames_that_are_cut_off_or_reach_beyond(tmp_path):
    data, _ = animation("rgb", 0)
    path = wrote(tmp_path, data)
    found = frames_of(read(path), path, "PNG")
    wrote(tmp_path, data[:-12])
    with pytest.raises(ImageError, match=r"x\.png: cannot be decoded \(image file is truncated\); get a complete"):
        list(found)
    narrow = chunk(b"IHDR", struct.pack(">II", WIDTH - 1, HEIGHT) + data[24:29])
    with pytest.raises(ValueError, match="a frame reaches beyond the picture"):
        next(apng.frames(io.BytesIO(data[:8] + narrow + data[33:]), []))
