"""Files whose readers believe the lengths that stand in them."""

from __future__ import annotations

import io
import os


class BoundedFile(io.BufferedReader):
    """A file opened to be read that never sets memory aside for more bytes than it has left.

    Python's own asks for the whole length first: a PNG of 60 bytes whose pixels are said to have 4 GB costs 4 GB.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(open(path, "rb", buffering=0))  # noqa: SIM115

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)
