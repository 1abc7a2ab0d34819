"""liif_fast: LIIF (Local Implicit Image Function, CVPR 2021), an image upscaled to any size, fast.

    import liif_fast
    model = liif_fast.load("edsr-baseline-liif")
    large = model.upscale(PIL.Image.open("photo.jpg"), scale=4)

``LIIF`` is the module to train with, ``functional`` its head as functions, ``reference`` the specification.

The rooms, each of which imports only those after it: ``cli``, ``integrations``, ``export``, ``video``, ``viewing``,
``upscaling``, ``training``, ``quality``, ``data``, ``models``, ``head``, ``weights``, ``images``, ``base``;
``registry``, ``sizes`` and ``distributed`` are for all. Each says in its ``__init__`` what lives there.
"""

# ruff: noqa: E402
from __future__ import annotations

from .base import interruption

_is_command = interruption.guard()  # before all that takes time to import

import importlib
from typing import TYPE_CHECKING, Any

from .base.aliases import Aliases
from .base.version import VERSION

if TYPE_CHECKING:
    from .head import functional as functional
    from .head import reference as reference
    from .head.functional import make_coord as make_coord
    from .head.library import NoKernelsWarning as NoKernelsWarning
    from .models import baselines as baselines
    from .models import encoders as encoders
    from .models import quantized as quantized
    from .models import tiles as tiles
    from .models.liif import LIIF as LIIF
    from .models.loading import load as load
    from .models.mlp import MLP as MLP
    from .registry import make as make
    from .registry import register as register
    from .weights import checkpoints as checkpoints
    from .weights.checkpoints import CheckpointError as CheckpointError

__version__ = VERSION
# public modules, known as liif_fast.NAME (to import statements too), and public names, and where they are
_MODULES = {
    "baselines": "models.baselines",
    "checkpoints": "weights.checkpoints",
    "encoders": "models.encoders",
    "functional": "head.functional",
    "quantized": "models.quantized",
    "reference": "head.reference",
    "tiles": "models.tiles",
}
_NAMES = {
    "LIIF": ".models.liif",
    "MLP": ".models.mlp",
    "CheckpointError": ".weights.checkpoints",
    "NoKernelsWarning": ".head.library",
    "load": ".models.loading",
    "make": ".registry",
    "make_coord": ".head.functional",
    "register": ".registry",
}
__all__ = [
    "LIIF",
    "MLP",
    "CheckpointError",
    "NoKernelsWarning",
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


def _load() -> None:
    """Import all public names, and with them torch; operators and models are registered from then on."""
    importlib.import_module(".models", __name__)
    for name in _MODULES:
        globals()[name] = importlib.import_module(f".{name}", __name__)
    for name, module in _NAMES.items():
        globals()[name] = getattr(importlib.import_module(module, __name__), name)


if not TYPE_CHECKING:  # to type checkers, which know all names from above, any other would be one too

    def __getattr__(name: str) -> Any:
        if name not in {*_MODULES, *_NAMES}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        _load()
        return globals()[name]


Aliases({f"{__name__}.{name}": f"{__name__}.{module}" for name, module in _MODULES.items()}).install()
# The command imports torch, which takes seconds, when it must: not to say its version or a mistake in its arguments.
if not _is_command:
    _load()
