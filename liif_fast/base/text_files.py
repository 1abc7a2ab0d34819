"""Text files that anybody may have named: read within bounds."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_text(path: Path, most: int) -> str:
    """A text file's contents. Devices and pipes, which may never end, are refused, and so are more than ``most`` bytes.

    Raises:
        OSError: cannot be read. ValueError: no regular file, too large, no UTF-8.
    """
    # a pipe that nobody writes to would not even open
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    return data.decode()
