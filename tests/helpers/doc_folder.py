"""The folder in which the documentation's commands and examples run: what a reader has, in few pixels."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
SMALL = {"epoch_max": 2, "epoch_save": 1, "epoch_val": 1}  # of any training configuration that a page shows


def picture(path: Path, width: int = 20, height: int = 16, seed: int = 0) -> None:
    """A smooth one, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5 + seed), np.cos(y / 4), np.sin((x + y) / 7)], -1)
    pixels = 128 + 90 * waves + rng.normal(0, 4, waves.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def build(folder: Path, weights: Path | None = None) -> Path:
    """Photos, a clip, Set5 and Set14 with their folders of small pictures, and the repository's configurations;
    ``weights``: the official checkpoint, put where it is looked for (``LIIF_FAST_CACHE=FOLDER/cache``)."""
    picture(folder / "photo.jpg")
    for i, name in enumerate(("a.jpg", "b.png", "inside/c.png")):
        picture(folder / "photos" / name, seed=i + 1)
    for i in range(2):
        picture(folder / "load" / "photos" / f"{i}.png", 208, 200, seed=i)
    for name in ("Set5", "Set14"):
        at = folder / "load" / "benchmark" / name
        picture(at / "HR" / "one.png", 48, 48, seed=7)
        for scale in (2, 3, 4):
            small = at / "LR_bicubic" / f"X{scale}" / f"onex{scale}.png"
            small.parent.mkdir(parents=True)
            with Image.open(at / "HR" / "one.png") as whole:
                whole.resize((48 // scale, 48 // scale), Image.Resampling.BICUBIC).save(small)
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "cache").mkdir()
    if weights:
        shutil.copy(weights, folder / "cache" / "edsr-baseline-liif.pth")
    return folder


def clip(path: Path) -> None:
    """A few frames; the video's own tests look at more than that."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        for i in range(3):
            frame = np.full((40, 48, 3), (40 * i + 60, 90, 200 - 40 * i), np.uint8)  # no grey: a wrong matrix shows
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


def frames() -> list[Image.Image]:
    return [Image.new("RGB", (12, 10), (40 * i, 90, 120)) for i in range(3)]


def smaller(text: str) -> str:
    """A training configuration of a page, so that it is done in seconds; its keys and names stay."""
    config = yaml.safe_load(text)
    config.update({key: value for key, value in SMALL.items() if key in config})
    for name in ("train_dataset", "val_dataset"):
        if data := config.get(name):
            data["batch_size"] = 2
            data["dataset"]["args"].update({k: 1 for k in ("repeat",) if k in data["dataset"]["args"]})
            data["wrapper"]["args"].update({"inp_size": 12, "sample_q": 64})
    return yaml.safe_dump(config)


def file_named(before: str) -> str | None:
    """The file that a block holds, where the line above it ends in its name: "... `mine.yaml`:"."""
    found = re.search(r"`([\w./-]+\.\w+)`[^`]*:\s*$", before)
    return found[1] if found else None
