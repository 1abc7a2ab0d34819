"""Numbers, sizes and names as people write them on a command line. Nothing here imports torch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from fractions import Fraction

DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
_DTYPES = {"fp32": "float32", "f32": "float32", "fp16": "float16", "f16": "float16", "half": "float16",
           "bf16": "bfloat16"}  # fmt: skip
_WIDTHS = {"4k": 3840, "uhd": 3840, "8k": 7680}
Size = tuple[int | None, int | None]  # width, height; one may follow from the picture's shape
SIZES = ("--size", "--fit", "--fill", "--input-size")


def scale(text: str) -> float:
    """``"2"``, ``"2x"``, ``"x2"``, ``"2,5"``, ``"200%"`` -> the factor; what is no number above 0 is said later."""
    number = text.strip().lower().replace("×", "x")
    percent = number.endswith("%")
    number = number.removesuffix("%").strip() if percent else number.removeprefix("x").removesuffix("x").strip()
    if re.fullmatch(r"[+-]?\d+,\d{3}", number):
        whole, part = number.split(",")
        raise argparse.ArgumentTypeError(f"{text}: {whole}.{part} or {whole}{part}? Write it without a comma")
    try:
        factor = float(number.replace(",", ".", 1) if "." not in number else number)
    except ValueError:
        example = "2, 2.5, x4 or 200%"
        raise argparse.ArgumentTypeError(f"{text}: a factor for both sides is wanted, e.g. {example}") from None
    return factor / 100 if percent else factor


def size(text: str) -> Size:
    """``"1920x1080"`` (also ``*``, ``×``, ``:`` or a blank between), ``"1920x"``, ``"x1080"`` -> (width, height).

    ``"4k"`` is that one's width alone, ``"1080p"`` its height: the picture keeps its shape.
    """
    plain = " ".join(text.lower().replace("px", "").split())
    if plain in _WIDTHS:
        return _WIDTHS[plain], None
    if re.fullmatch(r"\d{1,9}p", plain) and int(plain[:-1]) > 0:
        return None, int(plain[:-1])
    found = re.fullmatch(r"(\d{0,9}) ?[x*×: ] ?(\d{0,9})", plain)
    sides = [int(n) if n else None for n in found.groups()] if found else [None, None]
    if not any(sides) or 0 in sides:
        cure = f"; {plain}x for the width, x{plain} for the height" if plain.isdecimal() and int(plain[:9]) else ""
        raise argparse.ArgumentTypeError(
            f"{text}: WIDTHxHEIGHT in pixels is wanted, e.g. 1920x1080, 1920x, x1080, 1080p or 4k{cure}"
        )
    return sides[0], sides[1]


def both_sides(text: str) -> Size:
    """As ``size``, with neither side left out: ``"1080p"`` is 1920x1080, ``"4k"`` 3840x2160."""
    width, height = size(text)
    named = "x" not in text.lower().replace("px", "")
    if named and width is None and height is not None:
        width = round(height * 16 / 9)
    elif named and height is None and width is not None:
        height = round(width * 9 / 16)
    if width is None or height is None:
        raise argparse.ArgumentTypeError(f"{text}: both sides are wanted, e.g. 1920x1080; for one --size {text}")
    return width, height


def window(text: str) -> tuple[float, float, float, float]:
    """``"LEFT,TOP,WIDTHxHEIGHT"`` in pixels, real numbers, left and top below 0, too -> (top, left, height, width)."""
    number = r" ?([+-]?(?:\d+\.?\d*|\.\d+)) ?"
    found = re.fullmatch(f"{number},{number},{number}[x*×]{number}", " ".join(text.lower().split()))
    left, top, width, height = map(float, found.groups()) if found else (0.0, 0.0, 0.0, 0.0)
    if not (width > 0 and height > 0):
        raise argparse.ArgumentTypeError(
            f"{text}: LEFT,TOP,WIDTHxHEIGHT in pixels is wanted, both sides above 0, e.g. 8,0,704x480 or -0.5,0,720x480"
        )
    return top, left, height, width


def seconds(text: str) -> float:
    """``"90"``, ``"90.5s"``, ``"1:30"``, ``"0:01:30.5"`` -> seconds."""
    found = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+\.?\d*|\.\d+)s?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: seconds or [HOURS:]MINUTES:SECONDS are wanted, e.g. 90.5 or 1:30")
    hours, minutes, rest = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + rest


def rate(text: str) -> Fraction:
    """``"25"``, ``"23.976"``, ``"30000/1001"`` -> frames a second."""
    try:
        found = Fraction(text.strip().replace(":", "/"))
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if found <= 0:
        raise argparse.ArgumentTypeError(f"{text}: frames a second are wanted, e.g. 25, 23.976 or 30000/1001")
    return found


def dtype(text: str) -> str:
    """Torch's name of a dtype: ``"fp16"`` -> ``"float16"``."""
    name = text.lower().removeprefix("torch.")
    return _DTYPES.get(name, name)


def joined(arguments: Sequence[str]) -> list[str]:
    """``["--size", "1920", "1080"]`` -> ``["--size", "1920x1080"]``, and windows that begin with a minus."""
    found: list[str] = []
    rest = list(arguments)
    while rest:
        found.append(rest.pop(0))
        if found[-1] in SIZES and len(rest) > 1 and rest[0].isdecimal() and rest[1].isdecimal():
            found.append(f"{rest.pop(0)}x{rest.pop(0)}")
        elif found[-1] == "--window" and rest and re.match(r"-[\d.]", rest[0]):
            found[-1] += f"={rest.pop(0)}"  # or it is taken for an option
    return found
