"""Where matplotlib is not there, or does not load: that is said once, and all but the charts is as ever."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import training_files as files

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.quality import charts, compare
from liif_fast.training.journal import Journal

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import plots

INSTALL = 'pip install "liif-fast[plots]"'
ABSENT = f"matplotlib is not installed; {INSTALL}"


@pytest.fixture(params=["absent", "broken"])
def why(request, monkeypatch) -> str:
    """Words of the reason; matplotlib is not there during the test, or a part of it is missing."""
    monkeypatch.setitem(sys.modules, "matplotlib" if request.param == "absent" else "matplotlib.figure", None)
    return ABSENT if request.param == "absent" else "matplotlib fails (ModuleNotFoundError: import of matplotlib.figure"


def test_the_error(why):
    with pytest.raises(charts.ChartError) as caught:
        charts.draw([charts.Chart("t", {"a": [(1, 2)]})])
    assert str(caught.value).startswith(why)
    assert str(caught.value).endswith(INSTALL)
    assert charts.missing() == (why if why == ABSENT else None)


@pytest.mark.usefixtures("no_matrix_units")
def test_compare_goes_on(images, tmp_path, capsys, why):
    liif_fast.make(files.TINY_LIIF).eval().save(tmp_path / "m.safetensors")
    out = tmp_path / "out"
    arguments = ["compare", "--data", str(images), "-s", "2", "-m", str(tmp_path / "m.safetensors"), "-o", str(out)]
    assert cli.main([*arguments, "--scales-plot", "1.5,2"]) == 0
    stdout, stderr = capsys.readouterr()
    (line,) = stderr.splitlines()
    assert line.startswith(f"liif-fast: note: scales.png is left out: {why}")
    assert INSTALL in line
    assert sorted(p.name for p in out.iterdir()) == ["compare.json", "compare.md", "crops.png"]
    assert stdout.endswith(f"\n{out}: compare.md, compare.json, crops.png\n")
    assert "PSNR (dB), images" in (out / "compare.md").read_text()  # what the plot would show
    assert json.loads((out / "compare.json").read_text())["scales_plot"] == [1.5, 2]
    # an earlier result's picture is not left beside figures that it does not show
    (out / "scales.png").write_bytes(b"earlier")
    assert cli.main([*arguments, "--scales-plot", "1.5,2", "--overwrite"]) == 0
    stderr = capsys.readouterr()[1].splitlines()
    assert not (out / "scales.png").exists()
    assert stderr[-1] == f"liif-fast: note: {out}: deleted of the earlier result: scales.png"
    assert len(stderr) == 2
    # nothing is missed where no plot was asked for
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert capsys.readouterr()[1] == ""


def test_a_comparison_in_python_warns(images, why):
    result = compare.compare([], [images], [2], [2])
    with pytest.warns(UserWarning, match="scales.png is left out: matplotlib") as caught:
        found = result.files()
    assert list(found) == ["compare.md", "compare.json"]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.raises(charts.ChartError):
        result.chart()


def test_training_goes_on(images, tmp_path, capsys, why):
    path = files.write(tmp_path / "c.yaml", files.configuration(images, epoch_max=2))
    folder = tmp_path / "run"
    assert cli.main(["train", str(path), "--save", str(folder)]) == 0
    stdout, stderr = capsys.readouterr()
    (line,) = [line for line in stdout.splitlines() if "curves.png" in line]
    assert line.startswith(f"note: curves.png is left out: {why}")
    assert line.endswith(INSTALL)
    assert stderr == ""
    assert stdout == (folder / "log.txt").read_text()
    assert ("epoch 1/2" in stdout.split(line)[0]) == (why != ABSENT)  # at the start, if that can be known
    kept = {"config.yaml", "log.txt", "metrics.jsonl", "pictures.png"}
    kept |= {"epoch-2.pth", "epoch-best.pth", "epoch-last.pth"}
    assert {p.name for p in folder.iterdir() if p.is_file()} == kept


def test_curves_of_before_are_named(tmp_path, why):
    (tmp_path / "curves.png").write_bytes(b"earlier")
    journal = Journal(tmp_path)
    journal.record(kind="step", step=1, epoch=1, loss=0.5, lr=0.1)
    for _ in range(3):
        journal.draw()
    journal.close()
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert line.endswith("; the curves.png that is there is of before")
    assert (tmp_path / "curves.png").read_bytes() == b"earlier"


def test_an_error_of_drawing_ends_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "fill", lambda *_: torch.zeros(1).no_such_thing)
    journal = Journal(tmp_path)
    journal.draw()
    journal.close()
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert line.startswith("note: curves.png is left out: matplotlib fails (AttributeError: 'Tensor' object has no")
    assert INSTALL not in line


def test_benchmarks_draw_none(tmp_path, why):
    row = {"case": "head", "contender": "liif_fast", "dtype": "float32", "queries": 10, "median": 0.5, "peak": 1 << 20}
    with pytest.raises(charts.ChartError, match="matplotlib"):
        plots.plot([row], tmp_path / "plots")
    assert not (tmp_path / "plots").exists()
