"""The training photos in pieces of limited size, with an index of where each is from and under what licence.

    python tools/open_weights/photos.py pack DATA build/open/data             # the files as they are: lossless
    python tools/open_weights/photos.py pack DATA build/open/data --jpeg 95   # a copy: JPEG, 4:4:4
    python tools/open_weights/photos.py unpack build/open/data WORK

DATA has train/ with the folders of SOURCES, and benchmark/Set5 for validation. ``pack`` writes photos-1.tar,
photos-2.tar, ... and index.json; it says the PSNR of a copy against the originals. ``unpack`` makes WORK/load/photos
and WORK/load/benchmark, where the configurations look; pieces may come one by one.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SOURCES = {
    "clic2025": {
        "what": "tiles of photos of the CLIC 2025 set",
        "from": "github.com/imazen/codec-corpus (55decfe8), folder clic2025",
        "licence": "Unsplash licence",
        "credit": "photographers of unsplash.com, collected for the Challenge on Learned Image Compression",
    },
    "cid22_train": {
        "what": "training images of CID22, 512x512",
        "from": "github.com/imazen/codec-corpus (55decfe8), CID22-512 training",
        "licence": "CC BY-SA 4.0",
        "credit": "Cloudinary Image Dataset '22",
    },
    "budgie_cc0": {
        "what": "tiles of desktop backgrounds, reduced to 2040 pixels first",
        "from": "github.com/BuddiesOfBudgie/budgie-backgrounds (82067426)",
        "licence": "CC0 1.0",
        "credit": "Buddies of Budgie",
    },
}
VALIDATION = ("benchmark/Set5/HR", "benchmark/Set5/LR_bicubic/X4")
INDEX = "index.json"
_TAR = 1024  # bytes that an archive adds to a file, at most, besides rounding up to 512


def pack(data: Path, out: Path, mib: float, jpeg: int | None) -> dict:
    """Write the pieces and the index; returns the index."""
    train = data / "train"
    if unknown := sorted({p.name for p in train.iterdir() if p.is_dir()} - SOURCES.keys()):
        raise SystemExit(f"{train / unknown[0]}: no licence is known for this folder; add it to SOURCES")
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("photos-*.tar"), out / INDEX):
        old.unlink(missing_ok=True)
    images, members = [], []
    for source in SOURCES:
        for file in sorted(p for p in (train / source).glob("*") if p.is_file()):
            original = file.read_bytes()
            content, about = (original, {}) if jpeg is None else _copy(original, jpeg)
            name = f"load/photos/{source}/{file.stem}{file.suffix if jpeg is None else '.jpg'}"
            with Image.open(io.BytesIO(original)) as image:
                size = image.size[::-1]
            digest = hashlib.sha256(original).hexdigest()
            images.append({"file": name, "source": source, "size": size, "sha256_of_original": digest, **about})
            members.append((name, content))
    if not images:
        raise SystemExit(f"{train}: no photos in {', '.join(SOURCES)}")
    for folder in VALIDATION:
        members += [(f"load/{folder}/{p.name}", p.read_bytes()) for p in sorted((data / folder).glob("*.png"))]
    pieces = []
    for number, part in enumerate(_pieces(members, mib * 2**20), 1):
        piece = out / f"photos-{number}.tar"
        with tarfile.open(piece, "w") as archive:
            for name, content in part:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        digest = hashlib.sha256(piece.read_bytes()).hexdigest()
        pieces.append({"file": piece.name, "bytes": piece.stat().st_size, "sha256": digest})
    index = {
        "copy": "the files as they are" if jpeg is None else f"JPEG, quality {jpeg}, 4:4:4",
        "psnr": None if jpeg is None else _summary([image["mse"] for image in images]),
        "pieces": pieces,
        "sources": {s: SOURCES[s] for s in SOURCES if any(image["source"] == s for image in images)},
        "images": images,
    }
    (out / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return index


def unpack(pieces: Path, work: Path) -> list[str]:
    """Unpack what is there and has not been unpacked yet; returns the names of the pieces that are still missing."""
    found = work / "load" / INDEX
    if (pieces / INDEX).is_file():
        text = (pieces / INDEX).read_text(encoding="utf-8")
        if found.is_file() and found.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{found}: of other photos than those in {pieces}; use another folder")
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(text, encoding="utf-8")
    if not found.is_file():
        raise SystemExit(f"{pieces / INDEX}: is missing; pack the photos first, and send it with every piece")
    missing = []
    for piece in json.loads(found.read_text(encoding="utf-8"))["pieces"]:
        file, done = pieces / piece["file"], found.with_name(f"{piece['file']}.done")
        if done.exists():
            continue
        if not file.is_file():
            missing.append(piece["file"])
            continue
        if hashlib.sha256(file.read_bytes()).hexdigest() != piece["sha256"]:
            raise SystemExit(f"{file}: is damaged; send it again")
        with tarfile.open(file) as archive:
            archive.extractall(work, filter="data")
        done.touch()
    return missing


def _copy(original: bytes, quality: int) -> tuple[bytes, dict]:
    with Image.open(io.BytesIO(original)) as image:
        rgb = image.convert("RGB")
    data = io.BytesIO()
    rgb.save(data, "JPEG", quality=quality, subsampling=0, optimize=True, progressive=True)
    with Image.open(data) as copy:
        error = np.asarray(copy).astype(np.float64) - np.asarray(rgb)
    return data.getvalue(), {"mse": float(np.square(error).mean())}


def _summary(mse: list[float]) -> dict[str, float]:
    """PSNR in dB: mean over the images, the worst image's, and of the mean squared error of all."""
    psnr = [10 * math.log10(255**2 / max(x, 1e-10)) for x in mse]
    of_all = 10 * math.log10(255**2 / max(sum(mse) / len(mse), 1e-10))
    return {"mean": sum(psnr) / len(psnr), "least": min(psnr), "of_mean_error": of_all}


def _pieces(members: list[tuple[str, bytes]], limit: float) -> Iterator[list[tuple[str, bytes]]]:
    """In order, about the same size each, as few as the limit allows."""
    sizes = [_TAR + -(-len(content) // 512) * 512 for _, content in members]
    if max(sizes) + 2 * tarfile.RECORDSIZE > limit:
        raise SystemExit(f"--mib: {max(sizes) / 2**20:.1f} MiB are needed for the largest file alone")
    # a piece may pass its share by half a file; the archive's end is padded
    count = math.ceil(sum(sizes) / (limit - max(sizes) - 2 * tarfile.RECORDSIZE))
    share, part, total = sum(sizes) / count, [], 0
    for member, size in zip(members, sizes, strict=True):
        if part and total + size / 2 > share:
            yield part
            part, total = [], 0
        part.append(member)
        total += size
    yield part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("pack")
    p.add_argument("data", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--mib", type=float, default=60, help="largest size of a piece (%(default)s)")
    p.add_argument("--jpeg", type=int, metavar="QUALITY", help="a copy instead of the files")
    p = commands.add_parser("unpack")
    p.add_argument("pieces", type=Path)
    p.add_argument("work", type=Path)
    args = parser.parse_args()
    if args.command == "unpack":
        if missing := unpack(args.pieces, args.work):
            sys.exit(f"still missing: {', '.join(missing)}")
        return
    index = pack(args.data, args.out, args.mib, args.jpeg)
    for piece in index["pieces"]:
        print(f"{args.out / piece['file']}: {piece['bytes'] / 2**20:.1f} MiB")
    if index["psnr"] is not None:
        print("PSNR against the originals: {mean:.2f} dB, {least:.2f} at least".format(**index["psnr"]))
    print(f"{len(index['images'])} photos, {index['copy']}; credits and licences: {args.out / INDEX}")


if __name__ == "__main__":
    main()
