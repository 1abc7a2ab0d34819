"""Encoders of the official registry: ``edsr-baseline``, ``edsr``, ``rdn``, ``rcan``.

An encoder is any ``nn.Module`` that maps ``[B, 3, H, W]`` to ``[B, out_dim, H, W]`` and has

- ``out_dim``: the number of its output channels;
- ``receptive_field`` (optional): how many input pixels away an output pixel can see, along each axis. It is the halo
  of exact tiles; None or missing: the whole image, so there are no tiles.
"""

from .edsr import EDSR
from .rcan import RCAN
from .rdn import RDN

__all__ = ["EDSR", "RCAN", "RDN"]
