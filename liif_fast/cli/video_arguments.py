"""The arguments of ``liif-fast video``. Nothing here imports torch or PyAV."""

from __future__ import annotations

import argparse

from ..sizes import MAX_OUTPUT_PIXELS
from . import size_arguments, spellings

NOTES = (
    "Sizes and windows are of the picture as it is displayed, upright. Sound, subtitles, chapters and the times of "
    "frames are copied. The work goes by parts in the folder OUT.parts: what is ended is kept for --resume."
)


def add(p: argparse.ArgumentParser) -> None:
    p.add_argument("inputs", nargs="*", metavar="IN", help="a video file")
    p.add_argument("-i", "--input", metavar="IN", help="as IN; -: raw frames on standard input")
    p.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a file: .mp4, .mkv, .mov or .webm; -: raw frames to standard output",
    )
    size = p.add_mutually_exclusive_group()
    size.add_argument("-s", "--scale", type=spellings.scale, help="factor for both sides: 2, 2.5, x3, 150%%")
    size.add_argument(
        "--size",
        type=spellings.size,
        metavar="WxH",
        help="exactly this; one side (1280x, x600, 1080p, 4k) keeps the displayed shape, with square pixels",
    )
    size_arguments.part(p)
    p.add_argument("--start", type=spellings.seconds, metavar="S", help="from this second on; 1:30 is 90")
    p.add_argument("--end", type=spellings.seconds, metavar="S", help="only frames before this second")
    p.add_argument(
        "--codec",
        default="libx264",
        help="h264, h265, av1, vp9, prores, ffv1 (without loss), h264_nvenc, ...: FFmpeg's encoders (%(default)s)",
    )
    p.add_argument("--crf", type=float, metavar="N", help="the codec's quality; less is better and larger")
    p.add_argument("--preset", help="the codec's speed, e.g. slow, or 8 of av1")
    p.add_argument("--pixel-format", metavar="F", help="FFmpeg's name, e.g. yuv420p10le (default: plays everywhere)")
    p.add_argument("--no-audio", dest="audio", action="store_false", help="leave sound out")
    p.add_argument("--no-subtitles", dest="subtitles", action="store_false", help="leave subtitles and fonts out")
    p.add_argument("--resume", action="store_true", help="go on with the parts of an ended run")
    p.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    p.add_argument(
        "--tile", default="auto", metavar="auto|0|N", help="tile side in input pixels; 0: none (%(default)s)"
    )
    p.add_argument(
        "--no-reuse", dest="reuse", action="store_false", help="compute unchanged frames and tiles again, too"
    )
    p.add_argument(
        "--input-size",
        type=spellings.both_sides,
        metavar="WxH",
        help="of raw frames on standard input; y4m tells it itself",
    )
    p.add_argument("--input-format", metavar="F", help="their pixel format: rgb24 (default), yuv420p, ...")
    p.add_argument("--input-rate", type=spellings.rate, metavar="R", help="their frames a second (25)")
    p.add_argument(
        "--output-format",
        default="y4m",
        metavar="F",
        help="of raw frames on standard output: y4m, rgb24, yuv420p, ... (%(default)s)",
    )
    p.add_argument(
        "--max-output-pixels", type=int, default=MAX_OUTPUT_PIXELS, help="refuse larger frames (%(default)s)"
    )
