"""``liif-fast info``: what a checkpoint or a picture is, and what upscaling the picture would lose."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from .. import models
from ..images import files as images
from ..images.decoding import decoding, errors, opened
from ..images.files import tags
from ..images.frames import frames_of
from ..images.frames_writing import write_frames
from ..sizes import MAX_PIXELS
from ..upscaling.options import Options, output_path
from ..weights import describe
from ..weights.state_dicts import CheckpointError
from . import reporting

__all__ = ["facts", "models", "run"]  # models: once imported, they are known by name


def run(args: argparse.Namespace) -> int:
    """Say it of each file; returns the exit code."""
    failed = 0
    for name in args.files:
        try:
            found = facts(name)
        except (CheckpointError, images.ImageError, OSError) as error:
            failed = 1
            text = " ".join(str(error).split())
            reporting.say(f"error: {text}" if name in text else f"error: {name}: {text}")
            continue
        reporting.results(json.dumps({"file": name, **found}) if args.json else _text(name, found))
    return failed


def facts(name: str) -> dict[str, Any]:
    """Of a picture, if its content is one, else of a checkpoint (or a name of weights).

    Raises:
        CheckpointError, images.ImageError, OSError: it is neither, or damaged.
    """
    if images.is_picture(name):
        return {"kind": "picture", **_picture(Path(name))}
    return {"kind": "checkpoint", **describe.describe(name)}


def _picture(path: Path) -> dict[str, Any]:
    photo = images.read(path)
    with errors(str(path), MAX_PIXELS), opened(str(path)) as stream, decoding(MAX_PIXELS), Image.open(stream) as image:
        count, orientation = getattr(image, "n_frames", 1), tags(image, [])[0]
    height, width = photo.pixels.shape[:2]
    profile = None
    if photo.icc:
        try:
            profile = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(photo.icc))).strip()
        except (OSError, ImageCms.PyCMSError):
            profile = "unreadable"
    kept = [name for name in ("exif", "icc", "xmp", "dpi", "text") if getattr(photo, name)]
    with tempfile.TemporaryDirectory() as folder:  # what the format cannot hold, writing it tells
        target = output_path(path, Path(path.name), Path(folder), False, Options())
        frames = frames_of(photo, path, images.output_format(target))
        small = images.middle(photo, (1, 1))
        if frames is None:
            lost = photo.notes + images.write(target, small)
        else:
            lost = photo.notes + write_frames(target, [small, small], 2, frames.plays)
    return {
        "format": photo.format,
        "size": [width, height],
        "mode": photo.mode,
        "bits": 8 * photo.pixels.itemsize,
        "frames": count,
        "alpha": photo.alpha is not None,
        "orientation": orientation,
        "profile": profile,
        "holds": kept,
        "written_as": target.suffix,
        "lost": list(dict.fromkeys(lost)),
    }


def _text(name: str, found: dict[str, Any]) -> str:
    """The facts for people."""
    lines = _of_picture(found) if found["kind"] == "picture" else _of_checkpoint(found)
    return "\n".join([f"{name}: {lines[0]}", *(f"  {line}" for line in lines[1:])])


def _of_picture(found: dict[str, Any]) -> list[str]:
    (width, height), frames = found["size"], found["frames"]
    lines = [
        f"{found['format']}, {width}x{height} ({width * height / 1e6:.1f} megapixels), mode {found['mode']}, "
        f"{found['bits']} bits a channel" + (", alpha" if found["alpha"] else "")
    ]
    if found["orientation"] != 1:
        lines.append(f"orientation: {found['orientation']}, turned upright when it is read (the size above)")
    lines.append(f"profile: {found['profile'] or 'none, so sRGB'}")
    if frames > 1:
        lines.append(f"frames or pages: {frames}")
    lines.append(f"kept when it is upscaled: {', '.join(found['holds']) or 'it has nothing beside its pixels'}")
    return lines + [f"written as {found['written_as']}: {note}" for note in found["lost"]]


def _of_checkpoint(found: dict[str, Any]) -> list[str]:
    count = f"{found['parameters']:,} parameters in {found['dtype']}"
    article = "an" if found["class"].startswith("L") and found["class"] != "LIIF" else "a"
    lines = [f"checkpoint of {article} {found['class']}, {count} ({found['bytes'] / 1e6:.1f} MB)"]
    if "encoder" in found:
        lines.append(f"encoder: {found['encoder']}, {found['channels']} channels, {_tiles(found)}")
        if waves := found.get("hidden_dim"):
            lines.append(f"hidden_dim: {waves}, so {waves // 2} waves of each feature")
        if own := found.get("own"):
            lines.append(f"head: a {', '.join(own)} of its own")
        else:
            mlp = "layers" if "layers" in found else "imnet"
            lines.append(f"{mlp}: {', '.join(map(str, found[mlp])) or 'none'} outputs of its layers")
        if flags := [k for k in describe.FLAGS if k in found]:
            lines.append(", ".join(f"{k} {'on' if found[k] else 'off'}" for k in flags))
    spec = found["spec"]
    if spec:
        lines.append(f"spec: {json.dumps(spec, default=str)}")
    norm = found["data_norm"]["inp"]
    lines.append(f"images in [0, 1] become (x - {_numbers(norm['sub'])}) / {_numbers(norm['div'])}")
    lines += [f"{k}: {v}" for k, v in found["training"].items() if k != "optimizer"]
    if optimizer := found["training"].get("optimizer"):
        lines.append("optimizer: " + ", ".join(str(v) if k == "name" else f"{k} {v}" for k, v in optimizer.items()))
    lines += [found["credit"]] if found["credit"] else []
    return lines + [f"note: {note}" for note in found["notes"]]


def _tiles(found: dict[str, Any]) -> str:
    halo, side = found.get("halo"), found.get("pad_to", 1)
    if halo is None:
        return "it needs whole pictures"
    return f"exact in tiles with a halo of {halo} pixels" + (f", in windows of {side}" if side > 1 else "")


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{v:g}" for v in values) if len(values) == 1 else f"({', '.join(f'{v:g}' for v in values)})"
