"""The evaluation: golden bicubic figures, pairing and cropping, the report, bad data."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from liif_fast.images.resize import imresize, pil_bicubic
from liif_fast.quality import metrics
from liif_fast.quality.evaluate import Report, Row, bicubic, check_arguments, evaluate


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def unit(array):
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


@pytest.fixture
def paired(tmp_path):
    """Two HR images whose sizes 3 does not divide, with LR_bicubic files for x3 that no filter made."""
    for seed, (name, h, w) in enumerate([("one", 44, 50), ("two", 46, 61)]):
        save(noise(h, w, seed), tmp_path / "HR" / f"{name}.png")
        save(noise(h // 3, w // 3, seed + 9), tmp_path / "LR_bicubic" / "X3" / f"{name}x3.png")
    return tmp_path


class Recorder:
    """An upscaler that repeats pixels, and what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, image, size):
        self.calls.append((image, size))
        return torch.nn.functional.interpolate(image, size, mode="nearest")


# shared figures of the official protocol, to the two digits they are given with
@pytest.mark.parametrize(("scale", "want"), [(2, 33.67), (3, 30.40), (4, 28.43), (6, 25.93), (8, 24.40)])
def test_bicubic_on_set5(data_dir, scale, want):
    report = evaluate(bicubic, data_dir / "benchmark" / "Set5", scale)
    assert report.lr == ("files" if scale <= 4 else "pil")
    assert [row.name for row in report.rows] == ["baby", "bird", "butterfly", "head", "woman"]
    assert report.psnr == pytest.approx(want, abs=0.005)


def test_matlab_source_equals_the_files_on_set5(data_dir):
    files, matlab, pil = (
        evaluate(bicubic, data_dir / "benchmark" / "Set5", 3, lr=lr) for lr in ("files", "matlab", "pil")
    )
    assert files.rows == matlab.rows
    assert files.rows != pil.rows


def test_grey_images_are_read_as_rgb(data_dir, tmp_path):
    bridge = Image.open(data_dir / "benchmark" / "Set14" / "HR" / "bridge.png")
    assert bridge.mode == "L"
    bridge.save(tmp_path / "bridge.png")
    record = Recorder()
    evaluate(record, tmp_path, 8)
    image = record.calls[0][0]
    assert image.shape == (1, 3, 64, 64)
    assert (image == image[:, :1]).all()


def test_files_are_paired_and_hr_is_cropped(paired):
    record = Recorder()
    report = evaluate(record, paired, 3)
    assert (report.lr, report.scale) == ("files", 3)
    assert [(row.name, row.size) for row in report.rows] == [("one", (42, 48)), ("two", (45, 60))]
    for seed, ((image, size), row) in enumerate(zip(record.calls, report.rows, strict=True)):
        low = noise(size[0] // 3, size[1] // 3, seed + 9)
        assert image.dtype == torch.float32
        assert torch.equal(image[0], unit(low))
        hr = noise(*[(44, 50), (46, 61)][seed], seed)[: size[0], : size[1]]
        sr = unit(low.repeat(3, 0).repeat(3, 1))
        assert row.psnr == metrics.psnr(sr, unit(hr), "benchmark", 3)
        assert row.ssim == metrics.ssim(sr, unit(hr), 3)


@pytest.mark.parametrize("where", ["HR", "DIV2K_valid_HR"])
def test_the_hr_folder_itself_finds_its_files(paired, where):
    (paired / "HR").rename(paired / where)
    (paired / "LR_bicubic").rename(paired / where.replace("HR", "LR_bicubic"))
    assert evaluate(Recorder(), paired / where, 3, "div2k").lr == "files"
    assert evaluate(Recorder(), paired / where, 2, "div2k").lr == "pil"  # there is no X2


@pytest.mark.parametrize("scale", [1, 2, 2.5, 3, 3.7, 4.0])
@pytest.mark.parametrize(("lr", "reduce"), [("matlab", imresize), ("pil", pil_bicubic)])
def test_reduction_crops_as_the_official_code(paired, lr, reduce, scale):
    record = Recorder()
    report = evaluate(record, paired, scale, lr=lr)
    assert report.lr == lr
    for seed, ((image, size), (H, W)) in enumerate(zip(record.calls, [(44, 50), (46, 61)], strict=True)):
        h, w = math.floor(H / scale + 1e-9), math.floor(W / scale + 1e-9)
        assert size == (round(h * scale), round(w * scale)) == report.rows[seed].size
        hr = noise(H, W, seed)[: size[0], : size[1]]
        assert torch.equal(image[0], unit(reduce(hr, (h, w))))


def test_auto_without_files_is_pil(paired):
    for scale in (2, 3.5):
        auto, pil = (evaluate(Recorder(), paired, scale, lr=lr) for lr in ("auto", "pil"))
        assert auto == pil
        assert auto.lr == "pil"


def test_plain_folder_ignores_what_is_no_image(tmp_path):
    save(noise(30, 30), tmp_path / "b.PNG")
    save(noise(30, 30, 1), tmp_path / "a.bmp")
    save(noise(30, 30), tmp_path / "deeper" / "c.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    done = []
    report = evaluate(Recorder(), tmp_path, 2, progress=lambda *n: done.append(n))
    assert [row.name for row in report.rows] == ["a", "b"]
    assert done == [(1, 2), (2, 2)]


def test_result_is_clamped_and_gradients_are_off(tmp_path):
    save(np.full((40, 40, 3), 255, np.uint8), tmp_path / "white.png")

    def over(image, size):
        assert not torch.is_grad_enabled()
        return torch.full((1, 3, *size), 1.5, dtype=torch.float64)

    assert evaluate(over, tmp_path, 2).rows[0].psnr == math.inf


def test_identical_images_make_valid_json(tmp_path):
    save(noise(40, 40), tmp_path / "same.png")
    report = evaluate(bicubic, tmp_path, 1)
    assert report.psnr == math.inf
    parsed = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert parsed["psnr"] is None
    assert parsed["images"] == [{"name": "same", "psnr": None, "ssim": 1.0, "niqe": None, "size": [40, 40]}]
    assert re.search(r"^same +40x40 +inf +1\.0000$", report.table(), re.M)


def test_report():
    report = Report((Row("a", 30.0, 0.9, (20, 30)), Row("long-name", 33.0, 0.8, (5, 8))), 4, "benchmark", "files")
    assert report.psnr == 31.5
    assert report.ssim == pytest.approx(0.85, abs=1e-15)  # one rounding of float64
    assert report.table().splitlines() == [
        "image             size      PSNR    SSIM",
        "a                30x20    30.000  0.9000",
        "long-name          8x5    33.000  0.8000",
        "mean                      31.500  0.8500",
        "x4; PSNR on Y, unquantised, border 4; SSIM on Y of 8-bit images, border 4, Gaussian 11x11, sigma 1.5",
        "low resolution: files of LR_bicubic/X4",
    ]
    data = report.to_json()
    assert data["psnr"] == 31.5
    assert (data["scale"], data["protocol"], data["lr"]) == (4, "benchmark", "files")
    assert data["protocol_text"] in report.table()


def test_small_images_have_no_ssim(tmp_path):
    save(noise(14, 40), tmp_path / "small.png")
    save(noise(40, 40), tmp_path / "wide.png")
    report = evaluate(Recorder(), tmp_path, 2)
    assert report.rows[0].ssim is None
    assert report.rows[1].ssim is not None
    assert report.ssim is None
    assert report.to_json()["ssim"] is None
    assert re.search(r"^small +40x14 +\S+ +-$", report.table(), re.M)
    (tmp_path / "wide.png").unlink()
    assert "too small" in evaluate(Recorder(), tmp_path, 2).protocol_text


def test_without_torchmetrics_there_is_psnr(tmp_path, monkeypatch):
    save(noise(40, 40), tmp_path / "a.png")
    full = evaluate(Recorder(), tmp_path, 2)
    monkeypatch.setattr(metrics, "have_ssim", lambda: False)
    report = evaluate(Recorder(), tmp_path, 2)
    assert report.psnr == full.psnr
    assert report.ssim is None
    assert "pip install torchmetrics" in report.protocol_text


def fails(error, words, *args, upscale=None, **kwargs):
    with pytest.raises(error, match=words) as caught:
        evaluate(upscale or Recorder(), *args, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [0, -1, 0.5, math.nan, "2"])
def test_bad_scale(tmp_path, scale):
    fails(ValueError, "scale must be a finite number of at least 1", tmp_path, scale)


def test_bad_choices(tmp_path):
    fails(ValueError, "protocol must be one of benchmark, div2k, y, got 'Y'", tmp_path, 2, protocol="Y")
    fails(ValueError, "lr must be one of auto, files, matlab, pil, got 'cv2'", tmp_path, 2, lr="cv2")


def test_missing_data(tmp_path):
    fails(FileNotFoundError, "nowhere: no such folder", tmp_path / "nowhere", 2)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        check_arguments(tmp_path / "nowhere", 2)
    fails(FileNotFoundError, "no images", tmp_path, 2)
    save(noise(30, 30), tmp_path / "a.png")
    check_arguments(tmp_path, 2)
    fails(FileNotFoundError, "no such folder", tmp_path / "a.png", 2)
    fails(FileNotFoundError, "no LR_bicubic files.*with matlab or pil as lr", tmp_path, 2, lr="files")


def test_files_that_do_not_match(paired):
    fails(FileNotFoundError, "X2, which does not exist", paired, 2, lr="files")
    fails(FileNotFoundError, "for this scale", paired, 2.5, lr="files")
    low = paired / "LR_bicubic" / "X3"
    save(noise(14, 16), low / "threex3.png")
    fails(ValueError, "1 files have no HR image, the first is threex3.png", paired, 3)
    (low / "threex3.png").unlink()
    save(noise(16, 20), low / "twox3.png")
    fails(ValueError, "twox3.png: 20x16 pixels, but two.png has 61x46, which makes 20x15", paired, 3)
    (low / "twox3.png").unlink()
    fails(ValueError, "1 of 2 HR images are missing, the first is twox3.png.*with matlab or pil as lr", paired, 3)
    assert evaluate(Recorder(), paired, 3, lr="matlab").lr == "matlab"


@pytest.mark.parametrize("content", [b"", b"no image at all", "truncated", "bomb"])
def test_unreadable_image_is_named(tmp_path, monkeypatch, content):
    file = tmp_path / "broken.png"
    save(noise(40, 40), file)
    if content == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    elif content == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        file.write_bytes(content)
    fails(ValueError, r"broken\.png: cannot read this image \(.+\)", tmp_path, 2)


def test_more_than_8_bits_are_refused(tmp_path):
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40).save(tmp_path / "deep.png")
    fails(ValueError, r"deep\.png.*8 bits", tmp_path, 2)


def test_images_too_small_are_named(tmp_path):
    save(noise(30, 7), tmp_path / "narrow.png")
    fails(ValueError, r"narrow\.png: 7x30 pixels are too few to reduce by 8", tmp_path, 8)
    fails(ValueError, r"narrow\.png: psnr: a border of 8 leaves less", tmp_path, 2, "div2k")


@pytest.mark.parametrize(
    ("upscale", "words"),
    [
        (lambda image, size: image, r"must return a tensor of shape \[1, 3, 30, 30\], got \[1, 3, 15, 15\]"),
        (lambda image, size: None, "got NoneType"),
        (lambda image, size: torch.full((1, 3, *size), torch.nan), "NaN"),
    ],
)
def test_bad_upscaler(tmp_path, upscale, words):
    save(noise(30, 30), tmp_path / "a.png")
    fails(ValueError, rf"a\.png.*{words}", tmp_path, 2, upscale=upscale)
