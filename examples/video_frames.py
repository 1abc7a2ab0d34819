"""The frames of a video, enlarged one after the other while the next are read: PyAV around ``model.stream``.

    pip install ".[video]"
    python examples/video_frames.py clip.mp4 large.mp4 --scale 2

Pictures alone, in one rate, 8 bits, not turned; written as BT.709, which is said in the file. The command ``liif-fast
video clip.mp4 -o large.mp4 -s 2`` keeps sound, subtitles, times, colours and rotation as well, and its output is whole
or not there; this is for programs that do something of their own with each frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

import liif_fast

BT709, LIMITED = 1, 1  # as H.273 numbers matrix, primaries and transfer; and FFmpeg the range


def frames(container: av.container.InputContainer) -> Iterator[Image.Image]:
    for frame in container.decode(video=0):
        yield frame.to_image()  # by the matrix and range that the file tells


def coded(picture: Image.Image) -> av.VideoFrame:
    frame = av.VideoFrame.from_image(picture)
    settings = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
    made: av.VideoFrame = frame.reformat(format="yuv420p", **settings)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--model", default="edsr-baseline-liif", help="a name or a checkpoint file")
    args = parser.parse_args()
    if args.output.exists():
        parser.error(f"{args.output}: is there already; give another name")

    model, done, stream = liif_fast.load(args.model), 0, None
    with av.open(str(args.video)) as source, av.open(str(args.output), "w") as target:
        for large in model.stream(frames(source), scale=args.scale):
            if stream is None:
                stream = target.add_stream("libx264", rate=source.streams.video[0].average_rate)
                # H.264 in yuv420p has even sides
                stream.width, stream.height, stream.pix_fmt = large.width // 2 * 2, large.height // 2 * 2, "yuv420p"
                told = stream.codec_context
                told.colorspace = told.color_primaries = told.color_trc = BT709
                told.color_range = LIMITED
            target.mux(stream.encode(coded(large.crop((0, 0, stream.width, stream.height)))))
            done += 1
        if stream is not None:
            target.mux(stream.encode())
    print(f"{args.output}: {done} frames")


if __name__ == "__main__":
    main()
