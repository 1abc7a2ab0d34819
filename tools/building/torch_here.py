"""Where torch is, without importing it: its headers and libraries are all that building needs.

In an isolated build (plain ``pip install .``) pip runs setup.py by the interpreter of the environment that it installs
into and hides that environment's packages. Files can be read all the same: the library uses LibTorch's stable
interface, so whichever torch from 2.11 on is there will do. Builders with an interpreter of their own
(``python -m build``, uv) leave nothing to find.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OLDEST = (2, 11)


class Torch(NamedTuple):
    home: Path  # has include/ and lib/
    version: str
    cuda: str | None  # the CUDA version of a CUDA build


def find() -> Torch:
    """The torch of this environment; ImportError says why there is none that can be used."""
    spec = importlib.util.find_spec("torch")
    places = spec.submodule_search_locations if spec and spec.origin else None
    homes = [Path(place) for place in places] if places else [folder / "torch" for folder in hidden_folders()]
    home = next((home for home in homes if places or (home / "version.py").is_file()), None)
    if home is None:
        raise ImportError("No module named 'torch'")
    try:
        said = assignments(home / "version.py")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImportError(f"{home} is no torch: {error}") from None
    version = said.get("__version__")
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    if not numbers:
        raise ImportError(f"{home / 'version.py'} tells no version")
    if tuple(map(int, numbers.groups())) < OLDEST:
        raise ImportError(f"torch {version} is older than {'.'.join(map(str, OLDEST))}")
    if not (home / "include" / "torch" / "csrc" / "stable" / "library.h").is_file():
        raise ImportError(f"torch {version} in {home} has no headers of its stable interface")
    return Torch(home, version, said.get("cuda"))


def hidden_folders() -> Iterator[Path]:
    """Where this interpreter keeps packages, whether or not they are on the path at the moment."""
    schemes = [sysconfig.get_paths()]
    if sys.prefix != sys.base_prefix:
        settings = Path(sys.prefix, "pyvenv.cfg")
        text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
        if re.search(r"include-system-site-packages\s*=\s*true", text, re.IGNORECASE):
            schemes.append(sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_prefix}))
    else:
        yield Path(site.getusersitepackages())
    for paths in schemes:
        yield from dict.fromkeys((Path(paths["purelib"]), Path(paths["platlib"])))


def assignments(path: Path) -> dict[str, str | None]:
    """Names and constants of a module's ``name = "text"`` and ``name: type = "text"`` (or None)."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(value, ast.Constant) and isinstance(value.value, str | None):
            found |= {target.id: value.value for target in targets if isinstance(target, ast.Name)}
    return found
