"""Images in memory: pixels and alpha as arrays, to and from Pillow images and NumPy arrays. Files: `images`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
from PIL import Image

from .colour import Colour
from .exif import ORIENTATION, patched, with_prefix
from .modes import fitting_profile, split, strips


class ImageError(ValueError):
    """An image file that cannot be read or written: one line with its path, the reason and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass
class Photo:
    """An image as arrays, with what is needed to write it back.

    Attributes:
        pixels: [H, W, 3] (RGB) or [H, W, 1] (grey); uint8, uint16, or float32 in [0, 1].
        alpha: [H, W] of the same dtype, or None; colours are not premultiplied with it.
        exif: EXIF block as Pillow's ``exif=`` takes it; its orientation is 1 when ``images.read`` made it.
        icc: ICC profile, only if it is for the pixels' colour space (RGB or grey).
        xmp: XMP packet. dpi: (x, y). text: text fields (PNG's text chunks, JPEG's comment).
        format, mode: Pillow's names for the source, "" for an array.
        notes: what was lost or changed on the way here, one sentence each.
        colour: primaries and transfer other than sRGB's that the file gives without a profile (PNG, AVIF, HEIF, TIFF).
        lossless: the source is of a format that may lose, but stored this picture without loss (WebP).
        milliseconds: how long a frame of an animation is shown; None for other pictures.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)
    format: str = ""
    mode: str = ""
    notes: list[str] = field(default_factory=list)
    colour: Colour | None = None
    lossless: bool = False
    milliseconds: float | None = None

    @property
    def pixel_bytes(self) -> int:
        """Of one pixel with its alpha."""
        return (self.pixels.shape[2] + (self.alpha is not None)) * self.pixels.itemsize

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
            raise ValueError(f"pixels: got shape {pixels.shape}; pass [H, W, 1] or [H, W, 3]")
        if pixels.dtype not in (np.uint8, np.uint16, np.float32):
            raise TypeError(f"pixels: got dtype {pixels.dtype}; pass uint8, uint16, or float32 in [0, 1]")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            got = f"shape {alpha.shape} and dtype {alpha.dtype}"
            raise ValueError(f"alpha: got {got}; pass {pixels.shape[:2]} and {pixels.dtype}, as the pixels have")


def as_photo(image: Any) -> Photo:
    """A `Photo` from a Pillow image or a NumPy array; the array's memory is shared where the dtype allows it.

    Arrays are [H, W], [H, W, 1] (grey), [H, W, 3] (RGB) or [H, W, 4] (RGBA, not premultiplied); uint8, uint16 or
    floating point in [0, 1]. Pillow images may have any mode; an EXIF orientation is applied to the pixels and set to 1
    in the tags, as `images.read` does.

    Raises:
        TypeError: not an image, or an array of another dtype.
        ValueError: another shape, no pixels, or values outside [0, 1] (or NaN).
    """
    if isinstance(image, Photo):
        return image
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"image: {image.width}x{image.height} has no pixels; pass an image of at least 1x1")
        notes: list[str] = []
        if getattr(image, "tag_v2", {}).get(254) == 1 and getattr(image, "tell", int)() == 0:  # NewSubfileType
            notes.append("this first image of a TIFF is a preview: the full one is elsewhere in the file")
        pixels, alpha = split(image, notes)
        icc = fitting_profile(image.info.get("icc_profile"), pixels, image.mode, notes)
        orientation, exif = _orientation(image), image.info.get("exif")
        if orientation != 1:
            pixels, alpha = upright(pixels, orientation), None if alpha is None else upright(alpha, orientation)
            if isinstance(exif, bytes):
                exif = patched(with_prefix(exif), {ORIENTATION: 1}, True)
        return Photo(pixels, alpha, exif, icc, format=image.format or "", mode=image.mode, notes=notes)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image: got {type(image).__name__}; pass a PIL image or a NumPy array [H, W] or [H, W, C]")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))):
        raise ValueError(f"image: got shape {image.shape}; pass [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]")
    if image.size == 0:
        raise ValueError(f"image: shape {image.shape} has no pixels; pass an image of at least 1x1")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise TypeError(f"image: got dtype {image.dtype}; pass uint8, uint16, or floating point in [0, 1]")
    if image.dtype.kind == "f":
        low, high = image.min(), image.max()
        if not (low >= 0 and high <= 1):  # also true for NaN, which min() and max() hand on
            cure = "replace NaN" if np.isnan(low) else "divide by 255" if 2 < high <= 255 else "scale or clip them"
            raise ValueError(f"image: values span {low:g} to {high:g}, floating point must be in [0, 1]; {cure}")
        image = image.astype(np.float32, copy=False)
    if image.ndim == 2:
        return Photo(image[:, :, None])  # [H, W, 1]
    return Photo(image[:, :, :3], image[:, :, 3]) if image.shape[2] == 4 else Photo(image)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8, of the pixels of a loaded image; 1 if it says none, or damaged data."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged data raise nearly anything
        return 1
    return orientation if orientation in range(1, 9) else 1


def middle(photo: Photo, size: tuple[int, int]) -> Photo:
    """What is left in the middle of size (height, width) when as much is cut off at either end."""
    (height, width), (h, w) = photo.pixels.shape[:2], size
    y, x = (height - h) // 2, (width - w) // 2
    alpha = None if photo.alpha is None else photo.alpha[y : y + h, x : x + w]
    return replace(photo, pixels=photo.pixels[y : y + h, x : x + w], alpha=alpha)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, ...] turned and mirrored as the EXIF orientation says (Exif 2.32, tag 0x0112)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)  # mirrored at the main diagonal
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def as_kind(photo: Photo, like: Any) -> Any:
    """The photo as the kind of image that `like` is, the inverse of `as_photo`.

    A Pillow image keeps its mode where that still says the same (L, LA, RGB, RGBA, I;16, I, F), else comes back as the
    nearest of L, LA, RGB, RGBA, with EXIF and ICC profile in its ``info``. An array keeps ndim, dtype and channels.

    Raises:
        TypeError: `like` is neither. ValueError: the photo has other channels than `like`.
    """
    if isinstance(like, Image.Image):
        mode = {"F": "F", "I": "I"}.get(like.mode, "I;16" if like.mode.startswith("I;16") else "")
        deep = {"F": np.float32, "I": np.uint16, "I;16": np.uint16}.get(mode)
        if deep is not None and photo.pixels.shape[2] == 1 and photo.alpha is None:
            pixels = convert_depth(photo.pixels, deep)[:, :, 0]
            image = Image.fromarray(pixels.astype(np.int32) if mode == "I" else np.ascontiguousarray(pixels))
        else:
            image = to_image(convert_depth(photo.pixels, np.uint8), convert_depth(photo.alpha, np.uint8))
        image.info.update({k: v for k, v in (("exif", photo.exif), ("icc_profile", photo.icc)) if v})
        return image
    if not isinstance(like, np.ndarray):
        raise TypeError(f"like: got {type(like).__name__}; pass the PIL image or NumPy array that the photo came from")
    wanted = 1 if like.ndim == 2 else like.shape[2]
    channels = photo.pixels.shape[2] + (photo.alpha is not None)
    if channels != wanted:
        raise ValueError(f"photo: has {channels} channels (alpha included), but an array with {wanted} was asked for")
    pixels = convert_depth(photo.pixels, like.dtype)
    if photo.alpha is not None:
        both = np.dstack((pixels, convert_depth(photo.alpha, like.dtype)))  # [H, W, 4]
        return both.astype(like.dtype, copy=False)  # byte order, which dstack makes native
    return pixels[:, :, 0] if like.ndim == 2 else pixels


@overload
def convert_depth(array: np.ndarray, dtype: Any) -> np.ndarray: ...
@overload
def convert_depth(array: np.ndarray | None, dtype: Any) -> np.ndarray | None: ...
def convert_depth(array: np.ndarray | None, dtype: Any) -> np.ndarray | None:
    """[H, W, ...] uint8, uint16 or float in [0, 1] as another of these, rounded to nearest; None stays None.

    Floats are clipped to [0, 1] on the way to integers. The same array is returned if the dtype is the same.
    """
    dtype = np.dtype(dtype)
    if array is None or array.dtype.newbyteorder("=") == dtype.newbyteorder("="):
        return array if array is None else array.astype(dtype, copy=False)
    out = np.empty(array.shape, dtype)
    for rows in strips(*array.shape[:2]):
        part = array[rows]
        if array.dtype.kind == "f" and dtype.kind == "f":
            out[rows] = part
        elif array.dtype.kind == "f":
            # float64: a float32 product x * 65535 may round across a half
            out[rows] = np.rint(np.clip(part, 0, 1).astype(np.float64) * np.iinfo(dtype).max)
        elif dtype.kind == "f":
            out[rows] = part.astype(np.float64) / np.iinfo(array.dtype).max
        elif dtype == np.uint8:
            out[rows] = (part.astype(np.uint32) + 128) // 257  # 65535 = 255 * 257
        else:
            out[rows] = part.astype(dtype) * 257
    return out


def to_image(pixels: np.ndarray, alpha: np.ndarray | None = None) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA (uint8) or I;16 (uint16 grey without alpha).

    Grey shares the array's memory; alpha costs one interleaved copy, RGB Pillow's own (4 bytes a pixel).
    """
    if alpha is not None:
        both = np.empty((*alpha.shape, pixels.shape[2] + 1), pixels.dtype)  # [H, W, 2] or [H, W, 4]
        both[:, :, :-1], both[:, :, -1] = pixels, alpha
        return Image.fromarray(both)
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def fill_transparent(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give fully transparent pixels the colours of the visible ones near them.

    What is stored under alpha 0 is arbitrary, often black, and would darken the edges of an upscaled image. Each such
    pixel gets the alpha-weighted mean of the smallest aligned block (2x2, 4x4, ...) around it that has a visible pixel:
    push-pull, O(pixels). Pixels with alpha > 0 are returned as they are.

    Args:
        pixels: [H, W, C] uint8, uint16 or float32.
        alpha: [H, W].

    Returns:
        [H, W, C] of the same dtype; `pixels` itself if nothing is, or everything is, transparent.

    Raises:
        ValueError: shapes that do not go together.
    """
    if pixels.ndim != 3 or alpha.shape != pixels.shape[:2]:
        raise ValueError(f"alpha: got shape {alpha.shape}, but pixels have {pixels.shape}; pass [H, W] and [H, W, C]")
    if alpha.all() or not alpha.any():
        return pixels
    levels = [_halve(pixels, alpha, premultiply=True)]
    while not levels[-1][1].all():  # ends: at 1x1 the one block holds all that is visible
        levels.append(_halve(*levels[-1], premultiply=False))
    coarse: np.ndarray | None = None
    for colour, weight in reversed(levels):
        mean = colour / np.maximum(weight, np.finfo(np.float32).tiny)[:, :, None]
        if coarse is not None:
            height, width = weight.shape
            above = coarse.repeat(2, axis=0)[:height].repeat(2, axis=1)[:, :width]
            mean = np.where((weight > 0)[:, :, None], mean, above)
        coarse = mean
    if pixels.dtype.kind in "iu":
        mean = np.rint(mean).astype(pixels.dtype)
    out = pixels.copy()
    for top in (0, 1):
        for left in (0, 1):
            part = out[top::2, left::2]
            hole = alpha[top::2, left::2] == 0
            part[hole] = mean[: part.shape[0], : part.shape[1]][hole]
    return out


def _halve(colour: np.ndarray, weight: np.ndarray, premultiply: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sums over 2x2 blocks of colour (times weight if asked) and of weight, in float32; odd edges count as empty."""
    height, width = (weight.shape[0] + 1) // 2, (weight.shape[1] + 1) // 2
    colours = np.zeros((height, width, colour.shape[2]), np.float32)
    weights = np.zeros((height, width), np.float32)
    for top in (0, 1):
        for left in (0, 1):
            c, w = colour[top::2, left::2], weight[top::2, left::2].astype(np.float32)
            colours[: w.shape[0], : w.shape[1]] += c * w[:, :, None] if premultiply else c
            weights[: w.shape[0], : w.shape[1]] += w
    return colours, weights
