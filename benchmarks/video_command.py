"""The command ``liif-fast video``: what it costs beside encoder and head, its memory, and what unchanged tiles save.

    python benchmarks/video_command.py                            # all of it, int8
    python benchmarks/video_command.py speed --dtype float32 --frames 40 --json rows.jsonl
    python benchmarks/video_command.py speed --device cuda --dtype bfloat16 --frames 300 --preset ultrafast

speed: a clip of 10 s with sound, 320x180 -> 960x540 (on a GPU larger ones, too): its frames a second, and those of
encoder and head alone (``model.renderer``), before and after it in the same run. The file is looked at before anything
is printed: all frames, the same duration to the millisecond, the sound's packets the same bytes.
memory: peaks of whole processes with 60 and with 300 frames.
screen: a still page with a cursor and a box that scrolls, with unchanged tiles computed again and without: the same
colours in the end, and the ratio of the times.
"""

from __future__ import annotations

import argparse
import fractions
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import heads
import numpy as np
import torch
from rows import about, append

import liif_fast
from liif_fast.video.enlarge import enlarge_video
from liif_fast.video.options import VideoOptions

SIZES = [((180, 320), (540, 960))]  # low and high, (height, width)
LARGE = [*SIZES, ((480, 720), (960, 1440)), ((540, 960), (2160, 3840))]  # on a GPU
SECONDS = 10
PAGE = (720, 1280)


def panned(count: int, low: tuple[int, int]) -> list[np.ndarray]:
    """A view that moves over a picture: no frame as another."""
    height, width = low
    picture = (heads.photo(2 * height, 2 * width)[0] * 255).byte().permute(1, 2, 0).numpy()
    at = [(i % height, (3 * i) % width) for i in range(count)]
    return [np.ascontiguousarray(picture[y : y + height, x : x + width]) for y, x in at]


def page(count: int) -> list[np.ndarray]:
    still = (heads.photo(*PAGE)[0] * 255).byte().permute(1, 2, 0).numpy().copy()
    still[::12, 40:-40] = 20  # lines, as of a text
    text = np.random.default_rng(0).integers(0, 2, (400, 200, 1), np.uint8) * 255
    frames = []
    for i in range(count):
        frame = still.copy()
        frame[120:240, 900:1100] = text[2 * i : 2 * i + 120]
        y, x = 200 + 2 * i, 100 + 5 * i
        frame[y : y + 14, x : x + 9] = (255, 255, 255)
        frames.append(frame)
    return frames


def clip(path: Path, frames: list[np.ndarray], rate: fractions.Fraction, sound: bool, codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=rate)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p" if codec == "libx264" else "bgr0"
        audio = out.add_stream("aac", rate=48000) if sound else None
        for frame in frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(video.encode())
        if audio is not None:
            t = np.arange(int(len(frames) / rate * 48000)) / 48000
            for start in range(0, len(t), 1024):
                wave = np.sin(2 * np.pi * 440 * t[start : start + 1024])[None].astype(np.float32)
                tone = av.AudioFrame.from_ndarray(np.repeat(wave, 2, 0), format="fltp", layout="stereo")
                tone.sample_rate, tone.pts = 48000, start
                out.mux(audio.encode(tone))
            out.mux(audio.encode())
    return path


def facts(path: Path) -> tuple[int, int, list[bytes]]:
    """Number of frames, milliseconds, the sound's packets."""
    with av.open(str(path)) as file:
        sound = [bytes(p) for p in file.demux(audio=0)] if file.streams.audio else []
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0)), round(file.duration / 1000), sound


def colours(path: Path) -> str:
    digest = hashlib.sha256()
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            digest.update(frame.to_ndarray(format="rgb24").tobytes())
    return digest.hexdigest()


def alone(model, frame: np.ndarray, high: tuple[int, int], dtype: torch.dtype, count: int) -> float:
    """Seconds of a frame by encoder and head."""
    int8, device = dtype == torch.int8, next(model.parameters()).device
    renderer = (model.quantize(frame) if int8 else model).renderer(high, dtype=None if int8 else dtype)
    inp = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1).to(device)
    renderer(inp)
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        renderer(inp)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def speed(
    model, dtype: torch.dtype, folder: Path, count: int, low: tuple[int, int], high: tuple[int, int], preset: str | None
) -> dict:
    frames = panned(count, low)
    source = clip(folder / "in.mp4", frames, fractions.Fraction(count, SECONDS), sound=True)
    before = alone(model, frames[0], high, dtype, 8)
    target = folder / "out.mp4"
    options = VideoOptions(size=high[::-1], preset=preset, overwrite=True)
    result = enlarge_video(lambda: (model, dtype), source, target, options)
    after = alone(model, frames[0], high, dtype, 8)
    (n, ms, sound), (m, wanted_ms, wanted_sound) = facts(target), facts(source)
    if (n, ms) != (m, wanted_ms) or sound != wanted_sound or n != count:
        raise RuntimeError(
            f"video_command.py: {n} frames of {m}, {ms} ms of {wanted_ms}, sound {sound == wanted_sound}"
        )
    rate, only = result.rate, 2 / (before + after)
    case = f"video command {low[1]}x{low[0]} -> {high[1]}x{high[0]}" + (f", {preset}" if preset else "")
    print(f"{case}: {rate:.3f} frames/s, encoder and head alone {only:.3f}: {100 * rate / only:.1f} %", flush=True)
    return {"case": case, "median": 1 / rate, "alone": 1 / only, "share": rate / only}


def memory(model_name: str, dtype: str, folder: Path) -> dict:
    peaks = []
    for count in (60, 300):
        source = clip(folder / f"in{count}.mp4", panned(count, SIZES[0][0]), fractions.Fraction(30), sound=True)
        arguments = ["video", str(source), "-o", str(folder / f"out{count}.mp4"), "--size", "960x540", "-m", model_name]
        program = (
            "import resource, sys\nfrom liif_fast.cli.main import main\n"
            f"code = main({[*arguments, '--dtype', dtype]!r})\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\nsys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) * 1024)
    print(f"memory: {peaks[0] / 2**20:.0f} MiB, {peaks[1] / 2**20:.0f} MiB: {100 * (peaks[1] / peaks[0] - 1):+.1f} %")
    return {"case": "video command, memory of 60 and 300 frames", "peaks": peaks}


def screen(model, dtype: torch.dtype, folder: Path, count: int) -> dict:
    source = clip(folder / "screen.mkv", page(count), fractions.Fraction(30), sound=False, codec="ffv1")
    taken, seen = {}, {}
    for name, how in (("reused", {}), ("every", {"reuse": False})):
        target = folder / f"{name}.mkv"
        options = VideoOptions(scale=1, codec="ffv1", tile=64, **how)
        result = enlarge_video(lambda: (model, dtype), source, target, options)
        taken[name], seen[name] = result.seconds, colours(target)
        print(f"screen, {name}: {result.seconds:.1f} s, {result.tiles_reused} of {result.tiles} tiles not computed")
    if seen["reused"] != seen["every"]:
        raise RuntimeError("video_command.py: unchanged tiles differ from tiles that are computed again")
    ratio = taken["every"] / taken["reused"]
    print(f"screen: {ratio:.1f} times as fast as computing every tile, the same bits", flush=True)
    result = enlarge_video(lambda: (model, dtype), source, folder / "auto.mkv", VideoOptions(scale=1, codec="ffv1"))
    whole = enlarge_video(
        lambda: (model, dtype), source, folder / "whole.mkv", VideoOptions(scale=1, codec="ffv1", reuse=False)
    )
    print(f"screen, tiles as chosen: {result.seconds:.1f} s; whole frames {whole.seconds:.1f} s")
    return {"case": "video command, screen", "median": taken["reused"] / count, "ratio": ratio, "whole": whole.seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="speed|memory|screen")
    parser.add_argument("--model", default="edsr-baseline-liif", help="name or checkpoint file")
    parser.add_argument("--device", default="cpu", help="of speed and screen (cpu)")
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--preset", help="of the encoder in speed (medium)")
    parser.add_argument("--frames", type=int, help="of speed (100) and of screen (12)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append rows")
    args = parser.parse_args()
    what, dtype = args.what or ["speed", "memory", "screen"], getattr(torch, args.dtype)
    model = liif_fast.load(args.model, device=args.device).eval()
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        if "speed" in what:
            for low, high in SIZES if args.device == "cpu" else LARGE:
                rows.append(speed(model, dtype, folder, args.frames or 100, low, high, args.preset))
        if "screen" in what:
            rows.append(screen(model, dtype, folder, args.frames or 12))
        if "memory" in what:
            rows.append(memory(args.model, args.dtype, folder))
    if args.json:
        kept = {"contender": "liif_fast, video command", "dtype": args.dtype, "ok": True}
        append(args.json, [{**row, **kept, **about(torch.device(args.device))} for row in rows])


if __name__ == "__main__":
    main()
