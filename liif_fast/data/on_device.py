"""Training samples made where the model is trained: all images on the device as uint8, whole batches at a time.

With ``cache: device`` of `ImageFolder`, the wrapper `SRImplicitDownsampled` and its ``-fast`` (with ``inp_size``) draw
their batches here: crops, reduction by Pillow's bicubic filter to the bit, augmentation and queries are a few dozen
operations on tensors, and no process waits for another. Random numbers are a hash of (seed, epoch, place in the epoch)
alone: a run resumes bit for bit, on any number of processes, and draws the same samples on a CPU and on a GPU. (Those
of the other caches come from NumPy's generators: the same distribution, other numbers.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..images.resize import PIL_BITS, pil_weights
from .errors import DataError
from .folders import ImageFolder
from .loader import Batch, Batches, Key, WholeBatches
from .samples import centres
from .wrappers import SRImplicitDownsampled


def wanted(samples: Any) -> bool:
    """Whether the dataset of a wrapper has ``cache: device``."""
    dataset = getattr(samples, "dataset", None)
    folders = [getattr(dataset, name, None) for name in ("dataset_1", "dataset_2")]  # of paired folders
    return any(isinstance(d, ImageFolder) and d.cache == "device" for d in (dataset, *folders))


def check(samples: Any) -> None:
    """DataError for a wrapper whose samples cannot be made on the device."""
    if not isinstance(samples, SRImplicitDownsampled) or samples.inp_size is None:
        raise DataError(
            "cache: device is for sr-implicit-downsampled, and its -fast, with inp_size; use in_memory or bin with "
            "others"
        )
    if samples.sample_q is None and samples.scale_min != samples.scale_max:
        raise DataError("sample_q: with cache: device and a range of scales it is needed")


class OnDevice:
    """Batches as a DataLoader over ``samples`` would give them, on ``device``.

    Args:
        samples: a wrapper that passes ``check``.
        batches: the keys of each batch.
    """

    def __init__(
        self, samples: SRImplicitDownsampled, batches: Batches | WholeBatches, *, seed: int, device: torch.device
    ) -> None:
        self.samples, self.batches, self.device = samples, batches, device
        self.seed = seed % 2**63
        packed = samples.dataset.packed()
        self.images = torch.from_numpy(np.asarray(packed.block)).to(device).view(-1, 3)
        self.start = torch.from_numpy(packed.starts[:-1] // 3).to(device)
        self.sizes = torch.tensor(packed.sizes, device=device)  # [N, 2]
        self.out = out = cast(int, samples.inp_size)  # see ``check``
        self.least, self.most = sorted(round(out * s) for s in (samples.scale_min, samples.scale_max))
        # for each side of a crop: weights of its reduction, and where its pixels lie
        weights = np.zeros((self.most - self.least + 1, out, self.most))
        middles = np.zeros((self.most - self.least + 1, self.most), np.float32)
        for i, side in enumerate(range(self.least, self.most + 1)):
            weights[i, :, :side], middles[i, :side] = pil_weights(side, out), centres(side)
        self.weights, self.centres = torch.from_numpy(weights).to(device), torch.from_numpy(middles).to(device)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batches:
            yield self.batch(keys)

    def batch(self, keys: Sequence[Key]) -> Batch:
        """``inp [B, 3, h, h]`` uint8, ``coord [B, Q, 2]``, ``cell [B, 2]``, ``gt [B, Q, 3]`` uint8; see ``expand``.

        Of a wrapper of grids ``coord [B, h, h, 2]`` and ``gt [B, 3, h, h]``.
        """
        crop = Crops(self, torch.tensor(keys))
        low = reduced(crop.pixels(), self.weights[crop.side - self.least])
        if self.samples.augment:
            low = crop.turned(low)
        chosen = crop.chosen()
        side = crop.side[:, None]
        rows, columns = chosen // side, chosen % side
        middles = self.centres[crop.side - self.least]
        cell = (2 / crop.side.double()).float()
        coord = torch.stack([middles.gather(1, rows), middles.gather(1, columns)], -1)
        gt = self.images[crop.pixel(*crop.source(rows, columns, side))]
        if self.samples.grid:
            coord = coord.unflatten(1, (self.out, self.out))
            gt = gt.transpose(1, 2).unflatten(2, (self.out, self.out))
        return {"inp": low.permute(0, 3, 1, 2), "coord": coord, "cell": torch.stack([cell, cell], -1), "gt": gt}


class Crops:
    """One batch's square crops: where they lie, how they are turned, which pixels are asked for.

    Args:
        keys: int64 ``[B, 3]`` on the CPU.
    """

    def __init__(self, of: OnDevice, keys: Tensor) -> None:
        self.of = of
        if of.device.type == "cuda":
            keys = keys.pin_memory()
        index, epoch, place = keys.to(of.device, non_blocking=True).unbind(1)
        index = index % len(of.sizes)
        # a stream of numbers for each of: scale, y, x, three turns, queries
        draws = hashed(of.seed, epoch, place)[:, None] + torch.arange(7, device=of.device)
        streams = hashed(draws)
        uniform = (streams >> 10).double() * 2.0**-53  # of 63 bits, the upper 53
        self.stream = streams[:, 6]
        scale = uniform[:, 0] * (of.samples.scale_max - of.samples.scale_min) + of.samples.scale_min
        self.side = (scale * of.out).round().long()
        self.width = of.sizes[index, 1]
        y, x = (
            (uniform[:, 1 + i] * (of.sizes[index, i] - self.side + 1)).long().minimum(of.sizes[index, i] - self.side)
            for i in (0, 1)
        )
        self.corner = of.start[index] + y * self.width + x  # the first pixel's number in of.images
        self.turns = uniform[:, 3:6] < 0.5

    def pixels(self) -> Tensor:
        """uint8 ``[B, most, most, 3]``, **columns first**; beyond a crop's side its last column or row again."""
        along = torch.arange(self.of.most, device=self.side.device).minimum(self.side[:, None] - 1)
        return self.of.images[self.pixel(along[:, None, :], along[:, :, None])]

    def pixel(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The numbers in ``of.images`` of pixels of the crops, ``[B, ...]``."""
        shape = (-1,) + (1,) * (rows.ndim - 1)
        return self.corner.view(shape) + rows * self.width.view(shape) + columns

    def source(self, rows: Tensor, columns: Tensor, side: Tensor | int) -> tuple[Tensor, Tensor]:
        """Where pixels of the turned crops, ``[B, K]``, come from: rows mirrored, columns mirrored, then transposed."""
        if not self.of.samples.augment:
            return rows, columns
        flip_rows, flip_columns, transpose = self.turns.unsqueeze(-1).unbind(1)
        rows, columns = torch.where(transpose, columns, rows), torch.where(transpose, rows, columns)
        return torch.where(flip_rows, side - 1 - rows, rows), torch.where(flip_columns, side - 1 - columns, columns)

    def turned(self, images: Tensor) -> Tensor:
        """Square images ``[B, h, h, 3]``, turned as the crops are."""
        side = images.shape[1]
        place = torch.arange(side * side, device=images.device).expand(len(images), -1)
        rows, columns = self.source(place // side, place % side, side)
        index = (rows * side + columns)[..., None].expand(-1, -1, 3)
        return images.flatten(1, 2).gather(1, index).unflatten(1, (side, side))

    def chosen(self) -> Tensor:
        """Pixels of the turned crops to ask for, ``[B, Q]``: each one once at most, all sets as likely."""
        most = self.of.most**2
        place = torch.arange(most, device=self.side.device)
        if self.of.samples.sample_q is None:
            return place.expand(len(self.side), -1)
        # those with the smallest random numbers; with the place in the lower bits no two are the same, so that the
        # choice is the same wherever it is made
        lower = (1 << most.bit_length()) - 1
        keys = (hashed(self.stream[:, None] + place) & ~lower) | place
        keys = keys.masked_fill(place >= self.side[:, None] ** 2, 2**63 - 1)
        return keys.topk(self.of.samples.sample_q, largest=False).indices


def reduced(pixels: Tensor, weights: Tensor) -> Tensor:
    """Pillow's bicubic reduction of a batch, to the bit: uint8 ``[B, W, H, 3]`` (columns first) -> ``[B, h, w, 3]``.

    Args:
        weights: float64 ``[B, out, n]`` with the values of ``pil_weights``, for both axes. float64 because all sums are
            whole numbers below 2^53 then, whatever their order; and it never becomes tf32.
    """
    for _ in range(2):  # rows first, as Pillow
        sums = weights @ pixels.double().flatten(2)
        rounded = ((sums + 2 ** (PIL_BITS - 1)) * 2.0**-PIL_BITS).floor().clamp(0, 255)
        pixels = rounded.unflatten(2, (-1, 3)).transpose(1, 2)
    return pixels.transpose(1, 2).to(torch.uint8)


def hashed(*numbers: Tensor | int) -> Tensor:
    """63 bits from int64 tensors or numbers, broadcast, well mixed (splitmix64's finaliser after each)."""
    state: Any = 0  # a tensor from the first number on
    for number in numbers:
        state = torch.as_tensor(state + number) + _signed(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ _shifted(state, shift)) * _signed(factor)
        state = state ^ _shifted(state, 31)
    return state & (2**63 - 1)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x
