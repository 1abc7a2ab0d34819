"""Pictures in files and in memory. Start with ``files``: find and read; ``writing``: write whole or not at all.
``frames`` and ``frames_writing`` are the same for animations and files of several pages.

``photo`` is a picture in memory with all that its file says beside the pixels, ``modes`` unpacks what files hold, the
modules named after formats and metadata (``png``, ``tiff``, ``avif``, ``icon``, ``exif``, ``profile``, ``colour``, ...)
know what Pillow does not say; ``pictures`` takes every kind that ``upscale`` takes, ``resize`` is bicubic
interpolation, ``sheet`` pictures of pictures. May import: base.
"""
