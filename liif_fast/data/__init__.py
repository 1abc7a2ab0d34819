"""Training data by the official names: folders of images, and wrappers that draw samples from them.

A dataset gives images (a pair of them for the paired kinds), a wrapper around it gives the samples that a model is
trained on::

    folder = liif_fast.data.make({"name": "image-folder", "args": {"root_path": "DIV2K_train_HR"}})
    samples = liif_fast.data.make(
        {"name": "sr-implicit-downsampled", "args": {"inp_size": 48, "scale_max": 4, "sample_q": 2304}},
        args={"dataset": folder},
    )
    samples[0]  # {'inp': [3, 48, 48], 'coord': [2304, 2], 'cell': [2304, 2], 'gt': [2304, 3]}

``register`` adds one's own of either kind: anything with ``__len__`` and ``__getitem__`` that gives what the official
ones give.

Start with ``folders`` (images) and ``wrappers`` (samples of them; ``grids``: LTE's); ``loader`` feeds batches,
``on_device`` draws them on the GPU, ``pair_names`` finds what belongs together. May import: head, images, base.
"""

from ..registry import dataset_names as names
from ..registry import register_dataset as register
from .errors import DataError, MissingError
from .folders import ImageFolder, PairedImageFolders
from .grids import SRImplicitDownsampledFast, SRImplicitPairedFast
from .make import make
from .wrappers import SRImplicitDownsampled, SRImplicitPaired, SRImplicitUniformVaried

__all__ = [
    "DataError",
    "ImageFolder",
    "MissingError",
    "PairedImageFolders",
    "SRImplicitDownsampled",
    "SRImplicitDownsampledFast",
    "SRImplicitPaired",
    "SRImplicitPairedFast",
    "SRImplicitUniformVaried",
    "make",
    "names",
    "register",
]
