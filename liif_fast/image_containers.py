"""What some file formats hold and Pillow does not look at: layers that nobody merged, larger versions."""

from __future__ import annotations

from PIL import Image

from .image_modes import SampleError


def check_contents(image: Image.Image, notes: list[str]) -> None:
    """Notes where an open image is not all that its file has to offer.

    Raises:
        SampleError: a PSD file without the merged picture, in place of which Pillow would give a blank one.
    """
    if image.format == "PSD":  # image resource 1057: version, hasRealMergedData
        info = [data for key, _, data in getattr(image, "resources", ()) if key == 1057]
        if info and info[0][4:5] == b"\0":
            raise SampleError("holds layers without a merged picture; save it with 'Maximize Compatibility' on")
    elif image.format == "PCD":
        notes.append(f"PhotoCD: its base resolution of {image.width}x{image.height} is read, larger ones are not")
