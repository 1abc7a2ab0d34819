"""Videos in, larger videos out. Start with ``enlarge``: ``enlarge_video`` reads, upscales and writes one; ``source``
opens (files by ``container`` and ``decoding``, pipes by ``raw``), ``colour`` converts, ``encoding`` and ``segments``
write, ``kinds`` has what they hand to each other.
PyAV (the extra ``video``) is imported where it is needed, and only there.
May import: models, head, weights, images, base.
"""
