"""The networks that LIIF is compared with: SRCNN, SRGAN (SRResNet and its discriminator), MetaSR.

They are registered under the names ``srcnn``, ``srresnet``, ``srgan-discriminator`` and ``metasr``, trained by the same
command and data as LIIF, and loaded and used like it.
"""

from .metasr import MetaSR
from .srcnn import SRCNN
from .srgan import Discriminator, SRResNet

__all__ = ["SRCNN", "Discriminator", "MetaSR", "SRResNet"]
