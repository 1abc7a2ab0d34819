"""Small videos for the tests of reading and writing them; their colours by the formulas of H.273 in float64."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

KR_KB = {1: (0.2126, 0.0722), 4: (0.3, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
KR_KB[9] = (0.2627, 0.0593)
# white, yellow, cyan, green, magenta, red, blue, black, at 75 %, then greys and saturated ones
BARS = np.array(
    [(r, g, b) for r, g, b in [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)]],
    float,
)
PATCHES = np.concatenate([0.75 * BARS, BARS, [[0.25] * 3, [0.5] * 3, [0.9, 0.6, 0.5], [0.1, 0.3, 0.2]]])


def bars(size: tuple[int, int] = (160, 48), patches: np.ndarray = PATCHES) -> np.ndarray:
    """R'G'B' [H, W, 3] from 0 to 1: upright bars of equal width; size is (width, height)."""
    width, height = size
    return np.repeat(patches[np.arange(width) * len(patches) // width][None], height, 0)


def moving(index: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """R'G'B' [H, W, 3] from 0 to 1: a smooth ground and a white square that moves by 2 pixels a frame."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    picture = np.stack([0.2 + 0.6 * x / width, 0.2 + 0.6 * y / height, np.full(x.shape, 0.4)], 2)
    left, top, side = 2 * index % max(1, width - 8), height // 3, max(1, min(width, height) // 6)
    picture[top : top + side, left : left + side] = 1.0
    return picture


def components(rgb: np.ndarray, matrix: int, full_range: bool, bits: int) -> np.ndarray:
    """Y'CbCr [H, W, 3] of R'G'B' from 0 to 1, in units of a code of ``bits``, not rounded (H.273, 8.3)."""
    kr, kb = KR_KB[matrix]
    luma = rgb @ np.array([kr, 1 - kr - kb, kb])
    blue, red = (rgb[..., 2] - luma) / (2 * (1 - kb)), (rgb[..., 0] - luma) / (2 * (1 - kr))
    top, half, unit = 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 8)
    if full_range:
        return np.stack([top * luma, top * blue + half, top * red + half], -1)
    return np.stack([unit * (219 * luma + 16), unit * 224 * blue + half, unit * 224 * red + half], -1)


def rgb_of(ycc: np.ndarray, matrix: int, full_range: bool, bits: int) -> np.ndarray:
    """The way back: R'G'B' from 0 to 1, not clipped."""
    kr, kb = KR_KB[matrix]
    top, half, unit = 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 8)
    scales = (top, top, top) if full_range else (219 * unit, 224 * unit, 224 * unit)
    luma, blue, red = ((ycc[..., i] - (half if i else (0 if full_range else 16 * unit))) / scales[i] for i in range(3))
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    return np.stack([r, (luma - kr * r - kb * b) / (1 - kr - kb), b], -1)


def _halved(plane: np.ndarray, across: int, down: int) -> np.ndarray:
    """Chroma at the left of each pair across, between each pair down: MPEG-2's places."""
    if across > 1:
        padded = np.pad(plane, ((0, 0), (1, 1)), "edge")
        plane = ((padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4)[:, ::2]
    if down > 1:
        plane = np.pad(plane, ((0, plane.shape[0] % 2), (0, 0)), "edge")
        plane = (plane[::2] + plane[1::2]) / 2
    return plane


def picture_frame(rgb: np.ndarray, pixel_format: str, matrix: int = 6, full_range: bool = False) -> av.VideoFrame:
    """R'G'B' from 0 to 1 as a frame of a planar format, grey or rgb24; its tags are unset."""
    height, width = rgb.shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    bits = frame.format.components[0].bits
    if frame.format.is_rgb:
        code = (2**bits - 1) * rgb
        planes = [code[..., i] for i in (1, 2, 0)] if pixel_format.startswith("gbr") else [code.reshape(height, -1)]
    else:
        code = components(rgb, matrix, full_range or pixel_format.startswith("yuvj"), bits)
        planes = [code[..., 0]]
        for i, plane in enumerate(frame.planes[1:3], 1):
            planes.append(_halved(code[..., i], -(-width // plane.width), -(-height // plane.height)))
    for plane, values in zip(frame.planes, planes, strict=False):
        values = np.clip(np.rint(values), 0, 2**bits - 1).astype(np.uint8 if bits == 8 else "<u2")
        rows = np.zeros((values.shape[0], plane.line_size), np.uint8)
        rows[:, : values[0].nbytes] = values.view(np.uint8).reshape(values.shape[0], -1)
        plane.update(np.pad(rows.reshape(-1), (0, plane.buffer_size - rows.size)).tobytes())
    return frame


def make_clip(
    path: Path,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    rate: int | Fraction = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    audio: bool = False,
    subtitles: bool = False,
    chapters: bool = False,
    times: Sequence[int] | None = None,
    matrix: int = 2,
    full_range: bool | None = None,
    primaries: int = 2,
    transfer: int = 2,
    sample_aspect: Fraction | None = None,
    rotation: int = 0,
    interlaced: bool = False,
    pictures: Sequence[np.ndarray] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, Any] | None = None,
) -> Path:
    """A video as FFmpeg writes it; returns ``path``, whose suffix says the container.

    Args:
        size: (width, height).
        times: of each frame, in milliseconds; None: at ``rate``.
        matrix, primaries, transfer: H.273's numbers; 2 leaves them untold, and the matrix is then BT.601's.
        full_range: None leaves the range untold.
        rotation: degrees by which players turn the picture, counterclockwise.
        pictures: R'G'B' [H, W, 3] from 0 to 1, for the frames in turn; None: ``moving``.
        options: of the encoder; None: lossless for x264.
        container: more arguments of ``av.open``.
    """
    if options is None:
        options = {"qp": "0", "preset": "ultrafast"} if codec == "libx264" else {}
    if interlaced:
        options = options | ({"x264-params": "tff=1"} if codec == "libx264" else {})
    with av.open(str(path), "w", **(container or {})) as out:
        video = out.add_stream(codec, rate=rate, options=options, width=size[0], height=size[1])
        video.pix_fmt, context = pixel_format, video.codec_context
        context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
        context.color_range = 0 if full_range is None else 1 + full_range
        context.time_base = Fraction(1, 1000) if times is not None else 1 / Fraction(rate)
        if interlaced:
            context.flags |= 0x40000 | 0x20000000  # interlaced DCT and motion
        if sample_aspect is not None:
            context.sample_aspect_ratio = sample_aspect
        if rotation:
            video.set_display_rotation(rotation)
        seconds = (times[-1] + 40) / 1000 if times is not None else float(frames / Fraction(rate))
        sound = out.add_stream("pcm_s16le" if path.suffix == ".avi" else "aac", rate=48000) if audio else None
        mov = path.suffix in (".mp4", ".mov")
        words = out.add_mux_stream("mov_text" if mov else "subrip") if subtitles else None
        if chapters:
            half = int(500 * seconds)
            out.set_chapters(
                [
                    {"id": i, "start": i * half, "end": (i + 1) * half, "time_base": Fraction(1, 1000),
                     "metadata": {"title": f"part {i + 1}"}}
                    for i in range(2)
                ]
            )  # fmt: skip
        for i in range(frames):
            rgb = moving(i, size) if pictures is None else pictures[i % len(pictures)]
            frame = picture_frame(rgb, pixel_format, 6 if matrix == 2 else matrix, bool(full_range))
            frame.pts, frame.time_base = (i if times is None else times[i]), context.time_base
            frame.colorspace, frame.color_range = matrix, context.color_range
            frame.color_primaries, frame.color_trc = primaries, transfer
            out.mux(video.encode(frame))
        if sound is not None:
            _write_sound(out, sound, seconds)
        if words is not None:
            _write_subtitles(out, words, seconds, mov)
        out.mux(video.encode())
    return path


def _write_sound(out: av.container.OutputContainer, stream: Any, seconds: float) -> None:
    """A tone that rises, mono."""
    n, size = round(48000 * seconds), stream.codec_context.frame_size or 1024
    tone = np.sin(2 * np.pi * np.cumsum(np.linspace(200, 2000, n)) / 48000)
    for start in range(0, n, size):
        part = (16000 * tone[start : start + size]).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _write_subtitles(out: av.container.OutputContainer, stream: Any, seconds: float, mov: bool) -> None:
    for i in range(2):
        text = f"line {i + 1}".encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text if mov else text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = int(500 * seconds * i)
        packet.duration = int(400 * seconds)
        out.mux(packet)


def cut(path: Path, share: float) -> Path:
    """The file's beginning alone, as a copy that was broken off leaves it."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
