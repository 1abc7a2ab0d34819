"""The command ``liif-fast``. Start with ``main``: it parses (``arguments``, without torch), imports one command's
module (``upscale``, ``video``, ``view``, ``evaluate``, ``compare``, ``train``, ``tune``, ``doctor``) and runs it.

``common`` is what commands share, ``reporting`` all that is printed. May import everything; nothing imports it.
"""
