"""For type checkers: the kinds of images that ``upscale`` takes, each of which gives the same kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from PIL import Image

    from .photo import Photo

# subclasses, such as the file that PIL.Image.open gives, become the class itself
Picture = TypeVar("Picture", "Image.Image", "np.ndarray[Any, Any]", Tensor, "Photo")
