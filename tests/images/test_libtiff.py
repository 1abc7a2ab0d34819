"""What libtiff prints becomes a note: a damaged fax strip is decoded with wrong rows, and nothing is raised."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, features

from liif_fast.data.opening import opened
from liif_fast.images import libtiff
from liif_fast.images.files import ImageError, read

pytestmark = pytest.mark.skipif(not features.check("libtiff"), reason="this Pillow has no libtiff")
RNG = np.random.default_rng(0)


def damaged(path, mode: str, compression: str):
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)).convert(mode).save(path, compression=compression)
    data = path.read_bytes()
    path.write_bytes(data[:200] + b"\xff" * 60 + data[260:])
    return path


@pytest.mark.skipif(libtiff._functions() is None, reason="Pillow hides its libtiff")
def test_a_damaged_strip_is_a_note_and_no_line_of_libtiff(tmp_path, capfd):
    path = damaged(tmp_path / "x.tif", "1", "group4")
    with Image.open(path) as image:
        image.load()
    assert "Bad code word" in capfd.readouterr().err  # what it is without us
    for _ in range(2):
        (note,) = read(path).notes
        assert note.startswith("libtiff: Fax4Decode: Bad code word at line ")
        assert note.endswith(" more): the picture may be damaged")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(damaged(tmp_path / "y.tif", "RGB", "tiff_lzw"))
    assert capfd.readouterr() == ("", "")
    with Image.open(path) as image:
        image.load()
    assert "Bad code word" in capfd.readouterr().err  # other users of Pillow hear it as before


def test_a_sound_file_has_no_such_note(tmp_path, monkeypatch):
    Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "x.tif", compression="tiff_lzw")
    assert read(tmp_path / "x.tif").notes == []
    monkeypatch.setattr(libtiff, "_functions", lambda: None)  # where its library cannot be reached
    assert read(tmp_path / "x.tif").notes == []


@pytest.mark.skipif(libtiff._functions() is None, reason="Pillow hides its libtiff")
def test_threads_hear_their_own_files(tmp_path, capfd):
    """Damaged and sound pictures decoded at the same time, and one of a thread that does not listen."""
    bad, good = damaged(tmp_path / "bad.tif", "1", "group4"), tmp_path / "good.tif"
    Image.fromarray(RNG.integers(0, 256, (40, 50), dtype=np.uint8)).convert("1").save(good, compression="group4")

    def decoded(path):
        with libtiff.lines() as said:
            for _ in range(20):
                with Image.open(path) as image:
                    image.load()
        return len(said)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decoded, [bad, good, bad, good] * 3))
    assert all(found[::2])
    assert not any(found[1::2])
    assert capfd.readouterr() == ("", "")
    with libtiff.lines() as said, ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: Image.open(bad).load()).result()
    assert said == []
    assert "Bad code word" in capfd.readouterr().err
    with Image.open(bad) as image:
        image.load()
    assert "Bad code word" in capfd.readouterr().err


@pytest.mark.skipif(libtiff._functions() is None, reason="Pillow hides its libtiff")
def test_a_damaged_picture_is_no_training_picture(tmp_path, capfd):
    with (
        pytest.raises(ValueError, match=r"libtiff: Fax4Decode: Bad code word .* get a complete copy"),
        opened(damaged(tmp_path / "x.tif", "1", "group4")) as image,
    ):
        image.convert("RGB")
    assert capfd.readouterr() == ("", "")
