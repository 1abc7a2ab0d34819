"""LIIF and LTE for spandrel, the library that chaiNNer, ComfyUI and others load models with.

import spandrel
from liif_fast.integrations.spandrel import install
install()
descriptor = spandrel.ModelLoader("cpu").load_from_file("edsr-baseline-liif.pth")
large = descriptor(image)                      # x4, as every model of spandrel's
larger = descriptor.upscale(image, scale=6.3)  # or size=(height, width), and what else LIIF.upscale takes
descriptor.scale = 2.5                         # from now on descriptor(image) is x2.5
"""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..models import values
from ..models.liif import LIIF
from ..models.quantized import QuantizedLIIF
from ..weights import checkpoints, state_dicts
from ..weights.files import first_line

SCALE = 4  # of descriptors until another is set: the largest that the official weights were trained with
_ID = "LIIF"
_WAVES = {"encoder", "coef", "freq", "phase"}
_PARTS = ({"encoder", "imnet"}, {*_WAVES, "imnet"}, {*_WAVES, "layers"})  # of LIIF, LTE, LTE+


def install() -> None:
    """Register LIIF with spandrel's ``MAIN_REGISTRY``, after all others; once, however often this is called. Its kin
    LTE and LTE+ are of the same architecture there, whatever the encoder.

    Files that ``liif_fast.load`` reads as one of them load by ``spandrel.ModelLoader``, if spandrel can read them too
    (.pth, .ckpt and .safetensors; pickles of tensors only). The result is an ``ImageModelDescriptor`` in float32: scale
    4, purpose "SR", images in [0, 1], its ``model`` a ``LIIF``. Its ``scale`` may be set to any factor above 0; its
    ``upscale`` is ``LIIF.upscale``. It tiles by itself, in bounded memory (``ModelTiling.INTERNAL``), and
    takes images of any size.

    spandrel gives an architecture nothing but tensors. What else a file says (the normalisation of images, the spec and
    the hash that ``LIIF.save`` writes, averaged weights beside raw ones) is read from the file: for that
    ``ModelLoader.load_state_dict_from_file`` is replaced by a function whose state dict of a LIIF's file knows that,
    also when its tensors are changed; of another file it is what it was. A state dict that does not (``dict(state)``,
    say) is taken as ``liif_fast.load`` takes a bare one: images become (x - 0.5) / 0.5, all four corners are blended.

    What looks like a LIIF but is none that ``liif_fast.load`` takes is refused with its ``CheckpointError``.

    Raises:
        ImportError: without the package spandrel.
    """
    spandrel = _spandrel()
    support = spandrel.ArchSupport.from_architecture(_classes()[0]())
    if spandrel.MAIN_REGISTRY.add(support, ignore_duplicates=True):  # it was not there
        spandrel.ModelLoader.load_state_dict_from_file = _noting(spandrel.ModelLoader.load_state_dict_from_file)


class _OfFile(dict[str, Any]):
    """The state dict of a file, which also knows what else that says."""

    def __init__(self, path: str | os.PathLike[str], device: Any) -> None:
        self.path, self.contents = path, checkpoints.contents_of(path)
        super().__init__({name: t.to(device) for name, t in self.contents.state.items()})


def _noting(reading: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(reading)
    def load_state_dict_from_file(self: Any, path: str | os.PathLike[str]) -> Any:
        state = reading(self, path)
        return _OfFile(path, self.device) if _ID in self.registry and _is_liif(state) else state

    return load_state_dict_from_file


def _whole(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The official checkpoint again, of which spandrel has left the ``model``: name, args and sd."""
    return {"model": state} if isinstance(state.get("sd"), Mapping) else state


def _is_liif(state: Mapping[str, Any]) -> bool:
    """By the names of its tensors: an encoder, a decoding MLP, or all of an LTE, and nothing else."""
    try:
        names = state_dicts.read(_whole(state), spec={}).state
    except ValueError:
        return False
    return {name.partition(".")[0] for name in names if name != "act_scale"} in _PARTS


def _load(state: Mapping[str, Any]) -> LIIF:
    if isinstance(state, _OfFile):
        model, notes = checkpoints.built(dataclasses.replace(state.contents, state=state), state.path)
    else:
        model, notes = checkpoints.built(_whole(state))
    for note in notes:
        warnings.warn(note, checkpoints.CheckpointNote, stacklevel=2)
    if not isinstance(model, LIIF):
        raise checkpoints.CheckpointError(f"a LIIF is wanted, its spec builds a {type(model).__name__}")
    values.check_channels(model._out_dim())
    return model.float()


@functools.cache
def _classes() -> tuple[type[Any], type[Any]]:
    """The architecture and its descriptor, where spandrel can be imported."""
    import spandrel

    class LIIFDescriptor(spandrel.ImageModelDescriptor):
        """A LIIF, or an LTE, in spandrel's form; see ``install``."""

        def __init__(self, model: LIIF, architecture: Any) -> None:
            half = not isinstance(model, QuantizedLIIF)  # its scales are float32
            super().__init__(
                model,
                model.state_dict(),
                architecture,
                purpose="SR",
                tags=[type(model).__name__, type(model.encoder).__name__, "any scale"],
                supports_half=half,
                supports_bfloat16=half,
                scale=SCALE,
                input_channels=3,
                output_channels=3,
                tiling=spandrel.ModelTiling.INTERNAL,
                call_fn=lambda model, image: model.upscale(image, self.scale),
            )

        def upscale(
            self, image: Any, scale: float | None = None, size: Sequence[int] | None = None, **options: Any
        ) -> Any:
            """``LIIF.upscale``: an image of any kind by ``scale``, or to ``size`` (height, width)."""
            return self.model.upscale(image, scale, size, **options)

    class LIIFArchitecture(spandrel.Architecture):
        """LIIF among spandrel's architectures."""

        def __init__(self) -> None:
            super().__init__(id=_ID, detect=_is_liif)

        def load(self, state_dict: Mapping[str, Any]) -> LIIFDescriptor:
            return LIIFDescriptor(_load(state_dict), self)

    return LIIFArchitecture, LIIFDescriptor


def _spandrel() -> Any:
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision and torch do not fit each other
        raise ImportError(
            f"spandrel cannot be imported ({first_line(error)}): pip install 'liif-fast[spandrel]'"
        ) from error
    return spandrel
