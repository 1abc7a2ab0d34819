"""The comparison: figures, table, dashes, crops, plot, the folder that it writes, and the command."""

from __future__ import annotations

import errno
import json
import os
import re

import numpy as np
import pytest
import torch
import training_files as files
from PIL import Image

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.images import sheet
from liif_fast.quality import charts, compare, crops, metrics, pairs, result_folder
from liif_fast.quality.compare import Method
from liif_fast.quality.evaluate import bicubic, evaluate
from liif_fast.weights import files as weight_files

SRCNN = {"name": "srcnn", "args": {"kernels": [5, 1, 3], "width": [8, 4]}}
SRRESNET = {"name": "srresnet", "args": {"scale": 2, "n_resblocks": 1, "n_feats": 8}}
METASR = {"name": "metasr", "args": {"encoder_spec": files.TINY_LIIF["args"]["encoder_spec"]}}


def nearest(image, size):
    return torch.nn.functional.interpolate(image, size, mode="nearest")


def grey(image, size):
    return torch.full((1, 3, *size), 0.5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder of HR images."""
    return files.make_images(tmp_path_factory.mktemp("compare") / "plain")


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """A folder with HR and LR_bicubic/X2, whose LR images no filter made."""
    root = tmp_path_factory.mktemp("compare") / "paired"
    files.make_images(root / "HR", ((60, 70), (51, 61)))
    (root / "LR_bicubic" / "X2").mkdir(parents=True)
    for name, (h, w) in {"00": (30, 35), "01": (25, 30)}.items():
        noise = np.random.default_rng(1).integers(0, 256, (h, w, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "LR_bicubic" / "X2" / f"{name}x2.png")
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of untrained models by name."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    specs = {"liif": files.TINY_LIIF, "srcnn": SRCNN, "srresnet": SRRESNET, "metasr": METASR}
    for name, spec in specs.items():
        liif_fast.make(spec).eval().save(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in specs}


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


# --- crops ---


def planted(image, places):
    """The image with squares of 8x8 whose colours are ``step`` brighter, as (top, left, step)."""
    image = image.clone()
    for top, left, step in places:
        image[..., top : top + 8, left : left + 8] += step
    return image


def test_crops_are_where_the_methods_differ():
    hr = torch.rand(1, 3, 90, 120) * 0.5
    other = planted(hr, [(20, 30, 0.2), (60, 80, 0.3), (22, 85, 0.1)])
    found = crops.find("a", {"one": hr, "two": other}, hr, 2, "benchmark", 3, side=24)
    assert len(found) == 3
    for crop, (top, left) in zip(found, [(60, 80), (20, 30), (22, 85)], strict=True):  # the brighter, the earlier
        assert crop.size == (24, 24)
        assert crop.place[0] <= top
        assert crop.place[0] + 24 >= top + 8
        assert crop.place[1] <= left
        assert crop.place[1] + 24 >= left + 8
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    # luma's variance of two values: a quarter of the squared difference; 219 levels; 8-bit rounding below a level
    want = (219 * 0.3) ** 2 / 4 * 64 / 24**2
    assert found[0].score == pytest.approx(want, rel=0.03)


def test_crops_do_not_overlap_and_keep_off_the_border():
    differences = torch.zeros(50, 60, dtype=torch.float64)
    differences[:6, :6] = 100  # a corner, out of reach
    differences[20:30, 20:30] = 1
    found = crops.windows(differences, (16, 16), 6, 10)
    assert found[0][2] == pytest.approx(100 / 256)
    for top, left, mean in found:
        assert 6 <= top <= 50 - 6 - 16
        assert 6 <= left <= 60 - 6 - 16
        assert mean == pytest.approx(differences[top : top + 16, left : left + 16].mean().item(), abs=1e-12)
    for i, (top, left, _) in enumerate(found):
        assert all(abs(top - t) >= 16 or abs(left - x) >= 16 for t, x, _ in found[:i])
    assert 1 < len(found) <= 4  # 38x48 has room for two rows of two or three
    assert crops.windows(differences, (38, 48), 6, 2) == [(6, 6, pytest.approx(100 / (38 * 48)))]


def test_best_crops_of_a_folder(tmp_path):
    """One of an image where there are enough images, else two; the strongest of all."""
    for i in range(3):
        Image.new("RGB", (230, 110), (90, 90, 90)).save(tmp_path / f"{i}.png")

    def images_of(n_crops):
        strength = iter([0.1, 0.3, 0.2])

        def patchy(image, size):
            step = next(strength)
            return planted(bicubic(image, size), [(8, 8, step), (36, 200, 0.9 * step)])

        result = compare.compare([Method("patchy", patchy)], [tmp_path], [2], n_crops=n_crops)
        return [crop.image for crop in result.crops.get((tmp_path.name, 2), ())]

    assert images_of(0) == []
    assert images_of(2) == ["1", "2"]
    assert images_of(3) == ["1", "2", "0"]
    assert images_of(5) == ["1", "1", "2", "2", "0"]


@pytest.mark.parametrize("protocol", metrics.PROTOCOLS)
def test_figures_of_a_crop(protocol):
    """Of its own pixels alone: those of an image that differs everywhere else are the same."""
    hr = torch.rand(1, 3, 80, 90)
    other = (hr + 0.1 * torch.rand_like(hr)).clamp(0, 1)
    (crop,) = crops.find("a", {"one": hr, "two": other}, hr, 3, protocol, 1, side=30)
    (top, left), (h, w) = crop.place, crop.size
    part = (..., slice(top, top + h), slice(left, left + w))
    if protocol == "div2k":
        mse = (hr[part].double() - other[part].double()).square().mean()
    else:
        weights = torch.tensor({"benchmark": [65.738, 129.057, 25.064], "y": [65.481, 128.553, 24.966]}[protocol])
        whole = {"benchmark": 256, "y": 255}[protocol]
        y = [((x[part] * 255 + 0.5).floor() / 255 if protocol == "y" else x[part]).double() for x in (hr, other)]
        y = [(x * (weights.double() / whole).view(3, 1, 1)).sum(1) for x in y]
        if protocol == "y":
            y = [((x * 255 + 16) + 0.5).floor() / 255 for x in y]
        mse = (y[0] - y[1]).square().mean()
    assert crop.figures["two"][0] == pytest.approx(-10 * mse.log10().item(), abs=1e-6)
    assert crop.figures["one"] == (float("inf"), 1.0)
    assert crop.to_json()["figures"][0] == {"method": "one", "psnr": None, "ssim": 1.0}
    elsewhere = torch.rand_like(hr)
    elsewhere[part] = other[part]
    if protocol != "benchmark":  # torchmetrics' SSIM, which sees no other pixels either
        assert crops._figures(elsewhere, hr, (top, left), (h, w), 3, protocol) == pytest.approx(crop.figures["two"])


def test_picture_of_crops():
    hr = torch.rand(1, 3, 60, 70)
    made = {"one": hr.roll(1, 2), "two": hr.roll(2, 3)}
    (crop,) = crops.find("a", made, hr, 2, "benchmark", 1, side=24)
    picture = np.asarray(crops.figure([("Set x2", crop)]))
    (top, left), (h, w) = crop.place, crop.size
    zoom = 192 // 24
    for image in (hr, *made.values()):
        want = (image[0, :, top : top + h, left : left + w] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        want = want.repeat(zoom, 0).repeat(zoom, 1)
        corners = np.argwhere((picture == want[0, 0]).all(-1))
        assert any(np.array_equal(picture[y : y + 192, x : x + 192], want) for y, x in corners)


def test_sheet():
    """Pictures where they belong, words under them and above them, nothing over a picture."""
    red, blue = torch.zeros(3, 20, 30), torch.zeros(3, 12, 10)
    red[0], blue[2] = 1, 1
    assert sheet.grid([[red, blue], [blue]]).size == (4 + 30 + 4 + 10 + 4, 4 + 20 + 4 + 12 + 4)
    picture = np.asarray(sheet.grid([[red, blue]], captions=[["under red", "under\nblue"]], titles=["above"]))
    places = {}
    for name, colour, (h, w) in (("red", [255, 0, 0], (20, 30)), ("blue", [0, 0, 255], (12, 10))):
        at = np.argwhere((picture == colour).all(-1))
        assert len(at) == h * w
        places[name] = (at.min(0), at.max(0))
        assert tuple(at.max(0) - at.min(0) + 1) == (h, w)
    ink = (picture != 255).any(-1)
    ink[places["red"][0][0] : places["red"][1][0] + 1] = False
    assert ink[: places["red"][0][0]].any()  # the title
    below = ink[places["red"][1][0] + 1 :]
    assert below[:, : places["blue"][0][1]].any()
    assert below[:, places["blue"][0][1] :].any()
    gap = below[:, places["blue"][0][1] - 4 : places["blue"][0][1]]
    assert not gap.any()  # the caption of the first, wider than its picture, ends before the second's


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


# --- the folder of results ---


def test_all_files_or_none(tmp_path, monkeypatch):
    names = ("a", "b", "c")
    folder = tmp_path / "new" / "out"
    real = weight_files.write

    def full_at_b(path, data):
        if path.name == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data)

    def contents():
        return {p.name: p.read_bytes() for p in folder.iterdir()}

    monkeypatch.setattr(weight_files, "write", full_at_b)
    with pytest.raises(OSError, match=r"out: cannot be written \(No space left"):
        result_folder.write(folder, {"a": b"1", "b": b"2"}, names)
    assert list(folder.parent.iterdir()) == []
    monkeypatch.undo()
    result_folder.write(folder, {"a": b"1", "b": b"2"}, names)
    (folder / "mine").write_bytes(b"mine")
    monkeypatch.setattr(weight_files, "write", full_at_b)
    with pytest.raises(OSError, match="No space left"):
        result_folder.write(folder, {"a": b"3", "b": b"4", "c": b"5"}, names, overwrite=True)
    assert contents() == {"a": b"1", "b": b"2", "mine": b"mine"}
    monkeypatch.undo()
    with pytest.raises(FileExistsError, match="out/a: exists; give --overwrite"):
        result_folder.write(folder, {"c": b"5"}, names)
    result_folder.write(folder, {"b": b"4", "c": b"5"}, names, overwrite=True)
    assert contents() == {"b": b"4", "c": b"5", "mine": b"mine"}  # a was of the earlier result
    assert [p.name for p in folder.parent.iterdir()] == ["out"]
    with pytest.raises(NotADirectoryError, match="mine: is no folder"):
        result_folder.check(folder / "mine", names, True)
    (folder / "a").mkdir()
    with pytest.raises(FileExistsError, match="a: is a folder"):
        result_folder.check(folder, names, True)


# --- the command ---


def run(capsys, *arguments):
    try:
        code = cli.main(["compare", *map(str, arguments)])
    except SystemExit as stop:  # argparse
        code = stop.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_command(plain, paired, models, tmp_path, capsys):
    """Every kind of model that can be loaded, in one table."""
    out = tmp_path / "deep" / "out"
    arguments = ["--data", plain, "--data", paired, "-s", "2", "-s", "3", "-o", out]
    for name, path in models.items():
        arguments += ["-m", path if name == "srcnn" else f"my {name}={path}"]
    code, stdout, stderr = run(capsys, *arguments, "--scales-plot", "1.5,2")
    assert (code, stderr) == (0, "")
    assert sorted(p.name for p in out.iterdir()) == sorted(compare.FILES)
    assert stdout.startswith((out / "compare.md").read_text())
    assert stdout.endswith(f"\n{out}: compare.md, compare.json, crops.png, scales.png\n")
    data = json.loads((out / "compare.json").read_text())
    names = ["bicubic", "my liif", "srcnn", "my srresnet", "my metasr"]
    assert [m["name"] for m in data["methods"]] == names
    assert data["methods"][1]["kind"] == "liif"
    assert (data["methods"][3]["scale"], data["methods"][2]["scale"]) == (2, None)
    figures = {(r["data"], r["scale"], r["method"]): r["psnr"] for r in data["results"]}
    model = liif_fast.load(models["metasr"])
    want = evaluate(lambda image, size: model.upscale(image, size=size), paired, 3).psnr
    assert figures["paired", 3, "my metasr"] == want
    assert {key for key, psnr in figures.items() if psnr is None} == {
        (name, scale, "my srresnet") for name in ("plain", "paired") for scale in (3, 1.5)
    }
    assert len({psnr for key, psnr in figures.items() if key[:2] == ("plain", 2)}) == 5
    for name in (compare.CROPS, compare.SCALES):
        with Image.open(out / name) as image:
            image.load()
    assert len(data["crops"]) == 2 * (4 + 2)  # no image has room for two

    (out / "notes.txt").write_text("mine")
    code, stdout, stderr = run(capsys, *arguments)
    assert (code, stdout) == (2, "")
    assert stderr == f"liif-fast: error: {out}/compare.md: exists; give --overwrite or another folder\n"
    code, stdout, _ = run(capsys, *arguments, "--overwrite", "--json", "--crops", "1")
    assert code == 0
    assert json.loads(stdout) == json.loads((out / "compare.json").read_text())
    assert len(json.loads(stdout)["crops"]) == 4  # 2 folders, 2 scales
    assert sorted(p.name for p in out.iterdir()) == ["compare.json", "compare.md", "crops.png", "notes.txt"]


def test_half_precision_and_int8(plain, models, capsys):
    arguments = ["--data", plain, "-s", "2", "--json", "-m", models["liif"], "-m", models["srcnn"]]
    found = {}
    for dtype in ("float32", "bfloat16", "int8"):
        code, stdout, stderr = run(capsys, *arguments, "--dtype", dtype, "--device", "cpu")
        assert (code, stderr) == (0, "")
        found[dtype] = json.loads(stdout)
    assert [m.get("dtype") for m in found["int8"]["methods"]] == [None, "int8", "float32"]
    assert [m.get("dtype") for m in found["bfloat16"]["methods"]] == [None, "bfloat16", "bfloat16"]
    liif = [found[dtype]["results"][1]["psnr"] for dtype in found]
    assert len(set(liif)) == 3
    assert found["int8"]["results"][2] == found["float32"]["results"][2]


def test_a_plot_of_its_default_scales(data_dir):
    """They fit images as large as Set5's."""
    from liif_fast.cli import compare as cli_compare

    scales = [float(text) for text in cli_compare._PLOT.split(",")]
    assert (min(scales), max(scales)) == (1.5, 12)
    folder = data_dir / "benchmark" / "Set5"
    assert compare._find({"Set5": folder}, scales, "benchmark", "auto").keys() == {("Set5", s) for s in scales}
    assert [pairs.find(folder, s)[0].source for s in scales] == ["pil", "files", "files", "files", "pil", "pil", "pil"]


def test_usage_errors(plain, models, tmp_path, capsys, monkeypatch):
    (tmp_path / "text").write_text("in the way")
    model = ["-m", models["srcnn"]]
    for arguments, words in (
        ([*model, "-s", "2"], "--data"),
        (["--data", plain, *model], "--scale"),
        (["--data", plain, "-s", "2"], "--model"),
        (["--data", tmp_path / "gone", "-s", "2", *model], "--data .*gone: no such folder; give one with images"),
        (["--data", plain, "--data", plain, "-s", "2", *model], "plain is given twice"),
        (["--data", plain, "-s", "0.5", *model], r"--scale 0\.5: a number of at least 1"),
        (["--data", plain, "-s", "nan", *model], "--scale nan"),
        (["--data", plain, "-s", "2", "--scales-plot", "2,x", *model], "--scales-plot 2,x: numbers .* got 'x'"),
        (["--data", plain, "-s", "2", "--scales-plot", "2,,3", *model], "got ''"),
        (["--data", plain, "-s", "2", "--scales-plot", "0.1", *model], r"got '0\.1'"),
        (["--data", plain, "-s", "2", "--crops", "-1", *model], "--crops -1: 0 or more"),
        (["--data", plain, "-s", "2", *model, "-o", tmp_path / "text"], "text: is no folder"),
        (["--data", plain, "-s", "2", *model, *model], "the name srcnn is taken .it has been.* call it --model NAME="),
        (["--data", plain, "-s", "2", "-m", f"bicubic={models['srcnn']}"], "bicubic is there always"),
        (["--data", plain, "-s", "2", "-m", f"={models['srcnn']}"], "NAME=MODEL is wanted"),
        (["--data", plain, "-s", "2", "-m", "nobody"], "nobody: there is no such file, nor a model"),
        (["--data", plain, "-s", "2", *model, "--device", "none"], "--device none"),
        (["--data", plain, "-s", "2", *model, "--dtype", "float8"], "--dtype"),
    ):
        code, stdout, stderr = run(capsys, *arguments)
        assert (code, stdout) == (2, ""), arguments
        assert re.search(words, stderr), stderr
    discriminator = liif_fast.make({"name": "srgan-discriminator", "args": {"n_feats": 2, "hidden": 2}})
    spec = {"name": "srgan-discriminator", "args": {"n_feats": 2, "hidden": 2}}
    torch.save({"model": {**spec, "sd": discriminator.state_dict()}}, tmp_path / "d.pth")
    code, _, stderr = run(capsys, "--data", plain, "-s", "2", "-m", tmp_path / "d.pth")
    assert code == 2
    assert "a Discriminator makes no images" in stderr
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, stderr = run(capsys, "--data", plain, "-s", "2", *model)
    assert code == 2
    assert "leave torchrun out" in stderr


def test_labels(tmp_path, monkeypatch):
    from liif_fast.cli import compare as cli_compare

    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd=name.pth").touch()
    given = ["edsr-baseline-liif", "odd=name.pth", "a=odd=name.pth", "deep/epoch-best.pth"]
    assert cli_compare._labels(given) == {
        "edsr-baseline-liif": "edsr-baseline-liif",
        "odd=name": "odd=name.pth",
        "a": "odd=name.pth",
        "epoch-best": "deep/epoch-best.pth",
    }


def test_nothing_is_left_of_a_failure(plain, models, tmp_path, capsys):
    """A damaged image late in the work."""
    data = tmp_path / "data"
    data.mkdir()
    for file in plain.iterdir():
        (data / file.name).write_bytes(file.read_bytes())
    (data / "99.png").write_bytes((data / "00.png").read_bytes()[:2000])
    code, stdout, stderr = run(capsys, "--data", data, "-s", "2", "-m", models["srcnn"], "-o", tmp_path / "out")
    assert (code, stdout) == (1, "")
    assert "99.png: cannot read this image" in stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]
