"""What is installed: the version, and how it came here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
import shlex
import urllib.parse
import urllib.request
from pathlib import Path

try:
    VERSION = importlib.metadata.version("liif-fast")
except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
    VERSION = "0+unknown"

PACKAGE = Path(__file__).parents[1]


def build() -> str:
    """What setup.py named the wheel by that this was installed from, ``pure_python_no_torch``, say; "" for one from an
    index or a source tree."""
    found = re.search(r"^Build: 0(\w+)$", _metadata("WHEEL"), re.MULTILINE)
    return found[1] if found else ""


def reinstall() -> str:
    """The command that builds the package anew from where it came, for the torch of this environment."""
    again = "pip install --no-cache-dir --force-reinstall --no-deps"  # pip keeps wheels, and would install torch again
    if (PACKAGE.parent / "setup.py").is_file():
        return f"{again} --editable {shlex.quote(str(PACKAGE.parent))}"
    with contextlib.suppress(ValueError, AttributeError):
        origin = json.loads(_metadata("direct_url.json"))
        url = urllib.parse.urlparse(origin["url"]) if "dir_info" in origin else None
        if url and url.scheme == "file":
            return f"{again} {shlex.quote(urllib.request.url2pathname(url.path))}"
    return f"{again} --no-binary liif-fast liif-fast"


def _metadata(name: str) -> str:
    """A file that pip wrote about the package; "" where there is none."""
    try:
        return importlib.metadata.distribution("liif-fast").read_text(name) or ""
    except importlib.metadata.PackageNotFoundError:
        return ""
