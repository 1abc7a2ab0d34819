"""Encoders of the official registry, ``edsr-baseline``, ``edsr``, ``rdn``, ``rcan``, and of LTE's: ``swinir``.

An encoder is any ``nn.Module`` that maps ``[B, 3, H, W]`` to ``[B, out_dim, H, W]`` and has

- ``out_dim``: the number of its output channels;
- ``receptive_field: int | None`` (optional): how many input pixels away an output pixel can see, along each axis: the
  sum of (kernel size - 1) / 2 of the convolutions on the longest path. It is the halo of exact tiles: too small, and
  tiles show seams. None or missing: no exact tiles. So it must be for what looks at the whole image (attention,
  pooling, normalisation over it) and for what depends on where in the image a pixel lies (windows, strides,
  position encodings); windows counted from the upper left corner are no hindrance if their side is ``pad_to``;
- ``pad_to: int`` (optional): the side of windows of which it needs whole ones (8 for SwinIR). LIIF then pads inputs to
  multiples and cuts the map back to the image. Without it an encoder that pads by itself is found by the odd size of
  its map, and refused;
- ``in_channels: int`` (optional): channels of its images where they are not 3, for clear messages.

Images come with channels last from ``upscale``, and in inference on CUDA where matrix units convolve them. An encoder
in which ``view`` refuses these is called again with a contiguous input; ``reshape`` saves that.

Pass such a module as ``encoder_spec`` to ``LIIF``, or name its class with ``liif_fast.register`` to use it in specs.
Those below have the names, arguments, defaults and state-dict keys of the official registry. Their
``receptive_field`` is an int for SwinIR, and for EDSR and RDN with ``no_upsampling=True``, else None.
"""

from .edsr import EDSR
from .rcan import RCAN
from .rdn import RDN
from .swinir import SwinIR

__all__ = ["EDSR", "RCAN", "RDN", "SwinIR"]
