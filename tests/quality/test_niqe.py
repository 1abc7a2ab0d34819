"""NIQE against its equations, written out for a block, and as a figure of eval and compare."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from liif_fast.cli.main import main
from liif_fast.quality import compare, evaluate, niqe


def texture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Noise of several sizes: [3, H, W]."""
    random = torch.Generator().manual_seed(seed)
    parts = [
        F.interpolate(torch.rand(1, 3, height // n, width // n, generator=random), (height, width), mode="bicubic")
        for n in (1, 3, 8, 24)
    ]
    return torch.stack(parts).mean(0)[0].clamp(0, 1)


def asymmetric(x: np.ndarray) -> tuple[float, float, float]:
    """Equation 7's moments, solved for the shape by bisection."""
    left, right = (math.sqrt(np.mean(x[side] ** 2)) for side in (x < 0, x > 0))
    ratio = left / right
    r = np.mean(np.abs(x)) ** 2 / np.mean(x**2) * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    low, high = 0.2, 10.0
    for _ in range(60):
        shape = (low + high) / 2
        if math.gamma(2 / shape) ** 2 / (math.gamma(1 / shape) * math.gamma(3 / shape)) < r:
            low = shape
        else:
            high = shape
    width = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * width, right * width


def features_of(grey: np.ndarray, side: int) -> list[list[float]]:
    """Each block's 18 features at one scale, pixel by pixel."""
    bell = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    padded = np.pad(grey, 3, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    mean = (around * window).sum((2, 3))
    deviation = np.sqrt(np.abs((around**2 * window).sum((2, 3)) - mean**2))
    normalised = (grey - mean) / (deviation + 1)
    rows = []
    for top in range(0, grey.shape[0], side):
        for left in range(0, grey.shape[1], side):
            block = normalised[top : top + side, left : left + side]
            shape, a, b = asymmetric(block)
            row = [shape, (a + b) / 2]
            for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
                shape, a, b = asymmetric(block * np.roll(block, (down, across), (0, 1)))
                row += [shape, (b - a) * math.gamma(2 / shape) / math.gamma(1 / shape), a, b]
            rows.append(row)
    return rows


def test_features_are_the_equations():
    image = texture(192, 288)
    found, sharpness = niqe.features(image)
    colours = (image.double() * 255 + 0.5).floor().numpy()
    grey = np.round(0.2989 * colours[0] + 0.587 * colours[1] + 0.114 * colours[2])
    want = np.array(features_of(grey, 96))
    assert found.shape == (6, 36)
    # the shape is read from a table in steps of 0.001, and all other figures are made with it
    np.testing.assert_allclose(found[:, :18], want, rtol=2e-3, atol=1e-3)
    half = F.interpolate(torch.from_numpy(grey)[None, None], (96, 144), mode="bicubic", antialias=True)[0, 0].numpy()
    np.testing.assert_allclose(found[:, 18:], np.array(features_of(half, 48)), rtol=2e-3, atol=1e-3)
    assert (sharpness > 1).all()


def test_the_distance_is_equation_10(monkeypatch):
    image = texture(200, 296)
    found, _ = niqe.features(image[:, 4:-4, 4:-4])
    mean, covariance = np.linspace(0.1, 1, 36), np.diag(np.linspace(0.5, 2, 36))
    monkeypatch.setattr(niqe, "_natural", lambda: (mean, covariance))
    both = (covariance + np.cov(found.T)) / 2
    d = found.mean(0) - mean
    assert niqe.niqe(image, scale=4) == pytest.approx(math.sqrt(d @ np.linalg.inv(both) @ d), rel=1e-9)


def test_photos_are_more_natural_than_what_is_blurred_or_noisy(data_dir):
    files = sorted((data_dir / "benchmark" / "Set14" / "HR").glob("*.png"))[:6]
    for file in files:
        with Image.open(file) as image:
            hr = evaluate.to_tensor(np.asarray(image.convert("RGB")))
        blurred = F.interpolate(F.interpolate(hr, scale_factor=0.25, mode="area"), hr.shape[-2:], mode="bicubic")
        noisy = hr + 0.1 * torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))
        best = niqe.niqe(hr)
        assert best < niqe.niqe(blurred) - 0.5
        assert best < niqe.niqe(noisy) - 0.5


def test_a_fit_keeps_the_sharp_blocks():
    image = texture(192, 192)
    image[:, :96] = 0.5 + 0.6 * (image[:, :96] - 0.5)  # two blocks of 0.6 of the sharpness
    model = niqe.fit([image, texture(96, 192, 1)])
    assert model["blocks"] == 4
    assert model["mean"].shape == (36,)
    assert model["covariance"].shape == (36, 36)
    with pytest.raises(ValueError, match="number 1 has 200x95"):
        niqe.fit([image, torch.rand(3, 95, 200)])
    with pytest.raises(ValueError, match="1 sharp blocks"):
        niqe.fit([texture(96, 96)])


def test_the_model_of_natural_images_is_one():
    mean, covariance = niqe._natural()
    assert (mean.shape, covariance.shape) == ((36,), (36, 36))
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_few_blocks_do_not_span_all_features(monkeypatch):
    """Two blocks have a covariance of rank 1; a model of natural images may have less than full rank, too."""
    mean, covariance = niqe._natural()
    covariance = covariance.copy()
    covariance[5], covariance[:, 5] = 0, 0
    monkeypatch.setattr(niqe, "_natural", lambda: (mean, covariance))
    image = texture(96, 192)
    found = niqe.features(image)[0]
    monkeypatch.setattr(niqe, "features", lambda _: (found * (np.arange(36) != 5) + mean * (np.arange(36) == 5), None))
    figure = niqe.niqe(torch.nn.functional.pad(image, (1, 1, 1, 1)))
    assert 0 < figure < 1e4


def test_flat_blocks_do_not_count():
    """A picture without structure has no figure: the best one would be a lie."""
    image = texture(192, 288)
    border = torch.nn.functional.pad(image, (1, 1, 1, 1))
    flat = border.clone()
    flat[:, 1:97, 1:97] = 0.25
    features, _ = niqe.features(flat[:, 1:-1, 1:-1])
    whole = np.isfinite(features).all(1)
    assert whole.tolist() == [False, True, True, True, True, True]
    mean, _ = niqe.fitted(features)
    assert np.array_equal(mean, features[1:].mean(0))
    assert niqe.niqe(flat) > 0
    for level in (0.0, 0.25, 1.0):
        assert niqe.niqe(torch.full((3, 200, 296), level)) is None
    flat[:, :, 97:] = 0.25
    flat[:, 1:97] = 0.25
    assert niqe.niqe(flat) is None  # one block is left


def test_bad_images():
    with pytest.raises(TypeError, match=r"got torch\.uint8; divide"):
        niqe.niqe(torch.zeros(3, 200, 200, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\[3, H, W\]"):
        niqe.niqe(torch.zeros(2, 3, 200, 200))
    with pytest.raises(ValueError, match="NaN or infinity"):
        niqe.niqe(torch.full((3, 200, 200), math.nan))
    assert niqe.niqe(torch.rand(3, 103, 200), scale=4) is None
    assert niqe.niqe(torch.rand(3, 10, 10), scale=100) is None


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for name, size in (("a", (208, 304)), ("b", (300, 204))):
        pixels = (texture(*size, seed=ord(name)) * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "photos"


def test_eval_and_compare_have_it(folder, tmp_path, capsys):
    arguments = ["--data", str(folder), "--scale", "2"]
    assert main(["eval", *arguments, "-m", "bicubic", "--niqe"]) == 0
    text = capsys.readouterr().out
    assert "NIQE" in text.splitlines()[0]
    assert niqe.describe(2) in text
    assert main(["eval", *arguments, "-m", "bicubic", "--niqe", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["niqe"] == pytest.approx(np.mean([image["niqe"] for image in report["images"]]))
    assert main(["eval", *arguments, "-m", "bicubic", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["niqe"] is None

    result = compare.compare([], [folder], [2], with_niqe=True)
    cell = result.markdown().splitlines()[2].split("|")[2].split("/")
    assert float(cell[2]) == pytest.approx(report["niqe"], abs=0.005)
    assert result.to_json()["results"][0]["niqe"] == pytest.approx(report["niqe"])
    assert "NIQE" not in compare.compare([], [folder], [2]).markdown()


def test_why_there_is_none_is_said(folder, capsys):
    """Of images without room or structure, beside others too."""
    Image.new("RGB", (220, 220), (90, 80, 70)).save(folder / "flat.png")
    report = evaluate.evaluate(evaluate.bicubic, folder, 2, with_niqe=True)
    assert [row.niqe is None for row in report.rows] == [False, False, True]
    assert report.niqe is None
    assert "no NIQE of 1 image, flat first (two blocks of 96x96 pixels with structure are needed)" in report.table()
    assert report.table().splitlines()[3].split()[-1] == report.table().splitlines()[4].split()[-1] == "-"
    text = compare.compare([], [folder], [2], with_niqe=True).markdown()
    assert text.splitlines()[2].rstrip(" |").endswith("/ -")
    assert "no NIQE of 1 image, flat first" in text


def test_a_config_makes_no_pictures(tmp_path, capsys):
    assert main(["eval", "--config", str(tmp_path / "x.yaml"), "-m", "bicubic", "--niqe"]) == 2
    assert "--niqe" in capsys.readouterr().err
