"""The comparison: figures, table, dashes, plot, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest
import torch

from liif_fast.quality import charts, compare
from liif_fast.quality.compare import Method
from liif_fast.quality.evaluate import bicubic, evaluate


def nearest(image, size):
    return torch.nn.functional.interpolate(image, size, mode="nearest")


def grey(image, size):
    return torch.full((1, 3, *size), 0.5)


def parsed(markdown: str) -> list[list[list[str]]]:
    """Cells of every table of a Markdown text, without the lines under the heads."""
    tables, table = [], None
    for line in markdown.splitlines():
        if not line.startswith("|"):
            table = None
            continue
        if table is None:
            tables.append(table := [])
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    for table in tables:
        assert all(re.fullmatch(r"-{2,}[-:]", cell) for cell in table.pop(1))
    return tables


def test_figures_are_those_of_evaluate(plain, paired):
    calls = []
    result = compare.compare(
        [Method("nearest", nearest), Method("grey", grey)],
        [paired, plain],
        [2, 2.5],
        [2, 3],
        progress=lambda *n: calls.append(n),
    )
    for folder, name in ((paired, "paired"), (plain, "plain")):
        for scale in (2, 2.5, 3):
            for method, function in (("bicubic", bicubic), ("nearest", nearest), ("grey", grey)):
                assert result.reports[name, scale, method] == evaluate(function, folder, scale)
    assert len(result.reports) == 2 * 3 * 3
    assert result.reports["paired", 2, "grey"].lr == "files"
    assert calls == [(i + 1, 54) for i in range(54)]  # (2 + 4 images) * 3 scales * 3 methods


def test_protocol_and_source_are_passed_on(paired):
    result = compare.compare([], [paired], [2.0], protocol="y", lr="matlab")
    assert result.reports["paired", 2, "bicubic"] == evaluate(bicubic, paired, 2, "y", "matlab")


def test_bicubic_on_set5(data_dir):
    """The shared figure of the official protocol, to its two digits."""
    result = compare.compare([], [data_dir / "benchmark" / "Set5"], [4])
    assert result.to_json()["results"][0]["psnr"] == pytest.approx(28.43, abs=0.005)
    assert parsed(result.markdown())[0][1][0] == "bicubic"
    assert parsed(result.markdown())[0][1][1].startswith("28.4")
    assert not result.crops  # one method does not differ from itself


def test_markdown_is_the_json(plain, paired):
    methods = [Method("ne|arest", nearest), Method("only2", grey, 2)]
    result = compare.compare(methods, [paired, plain], [2, 3], [3, 1.5])
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    figures = {(r["data"], f"x{r['scale']:g}", r["method"]): r for r in data["results"]}
    table, *by_scale = parsed(result.markdown())
    assert table[0] == ["PSNR (dB) / SSIM", "paired x2", "paired x3", "plain x2", "plain x3"]
    assert [line[0] for line in table[1:]] == ["bicubic", "ne\\|arest", "only2"]
    seen = 0
    for line in table[1:]:
        for head, cell in zip(table[0][1:], line[1:], strict=True):
            figure = figures[(*head.split(), line[0].replace("\\", ""))]
            want = "-" if figure["psnr"] is None else f"{figure['psnr']:.3f} / {figure['ssim']:.4f}"
            assert cell == want
            seen += cell != "-"
    assert seen == 4 + 4 + 2
    assert [t[0] for t in by_scale] == [[f"PSNR (dB), {name}", "x3", "x1.5"] for name in ("paired", "plain")]
    for name, part in zip(("paired", "plain"), by_scale, strict=True):
        for line in part[1:]:
            for head, cell in zip(part[0][1:], line[1:], strict=True):
                figure = figures[name, head, line[0].replace("\\", "")]
                assert cell == ("-" if figure["psnr"] is None else f"{figure['psnr']:.3f}")
    assert "plain: means over 4 images; low resolution: HR reduced by Pillow's" in result.markdown()
    assert "paired: means over 2 images; low resolution: HR reduced by" in result.markdown()
    assert "filter (x1.5, x3); files of LR_bicubic/X2 (x2)\n" in result.markdown()
    assert "x3: PSNR on Y, unquantised, border 3; SSIM on Y" in result.markdown()


def test_a_method_of_one_scale(plain):
    sizes = []

    def only(image, size):
        sizes.append((tuple(image.shape[-2:]), size))
        return grey(image, size)

    result = compare.compare([Method("only", only, 2)], [plain], [2, 3], [1.5, 2])
    assert sizes
    assert all(size == (2 * h, 2 * w) for (h, w), size in sizes)
    data = result.to_json()
    absent = [r for r in data["results"] if r["psnr"] is None]
    assert [(r["scale"], r["method"]) for r in absent] == [(1.5, "only"), (3, "only")]
    assert {r["why"] for r in absent} == {"made for x2 alone"}
    assert "- only: made for x2 alone, - elsewhere" in result.markdown().splitlines()
    assert [f["method"] for f in data["crops"][0]["figures"]] == ["bicubic", "only"]
    assert not [crop for crop in data["crops"] if crop["scale"] == 3]  # bicubic alone


def test_plot(plain, monkeypatch):
    result = compare.compare([Method("grey", grey), Method("only", grey, 3)], [plain], [2], [3, 1.5])
    drawn = []
    monkeypatch.setattr(charts, "draw", lambda found: drawn.extend(found))
    result.chart()
    (chart,) = drawn
    assert chart.series == {
        name: [(s, evaluate(function, plain, s).psnr) for s in scales]
        for name, function, scales in (("bicubic", bicubic, (1.5, 3)), ("grey", grey, (1.5, 3)), ("only", grey, (3,)))
    }
    assert compare.compare([], [plain], [2]).chart() is None


# --- what it refuses ---


def test_bad_arguments_of_the_function(plain, tmp_path):
    with pytest.raises(ValueError, match="two are called grey"):
        compare.compare([Method("grey", grey), Method("grey", nearest)], [plain], [2])
    with pytest.raises(ValueError, match="two are called bicubic"):
        compare.compare([Method("bicubic", grey)], [plain], [2])
    with pytest.raises(ValueError, match=r"scale must be a finite number of at least 1, got 0\.5"):
        compare.compare([], [plain], [2], [0.5])
    with pytest.raises(ValueError, match="plain is given twice"):
        compare.compare([], [plain, plain], [2])
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        compare.compare([], [tmp_path / "nowhere"], [2])


def test_images_without_room_are_found_before_the_work(plain):
    def never(image, size):
        raise AssertionError

    with pytest.raises(ValueError, match=r"00\.png: 60x60 pixels are too few at scale 30, where a border of 30"):
        compare.compare([Method("never", never)], [plain], [2], [30])


def test_a_bad_upscaler_is_named(plain):
    broken = Method("broken", lambda image, size: torch.full((1, 3, *size), torch.nan))
    with pytest.raises(ValueError, match=r"^broken: .*00\.png: the upscaler returned NaN"):
        compare.compare([broken], [plain], [2])


def test_names_of_folders(tmp_path, monkeypatch):
    for name in ("a/Set5/HR", "b/Set5", "c"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "c")
    assert compare.data_names([tmp_path / "a/Set5/HR", tmp_path / "b/Set5", "."]) == {
        "Set5": f"{tmp_path}/a/Set5/HR",
        f"{tmp_path}/b/Set5": f"{tmp_path}/b/Set5",
        "c": ".",
    }
