"""The heart: from a feature map and coordinates to colours. Start with ``reference``, the specification.

``functional`` is the head as functions, ``ops`` the operators behind it (``plain`` in PyTorch, ``library`` loads the
compiled kernels of csrc/, ``triton`` holds the fused one), ``int8`` the integers of 8-bit layers, ``chain`` training on
CUDA, ``differentiable`` the slow way that has every derivative, ``unit_order`` and ``kept`` what saves work between
calls. May import: weights, base.
"""
