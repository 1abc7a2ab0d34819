"""What must hold for every run, whatever it was given. ``check`` runs in a child: it decodes damaged files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

CODES = (0, 1, 2, 130)
LONGEST_LINE = 10_000  # a path may have 4,096 bytes, and stand there twice
ADDRESS_SPACE = 2 << 30  # growth: memory that was asked for but not touched counts, too
_TURN = Image.Transpose
TURNS = {  # by EXIF orientation
    2: _TURN.FLIP_LEFT_RIGHT,
    3: _TURN.ROTATE_180,
    4: _TURN.FLIP_TOP_BOTTOM,
    5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270,
    7: _TURN.TRANSVERSE,
    8: _TURN.ROTATE_90,
}
_OURS = re.compile(r"liif[-_]fast: ")
_RESULT = re.compile(r": \d+x\d+ -> \d+x\d+ in [\d.]+ s$")
# The one exception: libtiff writes to the process's standard error by itself, "LZWDecode: ...", and Pillow has no
# switch for it. Only where a TIFF was read.
_LIBTIFF = re.compile(r"_?\w+: ")


def of_outcome(outcome: Any) -> list[str]:
    """What the process itself shows."""
    found = []
    if outcome.killed:
        return [f"killed: {outcome.killed}"]
    if outcome.code not in CODES:
        found.append(f"exit code {outcome.code}, one of {CODES} is wanted")
    if outcome.address_space > ADDRESS_SPACE:
        found.append(f"asked for {outcome.address_space >> 20} MiB of memory")
    if outcome.survivors:
        found.append("a process that it started goes on")
    return found


def check(case: dict[str, Any]) -> list[str]:
    """What the streams and the files show.

    Args:
        case: ``code``, ``command``, ``files`` (how many inputs, None: not known), ``stdout``, ``stderr``, ``folder``,
            ``digests`` (of all files before), ``kind``, ``made`` (files and folders in ``folder`` that may be new),
            ``canary``, ``pairs`` (input, output, whether they must show the same).
    """
    _any_size()
    folder = Path(case["folder"])
    found = _streams(case)
    found += _files(case, folder)
    if os.path.lexists(case["canary"]):
        found.append("code out of a file was run")
    for source, result, same in case["pairs"]:
        if same and os.path.isfile(folder / result):
            found += [f"{result}: {text}" for text in _difference(folder / source, folder / result)]
    return found


def _text(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(3 << 20).decode("utf-8", "replace")


def _streams(case: dict[str, Any]) -> list[str]:
    out, err = _text(case["stdout"]), _text(case["stderr"])
    found = ["a trace"] if "Traceback" in err + out else []
    lines = err.split("\n")[:-1]
    if err and not err.endswith("\n"):
        found.append("standard error ends inside a line")
    long = max(map(len, [*lines, *out.split("\n")]), default=0)
    if long > LONGEST_LINE:
        found.append(f"a line of {long} characters")
    errors = [line for line in lines if line.startswith("liif-fast: error: ")]
    strange = [x for x in lines if not _OURS.match(x)]
    if "tiff" in case["kind"]:
        strange = [x for x in strange if not _LIBTIFF.match(x)]
    if strange and "a trace" not in found:
        found.append(f"a line that is not ours: {strange[0][:300]!r}")
    if [line for line in lines if re.fullmatch(r"liif-fast: error:\s*\w*(: )?\s*", line)]:
        found.append("an error without words")
    code, files = case["code"], case["files"]
    if case["command"] == "train" and "cannot run yet" in out:  # what --dry-run finds missing is its result
        return found + ([] if code == 1 and not errors else [f"what is missing is said with exit code {code}"])
    if code == 2 and (len(errors) != 1 or out):
        found.append(f"exit code 2 with {len(errors)} lines of error and {len(out)} characters of output")
    if code == 0 and errors:
        found.append("exit code 0 with an error")
    if code == 1 and not errors:
        found.append("exit code 1 without an error")
    if case["command"] == "upscale" and code in (0, 1):
        results = [x for x in out.split("\n")[:-1] if _RESULT.search(x) or x.startswith("{")]
        if len(results) != len(out.split("\n")) - 1:
            found.append("standard output has lines that are no results")
        failed = len(errors)
        if results and results[0].startswith("{"):
            results = [x for x in results if json.loads(x)["error"] is None]
        if files is not None and len(results) + failed != files:
            found.append(f"{len(results)} results and {failed} errors for {files} files")
        there = [p for _, p, _ in case["pairs"] if os.path.isfile(Path(case["folder"], p))]
        if files is not None and case["pairs"] and len(there) != len(results):
            found.append(f"{len(results)} results, but {len(there)} files")
    elif code == 1 and len(errors) != 1 and case["command"] != "upscale":
        found.append(f"{len(errors)} lines of error")
    return found


def digests(folder: Path) -> dict[str, str]:
    """Of every file below a folder, by relative name; links, pipes and folders by their kind."""
    found = {}
    for at, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(at, name)
            key = os.path.relpath(path, folder)
            if path.is_symlink():
                found[key] = "link " + os.readlink(path)
            elif path.is_file():
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[key] = "folder" if path.is_dir() else "special"
    return found


def _files(case: dict[str, Any], folder: Path) -> list[str]:
    found = []
    before, after = case["digests"], digests(folder)
    changed = [name for name in before if after.get(name) != before[name]]
    if changed:
        found.append(f"changed or gone: {changed}")
    new = [name for name in after if name not in before]
    for name in new:
        if name.split(os.sep)[0] not in case["made"]:
            found.append(f"left behind: {name}")
        elif re.search(r"\.(part|tmp)$", name):
            found.append(f"half-written, left behind: {name}")
        elif name in [result for _, result, _ in case["pairs"]]:
            try:
                with Image.open(folder / name) as image:
                    image.load()
            except Exception as error:
                found.append(f"{name}: the output is not whole ({error})")
    return found


def _any_size() -> None:
    Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = None, 1 << 30, 1 << 30


def _difference(source: Path, result: Path) -> list[str]:
    """Where the result is not Pillow's decoding of the source."""
    try:
        colours, alpha, what = decoded(source)
    except Exception as error:
        return [f"accepted, but Pillow says: {type(error).__name__}: {error}"]
    try:
        got, got_alpha, _ = decoded(result)
    except Exception:  # not whole, which is said elsewhere
        return []
    if got.shape[:2] != colours.shape[:2]:
        return [f"size {got.shape[1]}x{got.shape[0]}, Pillow's {colours.shape[1]}x{colours.shape[0]}"]
    if got.dtype == np.uint8 != colours.dtype:
        colours = _eight(colours)
    alpha = np.full(got.shape[:2], 255, np.uint8) if alpha is None else _eight(alpha)
    got_alpha = np.full(got.shape[:2], 255, np.uint8) if got_alpha is None else _eight(got_alpha)
    found = []
    if "alpha" in what and (got_alpha != alpha).any():
        found.append(f"alpha differs from Pillow's decoding in {(got_alpha != alpha).sum()} pixels")
    seen = (got_alpha > 0) & (alpha > 0)  # the colour of what cannot be seen means nothing
    differ = (got.astype(np.int64) != colours.astype(np.int64)).any(axis=2) & seen
    if "colours" in what and differ.any():
        y, x = np.argwhere(differ)[0]
        found.append(
            f"colours differ from Pillow's decoding in {differ.sum()} pixels, "
            f"{got[y, x].tolist()} for {colours[y, x].tolist()} at {x},{y}"
        )
    return found


def _eight(values: Any) -> Any:
    return values if values.dtype == np.uint8 else ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def decoded(path: Path) -> tuple[Any, Any, tuple[str, ...]]:
    """Upright colours [H, W, 3] and alpha or None of 8 or 16 bits as Pillow gives them, and which to compare."""
    what = ("colours", "alpha")
    with Image.open(path) as image:
        raw = str(image.tile[0][3]) if image.tile else ""
        mode, format = image.mode, image.format
        white_is_zero = format == "TIFF" and image.tag_v2.get(262) == 0
        image.load()
        key = image.info.get("transparency")
        if mode == "LAB" or (mode == "CMYK" and image.info.get("icc_profile")):
            what = ("alpha",)  # the product converts by colour profiles
        if key is not None and (image.mode == "1" or any(t in raw for t in (";2", ";4", ";16"))):
            what = ("colours",)  # Pillow compares the key with other depths than the file's
        try:
            orientation = image.getexif().get(0x0112, 1)
        except Exception:  # damaged
            orientation = 1
        if orientation in TURNS:
            image = image.transpose(TURNS[orientation])
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            values = np.asarray(image)
            if image.mode == "F":
                values = np.rint(values.astype(np.float64) * 65535)
            elif "12" in raw:
                values = (values.astype(np.uint32) * 65535 + 2047) // 4095
            values = values.astype(np.uint16)
            alpha = None if key is None else np.where(values == key, 0, 65535).astype(np.uint16)
            values = 65535 - values if white_is_zero else values
            return np.repeat(values[:, :, None], 3, axis=2), alpha, what
        if image.has_transparency_data:
            values = np.asarray(image.convert("RGBA"))
            return values[:, :, :3], values[:, :, 3], what
        return np.asarray(image.convert("RGB")), None, what
