"""``to_onnx`` and ``to_pt2``: a LIIF or LTE as one file that programs without liif_fast run."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..base import atomic
from ..base.shown import shown
from ..base.version import VERSION
from ..models import values
from ..models.liif import LIIF
from ..models.quantized import QuantizedLIIF
from ..sizes import checked_size, output_size
from ..weights.files import first_line
from . import portable
from .translations import standard_operators

OPSET = 18
PARTS = ("image", "head")
DTYPES = (torch.float32, torch.float16)
_EXAMPLE = (13, 17)  # an image's sides where they are not fixed: no two sizes in a trace are to be equal by chance
_IMAGE = (23, 29)  # the head's images', likewise
_ANY = torch.export.Dim.DYNAMIC


class _Asked(NamedTuple):
    """What goes to the exporters."""

    module: nn.Module
    inputs: dict[str, Tensor]
    dynamic: dict[str, Any]
    about: str


def to_onnx(
    model: LIIF,
    path: str | os.PathLike[str],
    *,
    part: str = "image",
    fixed: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    scale: float | None = None,
    dtype: torch.dtype = torch.float32,
    opset: int = OPSET,
) -> None:
    """Write a LIIF, LTE or LTE+ as an ONNX file of standard operators; what runs once a feature is a convolution.

    Inputs and result are float32 whatever the dtype:

    - ``part="image"``: ``image [B, 3, H, W]`` in [0, 1] and ``size [2]`` int64, (height, width), to ``result [B, 3,
      *size]`` in [0, 1]. Rows are made some at a time: the hidden map (D numbers a pixel of the image, for LTE 2 D) and
      the result are all that is as large as they are.
    - ``part="head"``, for an encoder of one's own: ``feat [B, C, H, W]``, ``coord [B, Q, 2]``, with ``cell_decode``
      ``cell [B, Q, 2]`` and for LTE ``inp [B, out_dim, H, W]``, the images as the encoder got them, to ``result [B, Q,
      out_dim]``, as ``LIIF.query`` and ``LTE.query``.

    Below the image's size results are samples of LIIF, as of ``upscale(..., point=True)``: reduce the image before.
    Coordinates are float32, for a model in float64 too.

    Args:
        fixed: (height, width) of every image (for the head: of the features); None: any. Wanted for an encoder that
            works on windows (``pad_to``, SwinIR's).
        size: (height, width) of every result, or scale: a whole number of times the image's (any number where that is
            ``fixed``). The file has no input ``size`` then.
        dtype: of the weights and products, float32 or float16; LTE's angles are float32, but the frequencies in them
            are rounded: of colours it loses five times as much as LIIF (0.2 % of their spread, untrained).
        opset: of the standard operators, 18 or as much later as the package onnx converts to.

    Equivalent to: ``model.upscale(image, size=size, point=True)`` or ``model.query(feat, coord, cell)`` (and ``inp``).

    Raises:
        ImportError: without the packages onnx and onnxscript (extra ``onnx``).
        TypeError, ValueError: naming the argument; a model whose colours are not what its weights say; int8.
        OSError: the file cannot be written. RuntimeError: the encoder has no form there.
    """
    if isinstance(opset, bool) or not isinstance(opset, int) or opset < OPSET:
        raise ValueError(f"opset: a whole number from {OPSET} is wanted, got {shown(opset)}")
    asked = _asked(model, part, fixed, size, scale, dtype)
    standard_operators()
    _check_target(path)
    with _undisturbed():
        program = _traced(asked)
        try:
            made = torch.onnx.export(
                program, dynamo=True, input_names=list(asked.inputs), output_names=["result"], opset_version=opset,
                verbose=False,
            )  # fmt: skip
        except Exception as error:  # an operator of somebody's encoder, say, that has no form there
            raise RuntimeError(f"export: torch.onnx cannot translate this model: {first_line(error)}") from error
    assert made is not None  # it is written by ``save``
    if (written := made.model.opset_imports.get("")) != opset:  # torch leaves what it cannot convert as it is
        raise ValueError(f"opset: this onnx does not convert to {opset}; {written} can be had")
    made.model.producer_name, made.model.producer_version, made.model.doc_string = "liif_fast", VERSION, asked.about
    with atomic.replacing(path) as scratch:
        made.save(scratch)


def to_pt2(
    model: LIIF,
    path: str | os.PathLike[str],
    *,
    part: str = "image",
    fixed: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    scale: float | None = None,
) -> None:
    """Write a LIIF, LTE or LTE+ as a package of AOTInductor, machine code for processors like this one: programs with
    torch alone run it by ``torch._inductor.aoti_load_package(path)``. In float32; arguments, inputs and results as of
    ``to_onnx``.

    Raises:
        RuntimeError: it cannot be compiled here (no C++ compiler, say). Others as of ``to_onnx``.
    """
    if os.path.splitext(path)[1] != ".pt2":
        raise ValueError(f"path: torch wants the suffix .pt2 of its packages, got {os.fspath(path)}")
    asked = _asked(model, part, fixed, size, scale, torch.float32)
    _check_target(path)
    with _undisturbed(), atomic.replacing(path) as scratch:
        package = f"{scratch}.pt2"
        try:
            torch._inductor.aoti_compile_and_package(_traced(asked), package_path=package)
            os.replace(package, scratch)
        except (RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.filename in (scratch, package):
                raise
            raise RuntimeError(f"export: AOTInductor cannot compile it here: {first_line(error)}") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(package)


def _asked(model: Any, part: str, fixed: Any, size: Any, scale: Any, dtype: torch.dtype) -> _Asked:
    if not isinstance(model, LIIF):
        raise TypeError(f"model: a LIIF is wanted, got a {type(model).__name__}")
    if isinstance(model, QuantizedLIIF):
        raise ValueError("model: 8-bit layers have no standard form; export the model that quantize() was called on")
    if part not in PARTS:
        raise ValueError(f"part: one of {', '.join(map(repr, PARTS))} is wanted, got {shown(part)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype: torch.float32 or torch.float16 is wanted, got {shown(dtype)}")
    height, width = _EXAMPLE if fixed is None else checked_size(fixed, "fixed")
    sides = {} if fixed is not None else {2: _ANY, 3: _ANY}
    inputs: dict[str, Tensor]
    dynamic: dict[str, Any]
    if part == "head":
        if size is not None or scale is not None:
            raise ValueError("size, scale: the head is asked at coordinates; give neither")
        module = portable.HeadAlone(model, dtype)
        names = ("coord", "cell") if model.cell_decode else ("coord",)
        inputs = {"feat": torch.zeros(2, model.encoder.out_dim, height, width)}
        inputs |= {name: torch.zeros(2, 19, 2) for name in names}
        dynamic = {"feat": {0: _ANY, **sides}, **{name: {0: _ANY, 1: _ANY} for name in names}}
        if module.layers.adds_image:
            inputs["inp"] = torch.zeros(2, model._out_dim(), *_IMAGE)
            dynamic["inp"] = {0: _ANY, 2: _ANY, 3: _ANY}
        about = "head: colours, normalised as the network's own, of features [B, C, H, W] at coordinates [B, Q, 2]"
        return _Asked(module, inputs, dynamic, f"{module.layers.name}'s {about}")
    if fixed is None and model.pad_to > 1:
        raise ValueError(
            f"fixed: this model's encoder works on windows of {model.pad_to}: give images' (height, width)"
        )
    result, times = _result(size, scale, fixed)
    inputs, dynamic = {"image": torch.zeros(2, 3, height, width)}, {"image": {0: _ANY, **sides}}
    if result is None and times is None:
        inputs["size"], dynamic["size"] = torch.tensor([3 * height + 1, 2 * width + 3]), None
    about = "images [B, 3, H, W] in [0, 1] at any size (height, width); below their own size it samples points"
    whole = portable.Whole(model, dtype, result, times)
    values.check_channels(model._out_dim())
    return _Asked(whole, inputs, dynamic, f"{whole.layers.name}: {about}")


def _result(size: Any, scale: Any, fixed: Any) -> tuple[tuple[int, int] | None, int | None]:
    """Of every result the size, or the factor."""
    if size is None and scale is None:
        return None, None
    if fixed is not None or size is not None:
        return output_size((1, 1) if fixed is None else fixed, scale, size), None
    if isinstance(scale, bool) or not isinstance(scale, int | float) or scale < 1 or scale != int(scale):
        raise ValueError(f"scale: a whole number is wanted where images have any size, got {shown(scale)}; give fixed")
    return None, int(scale)


def _check_target(path: str | os.PathLike[str]) -> None:
    """OSError where no file can be written, before the work."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    atomic.probe(os.path.dirname(os.path.realpath(path)))


def _traced(asked: _Asked) -> torch.export.ExportedProgram:
    args, dynamic = tuple(asked.inputs.values()), tuple(asked.dynamic.values())
    try:
        with torch.no_grad():
            asked.module(*args)  # what an encoder cannot take it says better than the tracer
            return torch.export.export(asked.module, args, dynamic_shapes=dynamic, strict=True)
    except ValueError as error:
        given = "x".join(map(str, args[0].shape[2:]))
        raise ValueError(f"fixed: other sides than {given} are wanted: {first_line(error)}") from error
    except Exception as error:  # of any kind: the encoder may be anyone's
        raise RuntimeError(f"export: torch.export cannot trace this model: {first_line(error)}") from error


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without what the exporters say of their own insides, and without a caller's autocast and default device, which
    they would write."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.autocast("cpu", enabled=False), torch.device("cpu"):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
