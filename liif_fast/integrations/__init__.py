"""LIIF inside other programs. ``vapoursynth``: a filter for its scripts, with the arguments of vs-liif. ``spandrel``:
LIIF among the architectures of its ``ModelLoader``.

Each program's own package is imported when it is called for, so that none of them is needed to import this room.
May import: models, head, weights, base.
"""
