"""The command ``compare``: what it writes and says, its labels, every kind of bad input."""

from __future__ import annotations

import json
import re

import pytest
import torch
import training_files as files
from command import outcome
from PIL import Image

import liif_fast
from liif_fast.cli.arguments import PLOT
from liif_fast.quality import compare, compare_files, pairs
from liif_fast.quality.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of untrained models by name."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    specs = {"liif": files.TINY_LIIF, "srcnn": files.SRCNN, "srresnet": files.SRRESNET, "metasr": files.METASR}
    for name, spec in specs.items():
        liif_fast.make(spec).eval().save(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in specs}


def run(capsys, *arguments):
    return outcome(capsys, "compare", *arguments)


def test_command(plain, paired, models, tmp_path, capsys):
    """Every kind of model that can be loaded, in one table."""
    out = tmp_path / "deep" / "out"
    arguments = ["--data", plain, "--data", paired, "-s", "2", "-s", "3", "-o", out]
    for name, path in models.items():
        arguments += ["-m", path if name == "srcnn" else f"my {name}={path}"]
    code, stdout, stderr = run(capsys, *arguments, "--scales-plot", "1.5,2")
    assert (code, stderr) == (0, "")
    assert sorted(p.name for p in out.iterdir()) == sorted(compare_files.FILES)
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
    for name in (compare_files.CROPS, compare_files.SCALES):
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
    scales = [float(text) for text in PLOT.split(",")]
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
