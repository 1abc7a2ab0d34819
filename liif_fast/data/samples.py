"""What the wrappers share: samples, and whether a dataset can give them.

What a sample is drawn from is one ``numpy.random.Generator`` that the caller gives, so that a sample depends on nothing
but its seed: not on the worker that draws it, nor on the number of processes, nor on what was drawn before.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..base.shown import shown
from ..head.reference import make_coord
from .errors import DataError
from .folders import ImageFolder, PairedImageFolders


class Samples(Dataset[dict[str, Tensor]]):
    """What the wrappers share: ``samples[i]`` as the official ones give it, ``sample`` the same in fewer bytes."""

    paired = False  # whether the dataset gives pairs of images
    varied = False  # whether inputs of the same image differ in size
    grid = False  # whether queries lie in rows and columns: coord [h, w, 2], one cell [2], gt [3, h, w]
    drawn_by = "sample_q"  # the argument that says how many pixels are asked for

    def __init__(self, dataset: Any, augment: bool, sample_q: int | None) -> None:
        kind = "paired-image-folders" if self.paired else "image-folder"
        wrong = isinstance(dataset, ImageFolder if self.paired else PairedImageFolders)
        if wrong:
            raise DataError(f"wrapper: this one takes a dataset like {kind}, got a {type(dataset).__name__}")
        if not isinstance(augment, bool):
            raise DataError(f"augment: true or false is wanted, got {shown(augment)}")
        self.dataset, self.augment, self.sample_q = dataset, augment, whole("sample_q", sample_q)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``inp [3, h, w]`` in [0, 1], ``coord [Q, 2]``, ``cell [Q, 2]``, ``gt [Q, 3]`` in [0, 1], all float32.

        Of a ``grid`` ``coord [h, w, 2]``, ``cell [2]``, ``gt [3, h, w]``.
        """
        return expand(self.sample(index, np.random.default_rng()))

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """As ``self[index]`` in fewer bytes: ``inp`` and ``gt`` uint8, one ``cell [2]``; ``expand`` undoes it."""
        low, high = self.pair(index, rng)
        height, width = high.shape[:2]
        rows, columns = np.divmod(self.chosen(height, width, rng), width)
        coord = np.stack([centres(height)[rows], centres(width)[columns]], -1)
        colours = high[rows, columns]
        return {
            "inp": torch.from_numpy(np.array(low.transpose(2, 0, 1), order="C")),
            "coord": torch.from_numpy(coord),
            "cell": torch.tensor([2 / height, 2 / width], dtype=torch.float32, device="cpu"),
            "gt": torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)) if self.grid else colours),
        }

    def chosen(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers, row by row, of the pixels to ask for: ``[Q]``, or ``[h, w]`` of a ``grid``."""
        n = height * width
        return np.arange(n) if self.sample_q is None else rng.choice(n, self.sample_q, replace=False, shuffle=False)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The input and the image that the queries are drawn from, uint8 ``[h, w, 3]`` and ``[H, W, 3]``."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Decode what the dataset keeps; see ``ImageFolder.prepare``."""
        if hasattr(self.dataset, "prepare"):
            self.dataset.prepare()

    def check(self, batch_size: int = 1) -> None:
        """DataError for the first image that no sample or batch can be made of. Looks at sizes, decodes nothing."""
        first = None
        for index in range(len(self)):
            known = self._sizes(index)
            if known is None:  # another kind of dataset, which cannot say
                return
            file, *sizes = known
            try:
                low, least, most = self._checked(*sizes)
            except DataError as error:
                low_file = f" with {self.dataset.dataset_1.files[index]}" if self.paired_folders else ""
                raise DataError(f"{file}{low_file}: {error}") from None
            if self.sample_q is not None and self.sample_q > least:
                if self.grid:
                    raise DataError(
                        f"{file}: {self.sample_q} queries, inp_size squared, are more than the {least} pixels of a "
                        "sample; scales of at least 1 are wanted"
                    )
                raise DataError(f"{file}: sample_q {self.sample_q} is more than the {least} pixels of a sample")
            queries = (least, most) if self.sample_q is None else self.sample_q
            if batch_size > 1 and self.sample_q is None and least != most:
                raise DataError(
                    f"{self.drawn_by}: with a range of scales it is needed, as samples of a batch are of one size"
                )
            if batch_size > 1 and self.varied:
                raise DataError("inp_size: with a range of scales it is needed, as samples of a batch are of one size")
            first = first or (file, low, queries)
            if batch_size > 1 and (low, queries) != first[1:]:
                raise DataError(
                    f"{file}: another size than {first[0].name}, and samples of a batch are of one size; use "
                    f"batch_size 1, or inp_size{'' if self.grid else ' and sample_q'}"
                )

    def _sizes(self, index: int) -> tuple[Any, ...] | None:
        """The file to name, and (height, width) of the image, or of both; None where that is not known. None behind
        the dataset's last image, because repetitions are of the same size."""
        folders = (self.dataset.dataset_1, self.dataset.dataset_2) if self.paired_folders else (self.dataset,)
        if not all(isinstance(folder, ImageFolder) for folder in folders) or index >= len(folders[0].files):
            return None
        return (folders[-1].files[index], *(folder.size(index) for folder in folders))

    @property
    def paired_folders(self) -> bool:
        return isinstance(self.dataset, PairedImageFolders)

    def _checked(self, *sizes: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
        """Of a sample from images of these sizes: (height, width) of the input, fewest and most pixels to query; or
        DataError."""
        raise NotImplementedError


def expand(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """A sample, or a batch of them, as the official wrappers give it; what is so already stays as it is."""
    coord, cell = sample["coord"], sample["cell"]
    if cell.ndim < coord.ndim < sample["inp"].ndim:  # a grid has one cell for all
        cell = cell.unsqueeze(-2).expand_as(coord)
    scaled = {k: v.float().div(255) if v.dtype == torch.uint8 else v for k, v in sample.items()}
    return {**scaled, "coord": coord, "cell": cell}


@functools.lru_cache(maxsize=1024)
def centres(n: int) -> np.ndarray:
    """``make_coord`` along one axis; kept, because samples have few sizes."""
    return make_coord([n], device="cpu")[:, 0].numpy()


def whole(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise DataError(f"{name}: a whole number above 0 is wanted, got {shown(value)}")
    return value
