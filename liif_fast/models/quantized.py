"""LIIF for inference with its hidden layers on 8-bit integers.

Activations are unsigned, with one scale for each layer from a calibration; weights signed, with one scale for each
output channel; sums exact. ``int8`` is the exact specification. The rest stays in floating point: in float32, but where
a CPU multiplies bfloat16 faster, ``upscale``, ``render`` and the calibration have the encoder in that, unless a
``dtype`` or autocast says otherwise.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head import functional, ops, precision, transforms, triton, unit_order
from ..registry import register
from . import overrides, tiles, values
from .liif import LIIF
from .mlp import MLP
from .parts import half_precision

_CROP = 64  # pixels: enough for activations of the size that larger crops show; encoding is what calibration costs
_QUERIES = 2048  # in each crop
_NOT_CALIBRATED = "this quantised model is not calibrated: call calibrate(images), or upscale an image"


@register("liif-int8")
class QuantizedLIIF(LIIF):
    """Made by ``LIIF.quantize``. Its state dict is LIIF's and ``act_scale`` ``[L]``: the value of one step of each
    hidden layer's input; zeros before the calibration."""

    act_scale: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        head = self.head()
        if head is None:
            raise ValueError("imnet_spec: 8-bit layers are for liif_fast's own MLP, this model's imnet is another")
        self.register_buffer("act_scale", torch.zeros(len(head.mlp), dtype=torch.float32))

    @classmethod
    def of(cls, model: LIIF, images: Any = None) -> QuantizedLIIF:
        """A quantised copy of a model; see ``LIIF.quantize``."""
        head = model.head()
        assert isinstance(head, functional.Head)  # why_not_int8 has been asked
        device = head.w_conv.device
        with device:
            quantized = cls(**{**model._arguments(), "encoder_spec": copy.deepcopy(model.encoder)})
        quantized._spec_args = model._spec_args
        quantized.imnet = copy.deepcopy(model.imnet)
        quantized.act_scale = torch.zeros(len(head.mlp), dtype=torch.float32, device=device)
        quantized.data_norm = copy.deepcopy(model.data_norm)
        quantized.to(model.device).eval()
        _say_if_slow(quantized.act_scale.device)
        if images is not None:
            quantized.calibrate(images)
        return quantized

    @property
    def spec(self) -> dict[str, Any]:
        return {**super().spec, "name": "liif-int8"}

    @property
    def calibrated(self) -> bool:
        """Whether there are activation scales yet.

        Raises:
            ValueError: some of them are not numbers that a calibration gives: what they were read from is damaged.
        """
        smallest = torch.finfo(torch.float32).tiny
        usable = (self.act_scale >= smallest) & self.act_scale.isfinite()
        if not usable.all() and self.act_scale.count_nonzero():  # NaN counts
            raise ValueError(
                f"act_scale: positive finite numbers are wanted, got {self.act_scale.tolist()}: the model's weights "
                "are damaged; load them anew, or call calibrate(images)"
            )
        return bool(usable.all())

    @torch.no_grad()
    def calibrate(self, images: Any) -> None:
        """Set the activation scales from the largest activations on an image or a list of images.

        Raises:
            TypeError, ValueError: no image; or activations that are not finite, in float32 too.
        """
        from ..images import pictures  # brings Pillow

        images = images if isinstance(images, list | tuple) else [images]
        pixels = [pictures.pixels_of(image) for image in images]
        if not any(map(len, pixels)):
            got = "an empty batch" if pixels else "an empty list"
            raise ValueError(f"images: at least one image is wanted to calibrate with, got {got}")
        pixels = [p for p in pixels if len(p)]
        largest = self._largest(pixels, self._precision(self.act_scale.device), order=True)
        if not largest.isfinite().all():
            largest = tiles.in_float32(self)._largest(pixels)
        if not largest.isfinite().all():
            raise values.not_finite()
        # a layer that never fires needs a scale all the same
        self.act_scale = torch.where(largest > 0, largest, torch.ones_like(largest)) / 255
        self.act_scale.clamp_(min=torch.finfo(torch.float32).tiny)

    def _largest(self, images: list[Tensor], dtype: torch.dtype | None = None, order: bool = False) -> Tensor:
        """The largest input of each hidden layer on crops of images ``[B, 3 or 1, H, W]``: ``[L]``, NaN if one is.

        Args:
            dtype: half precision for the encoder.
            order: put the hidden units in the order that suits the first crop.
        """
        largest = torch.zeros_like(self.act_scale, dtype=torch.float32)
        random = torch.Generator("cpu").manual_seed(0)  # the same image gives the same scales
        for image in images:
            for crop in _crops(image):
                x = values.normalised(self, crop.to(self.act_scale.device))
                with half_precision(x.device.type, dtype):
                    feat = self._encode(x)
                if order:
                    self._order_units(feat[:1])
                    order = False
                largest = torch.maximum(largest, self._activations(feat, random))
        return largest

    def _order_units(self, feat: Tensor) -> None:
        """Put hidden units that are zero together side by side, where the kernels skip them: the same function."""
        layers: Any = cast(MLP, self.imnet).layers[::2]
        own = [layer._parameters.get(name) for layer in layers for name in ("weight", "bias")]
        if any(p is None for p in own) or len({p.data_ptr() for p in own}) < len(own):
            return  # parametrized, without bias, shared by two layers: not to be written, layer by layer
        head = cast(functional.Head, self.head())  # there was one when this was made
        if (orders := unit_order.found_on(feat, head, self.cell_decode, self.local_ensemble)) is None:
            return
        w_conv, b_conv, w_pos, mlp, w_out, b_out = unit_order.applied(head, orders)
        first = torch.cat([w_conv.flatten(1), w_pos[:, : 4 if self.cell_decode else 2]], 1)
        for layer, (w, b) in zip(layers, [(first, b_conv), *mlp, (w_out, b_out)], strict=True):
            layer.weight.copy_(w)
            layer.bias.copy_(b)

    def _activations(self, feat: Tensor, random: torch.Generator) -> Tensor:
        """The largest input of each hidden layer over random queries of a crop's features, at scales 1 to 4."""
        B, _, H, W = feat.shape
        head = cast(functional.Head, self.head())  # there was one when this was made
        hidden = functional.hidden_map(feat, head)
        cpu: dict[str, Any] = {"generator": random, "device": "cpu", "dtype": torch.float32}
        coord = (torch.rand(B, _QUERIES, 2, **cpu) * 2 - 1).to(feat.device)
        scale = (1 + 3 * torch.rand(B, _QUERIES, 1, **cpu)).to(feat.device)
        cell = 2 / (scale * scale.new_tensor([H, W])) if self.cell_decode else None
        coord, cell = precision.as_geometry(hidden, coord, cell)
        w_pos = head.w_pos.to(coord.dtype)
        h, _ = torch.ops.liif_fast.corner_gather(
            hidden, coord, cell, w_pos, hidden.shape[1:3], (0, 0), self.local_ensemble
        )
        largest = []
        for i, _ in enumerate(head.mlp):
            h = F.relu(F.linear(h, *head.mlp[i - 1])) if i else h
            largest.append(h.amax())
        return torch.stack(largest).float() if largest else self.act_scale.new_zeros(0)

    def _colours(self, hidden: Tensor, head: Any, size: Any = None, origin: Any = (0, 0)) -> Callable[..., Tensor]:
        # looking at values waits for the device, which a CUDA graph cannot record and a compiler cannot trace
        if torch.compiler.is_compiling():
            torch._assert_async((self.act_scale > 0).all(), _NOT_CALIBRATED)  # false for NaN
        elif not (hidden.is_cuda and torch.cuda.is_current_stream_capturing()) and not self.calibrated:
            raise RuntimeError(_NOT_CALIBRATED)
        where: dict[str, Any] = {"size": size, "origin": origin, "local_ensemble": self.local_ensemble}
        return functional.renderer(hidden, head, act_scale=self.act_scale, **where)

    def _precision(self, device: torch.device) -> torch.dtype | None:
        dtype = precision.int8_encoder_dtype(device.type)
        if dtype == torch.float32 or torch.is_autocast_enabled(device.type):
            return None
        # methods and layers of the model's own know of no dtype, other weights have said theirs
        own = self._own(*overrides.COLOURS, "render") or self.head() is None
        return None if own or any(p.dtype != torch.float32 for p in self.parameters()) else dtype

    def _query(self, feat: Tensor, coord: Tensor, *options: Any, **named: Any) -> Tensor:
        transforms.refuse_gradient("an 8-bit model", (feat, coord, *self.parameters()))
        with torch.no_grad():  # rounding to integers has no gradient
            return super()._query(feat, coord, *options, **named)

    def _upscale_tensor(self, pixels: Tensor, *args: Any) -> Tensor:
        if not torch.compiler.is_compiling():  # else its graph looks whether there are scales
            _say_if_slow(self.act_scale.device)
            if len(pixels) and not self.calibrated:
                self.calibrate(pixels)
        return super()._upscale_tensor(pixels, *args)

    def why_not_int8(self) -> None:
        return None

    def quantize(self, images: Any = None) -> QuantizedLIIF:
        """A copy, calibrated anew if images are given."""
        copied = copy.deepcopy(self)
        if images is not None:
            copied.calibrate(images)
        return copied


LIIF._eight_bit = QuantizedLIIF


def _crops(pixels: Tensor) -> Iterator[Tensor]:
    """Four crops around the quarter points of an image, or the whole of a small one."""
    H, W = pixels.shape[-2:]
    for y in _starts(H):
        for x in _starts(W):
            yield pixels[..., y : y + _CROP, x : x + _CROP]


def _starts(n: int) -> list[int]:
    return [0] if n < 2 * _CROP else [n // 4 - _CROP // 2, 3 * n // 4 - _CROP // 2]


def _slow(device: torch.device) -> bool:
    """Whether 8-bit layers run in plain PyTorch on this device, slower than float32."""
    if device.type == "cpu":
        return not ops.CPU_KERNELS
    return device.type != "cuda" or triton.setting() == "0" or not triton.available(device)[0]


_said_slow: set[str] = set()  # devices, each said once


def _say_if_slow(device: torch.device) -> None:
    if device.type not in _said_slow and _slow(device):
        _said_slow.add(device.type)
        warnings.warn(
            f"int8: no compiled kernel runs it on {device.type} here, so it is slower than float32 (5 to 8 times on a "
            "CPU): float32 is the better choice; `liif-fast doctor` says why",
            stacklevel=4,
        )
