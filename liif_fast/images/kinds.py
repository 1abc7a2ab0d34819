"""The kinds of pictures that models take, and give back, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

if TYPE_CHECKING:  # Pillow takes longer to import than all the rest
    import numpy as np
    from PIL import Image

    from .photo import Photo

# the kind that comes is the kind that is given back
Picture = TypeVar("Picture", "Image.Image", "np.ndarray[Any, Any]", Tensor, "Photo")
