"""Modules with weights: LIIF itself, its MLP, its 8-bit copy, LTE, encoders, the networks that it is compared with.

Start with ``liif``: it joins an encoder to the head (``liif_fast.head``). ``encoding`` calls the encoder; ``parts``,
``tiles`` and ``tile_size`` render large images in parts, ``renderer`` one size again and again; ``folding`` and
``overrides`` find out what a changed model does. May import: head, weights, images, base. Importing this room registers
all names.
"""

from . import baselines, encoders, liif, lte, ltep, mlp, quantized

__all__ = ["baselines", "encoders", "liif", "lte", "ltep", "mlp", "quantized"]
