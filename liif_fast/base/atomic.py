"""Files and folders that appear whole or not at all, and no leftovers of processes that were killed while they wrote.

What is being written has a name of its own, ``.liif_fast-HOST-RANDOM.tmp``, in the folder of its target, and is locked
(``flock``) until it has the target's name. The system gives a lock back when its process ends, however it ends. So who
gets the lock of such a file knows that nobody writes it, and removes it. Locks of another machine on a network folder
may not be seen here; its leftovers, told by HOST, are removed when they are a day old.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: age alone decides there
    fcntl = None  # type: ignore[assignment]  # a module, where there is one

PATTERN = ".liif_fast-*.tmp"  # names of what is being written, as a glob
# Names without a host are those of earlier versions.
_NAME = re.compile(r"\.liif_fast-(?:([0-9a-f]{8})-)?[0-9a-f]{12}\.tmp|\.(?:[0-9a-f]{12}|[0-9a-f]{32})\.part")
OLD = 24 * 3600.0  # seconds after which a leftover of another machine is one for certain
_tidied: set[str] = set()  # folders that this process has looked through


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool = True, sync: bool = False) -> Iterator[str]:
    """Write a file: yields the name of an empty one beside it, which takes its place when the block ends without error.

    Args:
        path: the file; its folder must exist. With ``overwrite`` a symbolic link is followed, and the new file has
            the permissions of the old one.
        overwrite: False: a file that is there, or appears meanwhile, is never touched.
        sync: the new file is on the disk before it takes the name, so that a power cut leaves one of the two.

    Raises:
        FileExistsError: without ``overwrite``. OSError: cannot be written; the old file is as it was.
    """
    target = os.path.realpath(path) if overwrite else os.path.abspath(path)
    folder = os.path.dirname(target)
    remove_stale(folder)
    new = _Scratch()
    try:
        scratch = new.make(folder, _create)
        yield scratch
        if sync:
            os.fsync(new.lock)
        if overwrite:
            with contextlib.suppress(OSError):  # nothing there yet, or a file system without modes
                shutil.copymode(target, scratch)
        if fcntl is None:  # Windows renames no open file
            new.unlock()
        if overwrite:
            os.replace(scratch, target)
        else:
            _publish(scratch, target)
    finally:  # also on KeyboardInterrupt; nothing to remove after a rename
        if fcntl is None:
            new.unlock()
        with contextlib.suppress(OSError):
            os.unlink(new.path)
        new.unlock()


def probe(folder: str | os.PathLike[str]) -> None:
    """OSError if no file can be made in this folder. Nothing is left there."""
    new = _Scratch()
    try:
        new.make(os.fspath(folder), _create)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new.path)
        new.unlock()


@contextlib.contextmanager
def scratch_folder(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder inside ``parent`` to make files in that then move; what is left of it goes with the block."""
    os.makedirs(parent, exist_ok=True)
    remove_stale(parent)
    new = _Scratch()
    try:
        yield Path(new.make(os.fspath(parent), _create_folder))
    finally:
        shutil.rmtree(new.path, ignore_errors=True)
        new.unlock()


def remove_stale(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left half-written in a folder; once for each folder and process."""
    where = os.path.realpath(folder)
    if where in _tidied:
        return
    _tidied.add(where)
    with contextlib.suppress(OSError), os.scandir(where) as entries:
        for found in [match for entry in entries if (match := _NAME.fullmatch(entry.name))]:
            with contextlib.suppress(OSError):
                _remove_if_stale(os.path.join(where, found[0]), found[1] == _host())


def _remove_if_stale(path: str, ours: bool) -> None:
    old = time.time() - os.lstat(path).st_mtime > OLD
    lock = -1
    try:
        if fcntl is not None:
            # some network folders lock only what is open for writing, as no folder can be; and a pipe that somebody
            # gave this name is not waited for
            access = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR
            lock = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
            free = _locked(lock)
            if free is False or not (old or (free and ours)):
                return
        elif not old:
            return
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    finally:
        if lock >= 0:
            os.close(lock)


class _Scratch:
    """A new file or folder. ``path``: of its own; ``lock``: the descriptor that holds its lock (-1: none)."""

    def __init__(self) -> None:
        self.path, self.lock = "", -1

    def make(self, folder: str, create: Callable[[str], int]) -> str:
        """Make it, locked; returns the path, which is known before it is there: a signal may come between the two."""
        while True:
            self.path = os.path.join(folder, f".liif_fast-{_host()}-{secrets.token_hex(6)}.tmp")
            self.lock = create(self.path)
            # between making and locking a process that tidies up may have taken it for a leftover
            if fcntl is None or self.lock < 0 or (_locked(self.lock) is not False and os.path.lexists(self.path)):
                return self.path
            self.unlock()

    def unlock(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def _create(path: str) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)


def _create_folder(path: str) -> int:
    os.mkdir(path)
    return os.open(path, os.O_RDONLY) if fcntl is not None else -1


def _locked(descriptor: int) -> bool | None:
    """Whether the lock has been got; False: another holds it; None: this file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _host() -> str:
    return hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _publish(scratch: str, target: str) -> None:
    """Give a file its name unless that is taken: FileExistsError, whoever was first."""
    try:
        os.link(scratch, target)
    except FileExistsError:
        raise
    except (OSError, AttributeError):  # no hard links here (FAT, some network folders)
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # reserves the name
        try:
            os.replace(scratch, target)
        except BaseException:
            os.unlink(target)
            raise
