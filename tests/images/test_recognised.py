"""Files that Pillow alone does not read: what is said of them, and HEIF where its plugin is installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from image_bytes import exif, profile
from image_files import SMOOTH, saved, wrote
from PIL import Image

from liif_fast.images import recognised
from liif_fast.images.files import ImageError, Photo, find_images, output_format, read, write

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.fixture
def without_plugin(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pillow_heif" else real(name))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        (b"FUJIFILMCCD-RAW 0201FF", "RAF"),
        (b"IIRO\x08\0\0\0", "ORF"),
        (b"IIU\0\x18\0\0\0", "RW2"),
    ],
)
def test_raw_files_are_refused_with_the_programs_that_develop_them(tmp_path, head, kind):
    wanted = rf"x\.raw: is a camera's raw file \({kind}\), which is not read; develop it .*darktable-cli photo\.raw"
    with pytest.raises(ImageError, match=wanted):
        read(wrote(tmp_path, head + bytes(200), "x.raw"))


@pytest.mark.usefixtures("without_plugin")
def test_heif_without_its_plugin_names_what_to_install(tmp_path):
    said = r"x\.heic: HEIF needs pillow-heif: pip install pillow-heif, or "
    with pytest.raises(ImageError, match=said + "convert the file to JPEG or PNG"):
        read(wrote(tmp_path, HEIC, "x.heic"))
    with pytest.raises(ImageError, match=said + r"use one of \.png"):
        write(tmp_path / "x.heic", np.zeros((2, 2), np.uint8), overwrite=True)


def test_avif_is_no_heif(tmp_path, monkeypatch):
    monkeypatch.setattr(recognised, "add_heif", lambda: pytest.fail("AVIF is Pillow's own"))
    monkeypatch.setattr(recognised, "has_heif", lambda: pytest.fail("AVIF is Pillow's own"))
    assert read(saved(tmp_path, Image.fromarray(SMOOTH), "x.avif")).format == "AVIF"


class TestHeif:
    @pytest.fixture(autouse=True)
    def _plugin(self):
        pytest.importorskip("pillow_heif", reason="needs the extra heif")
        recognised.add_heif()

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_orientation_is_applied_once(self, tmp_path, orientation):
        upright = np.zeros((32, 48, 3), np.uint8)
        upright[:16, 24:], upright[16:, :24], upright[16:, 24:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
        stored = np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: -1}[orientation])
        photo = read(saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), "x.heic", exif=exif(orientation)))
        assert photo.pixels.shape == upright.shape
        assert np.abs(photo.pixels.astype(int) - upright).mean() < 8  # lossy; a wrong turn gives more than 80
        tags = Image.Exif()
        tags.load(photo.exif)
        assert tags[0x010F] == "abc"
        assert tags.get(0x0112, 1) == 1

    def test_what_is_written_is_read_back(self, tmp_path):
        grey = np.ascontiguousarray(SMOOTH[..., :1])
        alpha = SMOOTH[..., 1].copy()
        said = {"exif": exif(1), "icc": profile(b"RGB "), "xmp": b"<x:xmpmeta/>"}
        assert write(tmp_path / "x.heic", Photo(SMOOTH, alpha, **said)) == []
        photo = read(tmp_path / "x.heic")
        assert np.abs(photo.pixels.astype(int) - SMOOTH)[alpha > 0].max() <= 8
        assert np.abs(photo.alpha.astype(int) - alpha).max() <= 8
        assert (photo.icc, photo.xmp) == (said["icc"], said["xmp"])
        assert photo.notes == []
        assert write(tmp_path / "g.heic", Photo(grey)) == []
        assert np.abs(read(tmp_path / "g.heic").pixels.astype(int) - grey).max() <= 8
        assert output_format("x.HEIF") == "HEIF"
        assert [str(relative) for _, relative in find_images([tmp_path])[0]] == ["g.heic", "x.heic"]

    def test_primaries_depth_and_other_pictures_are_said(self, tmp_path):
        import pillow_heif

        picture = Image.fromarray(SMOOTH)
        wide = saved(tmp_path, picture, "p3.heic", color_primaries=12, transfer_characteristics=13)
        assert str(read(wide).colour) == "Display P3 primaries, sRGB transfer"
        both = pillow_heif.from_pillow(picture)
        both.add_from_pillow(Image.fromarray(255 - SMOOTH))
        both.save(tmp_path / "two.heic", primary_index=1)
        photo = read(tmp_path / "two.heic")
        assert np.abs(photo.pixels.astype(int) - (255 - SMOOTH)).max() <= 8
        assert photo.notes == ["the file holds several frames or pages: only the main one is read"]
        deep = np.random.default_rng(0).integers(0, 65536, (32, 32, 3), dtype=np.uint16)
        pillow_heif.from_bytes("RGB;16", (32, 32), deep.tobytes()).save(tmp_path / "deep.heic")
        assert read(tmp_path / "deep.heic").notes == ["10 bits per channel are read as 8 (Pillow's limit for colour)"]

    def test_a_depth_map_is_dropped_and_said(self, tmp_path, monkeypatch):
        import pillow_heif

        path = saved(tmp_path, Image.fromarray(SMOOTH), "x.heic")
        real = pillow_heif.HeifImageFile._open

        def opened(self):
            real(self)
            self.info["depth_images"] = [object()]

        monkeypatch.setattr(pillow_heif.HeifImageFile, "_open", opened)
        assert read(path).notes == ["depth and gain maps are dropped: only the picture is read"]

    def test_cut_files_are_refused(self, tmp_path):
        data = saved(tmp_path, Image.fromarray(SMOOTH), "x.heic").read_bytes()
        for length in (40, 200, len(data) - 20):
            with pytest.raises(ImageError, match=r"y\.heic: "):
                read(wrote(tmp_path, data[:length], "y.heic"))
        with pytest.raises(ImageError, match="more than 99 pixels"):
            read(tmp_path / "x.heic", max_pixels=99)
