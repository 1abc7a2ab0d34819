"""liif_fast: LIIF (Local Implicit Image Function, CVPR 2021), an image upscaled to any size, fast.

    import liif_fast
    model = liif_fast.load("edsr-baseline-liif")
    large = model.upscale(PIL.Image.open("photo.jpg"), scale=4)

``LIIF`` is the module to train with, ``functional`` its head as functions, ``reference`` the specification.
"""

# ruff: noqa: E402

from . import interruption

interruption.guard()  # before torch, whose import takes seconds

import importlib.metadata

from . import baselines, encoders, functional, quantized, reference
from .checkpoints import CheckpointError, load
from .functional import make_coord
from .liif import LIIF
from .mlp import MLP
from .registry import make, register

try:
    __version__ = importlib.metadata.version("liif-fast")
except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "LIIF",
    "MLP",
    "CheckpointError",
    "baselines",
    "encoders",
    "functional",
    "load",
    "make",
    "make_coord",
    "quantized",
    "reference",
    "register",
]
