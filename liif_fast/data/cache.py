"""Images decoded once: into memory that forked worker processes share, or into a file that is mapped into memory."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..base import atomic
from ..base.cores import cores
from .errors import DataError
from .opening import opened

_AT_ONCE = 64  # images decoded before they are stored, which bounds the memory beside the cache itself


class Packed(Sequence[np.ndarray]):
    """Images one after the other in one block of bytes: ``packed[i]`` is a view, uint8 ``[H, W, 3]``."""

    def __init__(self, block: np.ndarray, sizes: Sequence[tuple[int, int]]) -> None:
        self.block, self.sizes = block, list(sizes)
        self.starts = np.concatenate([[0], np.cumsum([3 * h * w for h, w in self.sizes], dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        start, end = self.starts[index : index + 2]
        return self.block[start:end].reshape(*self.sizes[index], 3)


def decode(file: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 ``[H, W, 3]`` of an image file; DataError if it is broken or no longer of this (height, width)."""
    try:
        with opened(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds on broken files
        raise DataError(
            f"{file}: cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
    if pixels.shape[:2] != tuple(size):
        raise DataError(f"{file}: has changed while the program ran; start again")
    return pixels


def in_memory(files: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> Packed:
    """All images in memory. Anonymous and shared, so that forked workers read the same pages, whatever they do."""
    total = sum(3 * h * w for h, w in sizes)
    free = _available()
    if free is not None and total > free:
        raise DataError(
            f"{files[0].parent}: cache: in_memory needs {total / 2**30:.1f} GiB, {free / 2**30:.1f} are available; use "
            "cache: bin (a file mapped into memory) or none"
        )
    block = np.frombuffer(mmap.mmap(-1, max(1, total)), np.uint8)
    packed = Packed(block, sizes)
    for index, pixels in _decoded(files, sizes):
        packed[index][...] = pixels
    return packed


def mapped(files: Sequence[Path], sizes: Sequence[tuple[int, int]], folder: Path) -> Packed:
    """All images in a file in ``folder``, made anew whenever one of the images has changed."""
    try:
        known = [
            [file.name, *size, file.stat().st_size, file.stat().st_mtime_ns]
            for file, size in zip(files, sizes, strict=True)
        ]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); start again") from error
    target = folder / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}.rgb"
    total = sum(3 * h * w for h, w in sizes)
    if not target.is_file() or target.stat().st_size != total:
        try:
            folder.mkdir(exist_ok=True)
            _write(target, files, sizes)
        except OSError as error:
            raise DataError(
                f"{folder}: {total / 2**30:.2f} GiB for cache: bin cannot be written there ({error.strerror}); "
                "make room, or use cache: in_memory or none"
            ) from error
    return Packed(np.memmap(target, np.uint8, "r"), sizes)


def _write(target: Path, files: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> None:
    with atomic.replacing(target) as scratch, open(scratch, "wb") as out:
        for _, pixels in _decoded(files, sizes):
            out.write(np.ascontiguousarray(pixels).data)


def _decoded(files: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, np.ndarray]]:
    """(index, pixels) in order, decoded by all cores (Pillow lets others run meanwhile)."""
    work: Callable[[int], np.ndarray] = lambda index: decode(files[index], sizes[index])  # noqa: E731
    with ThreadPoolExecutor(cores()) as pool:
        for part in range(math.ceil(len(files) / _AT_ONCE)):
            indices = range(part * _AT_ONCE, min((part + 1) * _AT_ONCE, len(files)))
            yield from zip(indices, pool.map(work, indices), strict=True)


def _available() -> int | None:
    """Bytes of memory that can be had without swapping; None where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
