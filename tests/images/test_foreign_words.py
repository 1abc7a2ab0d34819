"""Standard error has the command's own lines, one for each file, not also those of the libraries."""

from __future__ import annotations

import subprocess
import sys


def test_what_pillow_logs_is_not_shown():
    """In a process without pytest's own handlers."""
    code = 'import logging, liif_fast.images.files; logging.getLogger("PIL.TiffImagePlugin").error("More samples")'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
