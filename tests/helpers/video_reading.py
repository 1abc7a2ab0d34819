"""Videos read as the tests of reading want them: whole, or refused; and files that are made of others."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from liif_fast.video.kinds import VideoError
from liif_fast.video.source import open_source


def frames(path: Path, *how, **also) -> list:
    with open_source(path) as source:
        return list(source.frames(*how, **also))


def error(pixels: np.ndarray, want: np.ndarray) -> float:
    """The largest, from 0 to 1, where halved chroma has no edges."""
    return np.abs(pixels / (255 if pixels.dtype == np.uint8 else 65535) - want)[:14, :-2].max()


def refused(path: Path | str, **how) -> str:
    """The line of what is refused, at once or while frames are read."""
    with pytest.raises(VideoError) as caught, open_source(path, **how) as source:
        list(source.frames())
    text = str(caught.value)
    assert "\n" not in text
    assert "standard input" in text or str(path) in text
    return text


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def remuxed(clip: Path, to: Path, change, **how) -> Path:
    """Sound as it is; the video's packets as ``change`` (of a packet and its number) makes them, if it gives True."""
    with av.open(str(clip)) as source, av.open(str(to), "w", **how) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams if s.type in ("video", "audio")}
        count = 0
        for packet in source.demux(*(source.streams[i] for i in streams)):
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                kept, count = change(packet, count), count + 1
                if not kept:
                    continue
            packet.stream = streams[packet.stream_index]
            out.mux(packet)
    return to


def at(times):
    """Gives the packets these times, in ms."""

    def change(packet, index):
        packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), times[index], index - 100
        return True

    return change
