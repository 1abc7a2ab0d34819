"""Image files appear whole or not at all: existing files, failures in the middle, links, permissions."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liif_fast.images import writing as image_writing
from liif_fast.images.files import ImageError, read, write

RNG = np.random.default_rng(7)
GREY, RGB = (RNG.integers(0, 256, (40, 30, c), dtype=np.uint8) for c in (1, 3))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_existing_files_are_never_touched_without_overwrite(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"precious")
    path.chmod(0o640)
    with pytest.raises(ImageError, match=r"already exists; .*--overwrite"):
        write(path, RGB)
    assert path.read_bytes() == b"precious"
    write(path, RGB, overwrite=True)
    np.testing.assert_array_equal(read(path).pixels, RGB)
    assert path.stat().st_mode & 0o777 == 0o640  # kept
    assert files(tmp_path) == ["x.png"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_that_appears_meanwhile_is_not_touched(tmp_path, monkeypatch, links):
    path = tmp_path / "x.png"
    save = Image.Image.save

    def slow(self, *args, **kwargs):
        save(self, *args, **kwargs)
        path.write_bytes(b"from another program")

    if not links:
        _without_hard_links(monkeypatch)
    monkeypatch.setattr(Image.Image, "save", slow)
    with pytest.raises(ImageError, match="already exists"):
        write(path, RGB)
    assert path.read_bytes() == b"from another program"
    assert files(tmp_path) == ["x.png"]


def _without_hard_links(monkeypatch):
    def link(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")  # as on FAT

    monkeypatch.setattr(os, "link", link)


def test_file_systems_without_hard_links(tmp_path, monkeypatch):
    _without_hard_links(monkeypatch)
    write(tmp_path / "x.png", RGB)
    np.testing.assert_array_equal(read(tmp_path / "x.png").pixels, RGB)

    def replace(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ImageError, match="Input/output error"):
        write(tmp_path / "y.png", RGB)
    assert files(tmp_path) == ["x.png"]  # the reserved name is given back


def test_new_files_have_the_usual_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "x.png", RGB)
    finally:
        os.umask(old)
    assert (tmp_path / "x.png").stat().st_mode & 0o777 == 0o640


def test_overwriting_follows_links_and_spares_what_is_no_file(tmp_path):
    write(tmp_path / "real.png", GREY)
    (tmp_path / "link.png").symlink_to("real.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    for name in ("link.png", "dangling.png"):
        with pytest.raises(ImageError, match="already exists"):
            write(tmp_path / name, RGB)
    write(tmp_path / "link.png", RGB, overwrite=True)
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(read(tmp_path / "real.png").pixels, RGB)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match="is a folder"):
        write(tmp_path / "folder.png", RGB, overwrite=True)
    with pytest.raises(ImageError, match="there is no folder"):
        write(tmp_path / "no" / "x.png", RGB)
    with pytest.raises(ImageError, match="there is no folder"):
        write(tmp_path / "real.png" / "x.png", RGB)
    with pytest.raises(ImageError, match="is not a regular file"):
        write(os.devnull, RGB, format="PNG", overwrite=True)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "x.png: the disk is full .*free some space"),
        (errno.EDQUOT, "x.png: the disk is full"),
        (errno.EACCES, "x.png: no permission to write in"),
        (errno.EROFS, "x.png: no permission to write in .*another folder"),
        (errno.EIO, "x.png: cannot be written"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_failures_leave_nothing_behind_and_the_old_file_alone(tmp_path, monkeypatch, number, said, overwrite):
    if overwrite:
        (tmp_path / "x.png").write_bytes(b"precious")
    before = files(tmp_path)

    class Failing(image_writing._Stream):
        def write(self, data):
            if self.tell() > 1000:
                raise OSError(number, os.strerror(number))
            return super().write(data)

    monkeypatch.setattr(image_writing, "_Stream", Failing)
    with pytest.raises(ImageError, match=said) as caught:
        write(tmp_path / "x.png", RGB, overwrite=overwrite)
    assert len(str(caught.value).splitlines()) == 1
    assert files(tmp_path) == before
    assert not overwrite or (tmp_path / "x.png").read_bytes() == b"precious"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interruption_leaves_nothing_behind(tmp_path, monkeypatch, error):
    def save(self, stream, *args, **kwargs):
        stream.write(b"half")
        raise error

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(error):
        write(tmp_path / "x.png", RGB)
    assert files(tmp_path) == []


def test_writes_that_the_system_cuts_short_are_noticed(tmp_path):
    """A real limit on file size: the system writes a part of what it is given, and fails from then on."""
    pytest.importorskip("resource", reason="needs limits on file size")
    script = """
        import resource, signal, sys
        import numpy as np
        from liif_fast.images.files import ImageError, write
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
        for path in sys.argv[1:]:
            try:
                write(path, noise)
            except ImageError as error:
                print(error)
    """
    paths = [str(tmp_path / f"x.{suffix}") for suffix in ("png", "jpg", "webp", "tif", "bmp", "jp2", "avif", "tga")]
    command = [sys.executable, "-c", textwrap.dedent(script), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    wanted = "cannot be written (File too large); write to another folder or in another format"
    assert done.stdout.splitlines() == [f"{path}: {wanted}" for path in paths]
    assert files(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ImageError, match="no permission"):
            write(tmp_path / "x.png", RGB)
    finally:
        tmp_path.chmod(0o700)


def test_encoder_refusals_become_one_line(tmp_path, monkeypatch):
    def save(*args, **kwargs):
        raise ValueError("no such\nthing")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(ImageError, match=r"cannot write this image as PNG \(no such\)"):
        write(tmp_path / "x.png", RGB)
