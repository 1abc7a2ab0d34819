"""Y'CbCr to R'G'B' and back, by swscale where it is exact to half a code and by the formulas of H.273 where not.

swscale of FFmpeg 8 was measured against those formulas: 8 bits to R'G'B', and R'G'B' to 8 bits of limited range, are
within 0.53 of a code; to full range it is 1.03 off, and with more than 8 bits 4 codes of 10 bits either way. Those are
done here: the matrix in float32; chroma is still halved and doubled by swscale, which knows where its samples lie.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from .kinds import Colours, VideoError, pyav
from .reformatters import borrowed

RGB, BT709, UNSPECIFIED, BT601 = 0, 1, 2, 6  # matrices
SRGB = 13  # transfer
# luma of R' and B' by matrix: those that are linear in R'G'B' and that swscale has
_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
_LUMA[9] = (0.2627, 0.0593)
_SWSCALE = {6: 5}  # its numbers are H.273's, but for this one
_REFUSED = {
    0: "R'G'B', in a Y'CbCr format",
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
}
_WHOLE = ("yuv444p", "yuva444p", "yuvj444p")  # planes of a whole picture, which need no swscale


class Kind(NamedTuple):
    """What a pixel format holds."""

    name: str  # "rgb", "grey" or "yuv"
    bits: int  # of a component; at least 8
    alpha: bool


def kind(pixel_format: str) -> Kind:
    """What ``pixel_format`` (FFmpeg's name) holds; VideoError if it is none that is read or written here."""
    try:
        found = pyav().VideoFormat(pixel_format)
    except ValueError:
        raise VideoError(f"pixel format {pixel_format}: unknown; `ffmpeg -pix_fmts` lists them") from None
    bits = max(c.bits for c in found.components) if found.components else 0
    alpha = any(c.is_alpha for c in found.components)
    others = found.is_bayer or "xyz" in pixel_format or "msb" in pixel_format or "f16" in pixel_format
    if others or not 0 < bits <= 16:
        raise VideoError(f"pixel format {pixel_format}: not supported; convert it: ffmpeg -i IN -pix_fmt gbrp16le OUT")
    if found.is_rgb or found.has_palette or pixel_format.startswith("mono"):
        return Kind("rgb", max(8, bits), alpha or found.has_palette)
    return Kind("yuv" if len(found.components) - alpha > 1 else "grey", max(8, bits), alpha)


def resolved(
    colours: Colours, pixel_format: str, size: tuple[int, int], told_range: bool = True
) -> tuple[Colours, list[str]]:
    """Colours as players take them where a file does not say, and notes of what is assumed.

    Args:
        size: (width, height).
        told_range: whether ``colours.full_range`` was said by the file.

    Raises:
        VideoError: for a matrix that is not linear in R'G'B', or not known.
    """
    holds, notes = kind(pixel_format).name, []
    if holds == "rgb":
        if told_range and not colours.full_range:
            notes.append("its R'G'B' is said to be of limited range: it is taken as full, as players do")
        return colours._replace(matrix=RGB, full_range=True), notes
    if not told_range:
        colours = colours._replace(full_range=pixel_format.startswith("yuvj") or holds == "grey")
        if holds == "grey":  # that Y'CbCr is of limited range is no assumption but the rule of all codecs
            notes.append("its range is not told: full is assumed, as FFmpeg does for grey")
    if colours.matrix == UNSPECIFIED or (holds == "grey" and colours.matrix not in _LUMA):
        large = size[1] > 576 or size[0] >= 1280
        colours = colours._replace(matrix=BT709 if large else BT601)
        if holds == "yuv":
            notes.append(f"its colour matrix is not told: {'BT.709' if large else 'BT.601'} is assumed, by its size")
    if colours.matrix not in _LUMA:
        name = _REFUSED.get(colours.matrix, "another")
        raise VideoError(
            f"colour matrix {colours.matrix} ({name}): not supported; convert it: "
            "ffmpeg -i IN -vf zscale=matrix=709 -c:v ffv1 OUT.mkv"
        )
    return colours, notes


def output_colours(colours: Colours, pixel_format: str) -> Colours:
    """What is written for a video of these (resolved) colours in a pixel format.

    R'G'B' in a Y'CbCr format becomes BT.709 of limited range, with sRGB's primaries and transfer where they are not
    told; Y'CbCr in an R'G'B' format is of full range.
    """
    holds = kind(pixel_format).name
    if holds == "rgb":
        return colours._replace(matrix=RGB, full_range=True)
    if colours.matrix == RGB:
        primaries = 1 if colours.primaries == UNSPECIFIED else colours.primaries
        transfer = SRGB if colours.transfer == UNSPECIFIED else colours.transfer
        colours = Colours(BT709, primaries, transfer, False)
    return colours._replace(full_range=True) if pixel_format.startswith("yuvj") else colours


def output_note(colours: Colours, pixel_format: str) -> str | None:
    """What to say of ``output_colours``, if anything."""
    if colours.matrix == RGB and kind(pixel_format).name != "rgb":
        return f"its R'G'B' colours are written as {pixel_format}: BT.709, limited range"
    return None


def to_rgb(frame: Any, colours: Colours, bits: int) -> np.ndarray:
    """A decoded frame's R'G'B', full range: [H, W, 3], uint8 for 8 bits, else uint16 (65535 is white).

    Args:
        frame: an ``av.VideoFrame``.
        colours: resolved; the frame's own tags are not read.
        bits: of a component.
    """
    holds, top = kind(frame.format.name), 255 if bits == 8 else 65535
    if holds.name == "rgb":
        if holds.bits == 8:
            return _scaled(_reformatted(frame, "rgb24", colours).to_ndarray(), 255, top)
        green, blue, red = _planes(_reformatted(frame, f"gbrp{holds.bits}le", colours))
        return _scaled(np.stack([red, green, blue], 2), 2**holds.bits - 1, top)
    if holds.name == "grey":
        codes = _planes(_reformatted(frame, "gray" if holds.bits == 8 else f"gray{holds.bits}le", colours))[0]
        scale, offset, _ = _luma_codes(colours.full_range, holds.bits)
        return np.repeat(_rounded((codes.astype(np.float32) - offset) * (top / scale), top)[..., None], 3, 2)
    if bits == holds.bits == 8:
        return _reformatted(frame, "rgb24", colours).to_ndarray()
    shift = 1
    if not frame.format.name.startswith(_WHOLE) or frame.format.is_big_endian:
        frame, shift = _reformatted(frame, "yuv444p16le", colours), 2 ** (16 - holds.bits)
    codes = np.stack([plane.reshape(-1) for plane in _planes(frame)[:3]]).astype(np.float32)
    forward, offsets = _equations(colours, holds.bits)
    matrix = np.linalg.inv(forward) * (top / shift)
    offsets = offsets * shift
    rgb = (matrix.astype(np.float32) @ codes).T - (matrix @ offsets).astype(np.float32)
    return _rounded(rgb, top).reshape(frame.height, frame.width, 3)


def from_rgb(rgb: np.ndarray, pixel_format: str, colours: Colours) -> Any:
    """R'G'B' as an ``av.VideoFrame`` of a pixel format, tagged with ``output_colours``; without a time.

    Args:
        rgb: [H, W, 3], full range: uint8, or uint16 whose white is 65535.
        pixel_format: FFmpeg's name. Halved chroma lies left, as players take it where they are not told.
        colours: of the source, resolved.

    Raises:
        VideoError: for a pixel format that is not written.
    """
    holds, colours = kind(pixel_format), output_colours(colours, pixel_format)
    if pyav().VideoFormat(pixel_format).has_palette:
        raise VideoError(f"pixel format {pixel_format}: palettes are not written; choose another, such as rgb24")
    height, width = rgb.shape[:2]
    bits, full = holds.bits, 255 if rgb.dtype == np.uint8 else 65535
    top = 2**bits - 1
    if bits == 8 and (holds.name == "rgb" or (holds.name == "yuv" and full == 255 and not colours.full_range)):
        rgb = np.ascontiguousarray(_scaled(rgb, full, 255))
        return _reformatted(
            place_chroma(pyav().VideoFrame.from_ndarray(rgb, "rgb24"), "left"), pixel_format, colours, True
        )
    if holds.name == "rgb":
        scaled = _scaled(rgb, full, top)
        planes, name = [scaled[..., i] for i in (1, 2, 0)], f"gbrp{bits}le"
    else:
        matrix, offsets = _equations(colours, bits)
        if holds.name == "grey":
            matrix, offsets = matrix[:1], offsets[:1]
        codes = (matrix / full).astype(np.float32) @ rgb.reshape(-1, 3).T.astype(np.float32)
        codes += offsets[:, None].astype(np.float32)
        planes = list(_rounded(codes, top).reshape(-1, height, width))
        name = ("gray" if holds.name == "grey" else "yuv444p") + ("" if bits == 8 else f"{bits}le")
    frame = pyav().VideoFrame(width, height, name)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, values.dtype).reshape(height, -1)
        rows[:, :width] = values
    return _reformatted(place_chroma(frame, "left"), pixel_format, colours, True)


def tags(colours: Colours, codec_context: Any) -> None:
    """Say the colours to an encoder, whose pixel format is set, as ``from_rgb`` says them to its frames."""
    _tag(codec_context, output_colours(colours, codec_context.pix_fmt))


def tells_chroma_place(frame: Any) -> bool:
    """Whether a decoded frame says that its halved chroma lies elsewhere than at the middle of its pixels.

    swscale takes what is not told for the middle, and PyAV does not give what is told: a small frame with the same
    properties and a slope in its chroma is converted.
    """
    with borrowed("place", _reformatter) as reformatter:
        small = reformatter.reformat(frame, 16, 16, "yuv420p", interpolation=_how())
    for plane in small.planes:
        plane.update((np.arange(plane.buffer_size) % plane.line_size * 8).astype(np.uint8).tobytes())
    pictures = [_reformatted(f, "rgb24", Colours(BT601)).to_ndarray() for f in (small, place_chroma(small, "center"))]
    return not np.array_equal(*pictures)


def place_chroma(frame: Any, place: str) -> Any:
    """The frame, saying that its halved chroma lies at "left", "center" or "topleft"; its colours are untagged."""
    from av.filter import Graph

    frame.colorspace, frame.color_range = UNSPECIFIED, 0  # a graph is made for one kind of frames
    key = place, frame.width, frame.height, frame.format.name

    def make() -> Any:
        graph = Graph()
        begin = graph.add_buffer(width=key[1], height=key[2], format=frame.format, time_base=Fraction(1))
        graph.link_nodes(begin, graph.add("setparams", f"chroma_location={place}"), graph.add("buffersink")).configure()
        return graph

    with borrowed(key, make) as graph:
        graph.push(frame)
        return graph.pull()


def _tag(target: Any, colours: Colours) -> None:
    target.colorspace, target.color_range = colours.matrix, 1 + colours.full_range
    target.color_primaries, target.color_trc = colours.primaries, colours.transfer


def _reformatted(frame: Any, pixel_format: str, colours: Colours, tagged: bool = False) -> Any:
    """By swscale, chroma interpolated; ``colours`` are those of its Y'CbCr side, and the result's if ``tagged``."""
    if frame.format.name != pixel_format:
        rgb_in, rgb_out = (kind(name).name == "rgb" for name in (frame.format.name, pixel_format))
        frame.colorspace = RGB if rgb_in else colours.matrix
        with borrowed(frame.format.name + pixel_format, _reformatter) as reformatter:
            frame = reformatter.reformat(
                frame,
                format=pixel_format,
                dst_colorspace=None if rgb_out else _SWSCALE.get(colours.matrix, colours.matrix),
                interpolation=_how(),
                src_color_range=2 if rgb_in else 1 + colours.full_range,
                dst_color_range=2 if rgb_out else 1 + colours.full_range,
            )
    if tagged:
        _tag(frame, colours)
    return frame


def _reformatter() -> Any:
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()


def _how() -> Any:
    from av.video.reformatter import Interpolation as Flag

    return Flag.BICUBIC | Flag.ACCURATE_RND | Flag.BITEXACT | Flag.FULL_CHR_H_INT | Flag.FULL_CHR_H_INP


def _planes(frame: Any) -> list[np.ndarray]:
    """Of a planar frame, [h, w] each, as they lie there."""
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8 if frame.format.components[0].bits == 8 else "<u2")
        found.append(rows[: rows.size // plane.height * plane.height].reshape(plane.height, -1)[:, : plane.width])
    return found


def _luma_codes(full_range: bool, bits: int) -> tuple[int, int, int]:
    """White's code less black's, black's, and the codes of all of a chroma's range."""
    unit = 2 ** (bits - 8)
    return (2**bits - 1, 0, 2**bits - 1) if full_range else (219 * unit, 16 * unit, 224 * unit)


def _equations(colours: Colours, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(matrix [3, 3], offsets [3]) from R'G'B' of 0 to 1 to codes of Y'CbCr: H.273, 8.3."""
    red, blue = _LUMA[colours.matrix]
    scale, black, chroma = _luma_codes(colours.full_range, bits)
    luma = np.array([red, 1 - red - blue, blue])
    rows = [
        scale * luma,
        chroma * (np.array([0, 0, 1]) - luma) / (2 - 2 * blue),
        chroma * (np.array([1, 0, 0]) - luma) / (2 - 2 * red),
    ]
    return np.stack(rows), np.array([black, 2 ** (bits - 1), 2 ** (bits - 1)], float)


def _rounded(values: np.ndarray, top: int) -> np.ndarray:
    """To the nearest code from 0 to ``top``; ``values`` are used up."""
    values += 0.5
    return np.clip(values, 0.5, top + 0.5, out=values).astype(np.uint8 if top == 255 else np.uint16)


def _scaled(values: np.ndarray, top: int, wanted: int) -> np.ndarray:
    """Codes whose white is ``top`` as such whose white is ``wanted``, rounded."""
    return values if top == wanted else _rounded(values * (wanted / top), wanted)
