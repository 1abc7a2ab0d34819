"""The frames of a video, enlarged one after the other while the next are read: PyAV around ``model.stream``.

    pip install ".[video]"
    python examples/video_frames.py clip.mp4 large.mp4 --scale 2

Pictures alone, in one rate, 8 bits. The command ``liif-fast video clip.mp4 -o large.mp4 -s 2`` keeps sound, subtitles,
times, colours and rotation as well; this is for programs that do something of their own with each frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
from PIL import Image

import liif_fast


def frames(container: av.container.InputContainer) -> Iterator[Image.Image]:
    for frame in container.decode(video=0):
        yield frame.to_image()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--model", default="edsr-baseline-liif", help="a name or a checkpoint file")
    args = parser.parse_args()

    model, done, stream = liif_fast.load(args.model), 0, None
    with av.open(str(args.video)) as source, av.open(str(args.output), "w") as target:
        for large in model.stream(frames(source), scale=args.scale):
            if stream is None:
                stream = target.add_stream("libx264", rate=source.streams.video[0].average_rate)
                # H.264 in yuv420p has even sides
                stream.width, stream.height, stream.pix_fmt = large.width // 2 * 2, large.height // 2 * 2, "yuv420p"
            even = large.crop((0, 0, stream.width, stream.height))
            target.mux(stream.encode(av.VideoFrame.from_image(even)))
            done += 1
        if stream is not None:
            target.mux(stream.encode())
    print(f"{args.output}: {done} frames")


if __name__ == "__main__":
    main()
