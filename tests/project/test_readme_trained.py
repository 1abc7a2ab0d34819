"""The tables of the models trained here (docs/evaluation.md) say what the files in benchmarks/results/small say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import readme_trained


@pytest.fixture
def folder(tmp_path):
    """A comparison of two data sets in which one method makes x4 alone, and the records of the runs."""
    methods, results = ("bicubic", "SRCNN", "SRGAN", "official"), []
    for d, data in enumerate(("Set5", "Set14")):
        for s, scale in enumerate((2, 4, 12)):
            for m, method in enumerate(methods):
                psnr = None if method.startswith("SR") and scale != 4 else 30 + d + s / 10 + m / 1000
                figures = {"psnr": psnr, "ssim": psnr and 0.9, "niqe": psnr and 4.5}
                results.append({"data": data, "scale": scale, "method": method, **figures})
    found = {"methods": [{"name": m} for m in methods], "data": {"Set5": "a", "Set14": "b"}, "results": results}
    (tmp_path / "compare.json").write_text(json.dumps(found), encoding="utf-8")
    for name in readme_trained.RUNS.values():
        lines = [
            {"kind": "step", "step": step, "epoch": 1, "lr": 1, "loss": 1, "seconds": seconds}
            for step, seconds in ((100, 5400.0), (200, 20.0), (250, 9.0), (7250, 3600.0))
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text("train_dataset: {batch_size: 8}\n", encoding="utf-8")
    return tmp_path


def test_figures_beside_the_reports(folder):
    lines = readme_trained.trained(folder).splitlines()
    assert lines[0] == "| PSNR (dB) / SSIM / NIQE | report, Set5 x4 | Set5 x4 | Set14 x4 |"
    assert lines[2] == "| bicubic |  | 30.100 / 0.9000 / 4.50 | 31.100 / 0.9000 / 4.50 |"
    assert lines[3].startswith("| SRCNN | 27.754 / 0.7979 | 30.101 /")
    assert lines[5].startswith("| official | 32.154 / 0.8955 | 30.103 /")


def test_a_comparison_that_lacks_something_is_refused(folder):
    file = folder / "compare.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"niqe": 4.5', '"niqe": null'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Set5, bicubic: no niqe; compare with torchmetrics and --niqe"):
        readme_trained.trained(folder)
    file.write_text(text.replace('"official"', '"other"'), encoding="utf-8")
    with pytest.raises(KeyError, match="no method is called official"):
        readme_trained.trained(folder)


def test_other_scales_are_of_what_makes_them(folder):
    assert readme_trained.scales(folder).splitlines() == [
        "| PSNR (dB) | x2 | x12 |",
        "|---|---|---|",
        "| bicubic, Set5 | 30.000 | 30.200 |",
        "| official, Set5 | 30.003 | 30.203 |",
        "| bicubic, Set14 | 31.000 | 31.200 |",
        "| official, Set14 | 31.003 | 31.203 |",
    ]


def test_speed_is_the_median_of_the_records(folder):
    line = readme_trained.runs(folder).splitlines()[2]
    # 100 steps in 20 s, 50 in 9 s, 7,000 in an hour; the first record has the start in it
    assert line == "| SRCNN | `configs/small-srcnn-x4.yaml` | 7,250 of 8 | 5.0 | 0.4 |"
