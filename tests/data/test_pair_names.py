"""Low- and high-resolution images are paired by their names, never silently in the wrong order."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import training_files as files
from PIL import Image

from liif_fast import data
from liif_fast.cli import main as cli
from liif_fast.data import pair_names
from liif_fast.quality import pairs
from liif_fast.quality.evaluate import evaluate


def save(file: Path, height: int, width: int, value: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value, value, value)).save(file)


def folders(tmp_path, high, low, scale: int = 2) -> dict[str, str]:
    """HR and LR with these stems; the images that belong together have the same grey."""
    for i, (upper, lower) in enumerate(zip(high, low, strict=True)):
        save(tmp_path / "HR" / f"{upper}.png", 24 * scale, 24 * scale, 10 * i)
        save(tmp_path / "LR" / f"{lower}.png", 24, 24, 10 * i)
    return {"root_path_1": str(tmp_path / "LR"), "root_path_2": str(tmp_path / "HR")}


def paired(args, **more):
    return data.make({"name": "paired-image-folders", "args": {**args, **more}})


def matched(dataset) -> bool:
    return all(torch.equal(*(t.flatten()[:1] for t in dataset[i])) for i in range(len(dataset)))


RULES = {
    "a suffix": ("img_{}", "img_{}x2"),
    "the same": ("img_{}", "img_{}"),
    "another ending": ("img_{}_SRF_2_HR", "img_{}_SRF_2_LR"),
    "a suffix behind a digit": ("{}", "{}2"),
    "a shorter ending": ("{}_high", "{}l"),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first_k", [None, 1, 5])
def test_twelve_images(rule, first_k, tmp_path):
    """1 to 12: img_1 is before img_10, img_1x2 behind img_10x2."""
    high, low = ([name.format(i) for i in range(1, 13)] for name in RULES[rule])
    dataset = paired(folders(tmp_path, high, low), first_k=first_k)
    assert len(dataset) == (first_k or 12)
    assert matched(dataset)
    assert dataset.notes == []
    assert [f.name for f in dataset.dataset_1.files] == sorted(f"{n}.png" for n in low)[:first_k]


def test_the_official_order_holds_without_a_rule(tmp_path):
    args = folders(tmp_path, [f"photo_{i:02}" for i in range(12)], [f"small-{i:02}" for i in range(12)])
    dataset = paired(args)
    assert matched(dataset)
    assert [f.name for f in dataset.dataset_2.files] == [f"photo_{i:02}.png" for i in range(12)]
    (note,) = dataset.notes
    assert "small-00.png with photo_00.png, ..., small-11.png with photo_11.png" in note


def test_an_ambiguous_order_is_refused(tmp_path):
    """1, 10, 11, ... against 01, 02, ...: the order of names and that of numbers pair them differently."""
    args = folders(tmp_path, [f"{i}" for i in range(1, 13)], [f"low{i:02}" for i in range(1, 13)])
    with pytest.raises(data.DataError, match=r"low02\.png: its partner is 10\.png in the order of names, 2\.png"):
        paired(args)


def test_the_rule_is_unique():
    """Names at random, many of them the beginnings of others: what is found is how they were made."""
    rng = random.Random(0)
    found = 0
    for _ in range(3000):
        bases = list({"".join(rng.choices("ab1", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 6))})
        old, new = ("".join(rng.choices("ab1", k=rng.randint(0, 3))) for _ in range(2))
        high, low = [b + old for b in bases], [b + new for b in bases]
        shuffled = rng.sample(low, len(low))
        rule = pair_names.endings(shuffled, high)
        assert [pair_names.renamed(h, rule) for h in high] == low
        found += sorted(low) != [pair_names.renamed(h, rule) for h in sorted(high)]
        wrong = [*low[:-1], low[-1] + "?"]
        assert len(low) == 1 or pair_names.endings(wrong, high) is None
    assert found > 100  # cases in which the order would have been wrong


def test_the_same_names_in_several_folders(tmp_path):
    one, two = (folders(tmp_path / n, ["a1", "a2"], ["a1x2", "a2x2"]) for n in "12")
    dataset = paired({key: [one[key], two[key]] for key in one})
    assert len(dataset) == 4
    assert matched(dataset)
    assert dataset.notes == []


def test_different_numbers(tmp_path):
    args = folders(tmp_path, ["a1", "a2", "a3"], ["a1x2", "a2x2", "a3x2"])
    (tmp_path / "LR" / "a3x2.png").unlink()
    assert matched(paired(args, first_k=2))
    with pytest.raises(data.DataError, match=r"LR has 2 images, .*HR has 3: pairs are wanted"):
        paired(args)


@pytest.mark.parametrize("size", [(48, 20), (70, 72), (24, 23)])
def test_sizes_that_do_not_fit_name_both(size, tmp_path, capsys):
    """One side twice, the other not; a remainder as large as the scale; smaller than the low-resolution image."""
    args = folders(tmp_path, ["a", "b"], ["ax2", "bx2"])
    save(tmp_path / "HR" / "b.png", *size)
    dataset = {"name": "paired-image-folders", "args": args}
    spec = {"dataset": dataset, "wrapper": {"name": "sr-implicit-paired", "args": {"inp_size": 12}}, "batch_size": 1}
    config = files.configuration(tmp_path, train_dataset=spec, val_dataset=None, epoch_val=None)
    path = files.write(tmp_path / "c.yaml", config)
    assert cli.main(["train", str(path), "--save", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "HR/b.png with " in err
    assert "LR/bx2.png: " in err
    assert "no pair of a whole scale" in err


@pytest.mark.parametrize("value", [[], [3], {"a": 1}, 3, "", [["x"]]])
def test_root_paths_of_other_kinds(value, tmp_path):
    save(tmp_path / "a.png", 20, 20)
    for name, args in (
        ("image-folder", {"root_path": value}),
        ("paired-image-folders", {"root_path_1": str(tmp_path), "root_path_2": value}),
    ):
        with pytest.raises(data.DataError, match="root_path"):
            data.make({"name": name, "args": args})


# --- eval and compare ---


class Copy:
    """Notes what it is given; answers with the right size."""

    def __init__(self):
        self.seen = []

    def __call__(self, image, size):
        self.seen.append((tuple(image.shape[-2:]), round(image.mean().item() * 255)))
        return torch.zeros(1, 3, *size)


def selfexsr(folder: Path, scale: int) -> Path:
    """SelfExSR's names, with results of other programs beside; the low-resolution images have greys of their own."""
    for i in range(1, 4):
        name = f"img_{i:03}_SRF_{scale}"
        save(folder / f"{name}_HR.png", 24 * scale, 16 * scale, 10 * i)
        save(folder / f"{name}_LR.png", 24, 16, 10 * i + 1)
        save(folder / f"{name}_SRCNN.png", 24 * scale, 16 * scale, 0)
    return folder


def test_selfexsr(tmp_path):
    for scale in (2, 4):
        selfexsr(tmp_path / f"image_SRF_{scale}", scale)
    for where, scale in ((tmp_path, 2), (tmp_path, 4), (tmp_path / "image_SRF_4", 4)):
        for lr in ("auto", "files"):
            copy = Copy()
            report = evaluate(copy, where, scale, lr=lr)
            assert copy.seen == [((24, 16), 10 * i + 1) for i in range(1, 4)]
            assert [row.name for row in report.rows] == [f"img_{i:03}_SRF_{scale}_HR" for i in range(1, 4)]
            assert f"files beside HR, such as img_001_SRF_{scale}_LR.png" in report.table()
    copy = Copy()
    assert evaluate(copy, tmp_path / "image_SRF_4", 2).lr == "pil"  # of the high-resolution ones alone
    assert copy.seen == [((48, 32), 10 * i) for i in range(1, 4)]
    assert evaluate(copy, tmp_path, 3).rows[0].size == (48, 30)  # of the folder that was cropped least
    assert evaluate(copy, tmp_path, 2, lr="matlab").lr == "matlab"


@pytest.mark.parametrize("names", [("a_HR", "a_LR"), ("a_HR", "a_LR2"), ("a", "ax2"), ("A-hr", "A-lr")])
def test_both_kinds_in_one_folder(names, tmp_path):
    for i, letter in enumerate("abc"):
        for name, side in zip(names, (60, 30), strict=True):
            save(tmp_path / f"{letter}{name}.png", side, side, 50 * i + side // 30)
    copy = Copy()
    assert evaluate(copy, tmp_path, 2).lr == "files"
    assert copy.seen == [((30, 30), 50 * i + 1) for i in range(3)]
    assert evaluate(copy, tmp_path, 3).lr == "pil"
    assert copy.seen[3:] == [((20, 20), 50 * i + 2) for i in range(3)]
    save(tmp_path / f"b{names[1]}.png", 29, 30)
    if names[1] in ("a_LR2", "a_LR"):
        with pytest.raises(ValueError, match=r"b.*_LR2?\.png: 30x29.*b.*_HR\.png|b.*_HR\.png: no low-resolution file"):
            evaluate(copy, tmp_path, 2)


def test_low_resolution_images_alone(tmp_path):
    save(tmp_path / "LR_bicubic" / "X2" / "ax2.png", 30, 30)
    save(tmp_path / "flat" / "a_LR.png", 30, 30)
    for folder in (tmp_path / "LR_bicubic" / "X2", tmp_path / "flat"):
        with pytest.raises(ValueError, match="only low-resolution images are here"):
            pairs.find(folder, 2)
        assert len(pairs.find(folder, 2, "pil")) == 1  # asked for


def test_names_that_only_look_low(tmp_path):
    """photo and photox2 of the same size are two photos."""
    for name in ("photo", "photox2", "1920x1080"):
        save(tmp_path / f"{name}.png", 40, 40)
    assert len(pairs.find(tmp_path, 2)) == 3


def test_another_ending_in_lr_bicubic(tmp_path):
    for i in range(1, 13):
        save(tmp_path / "HR" / f"img_{i}.png", 40, 40, i)
        save(tmp_path / "LR_bicubic" / "X2" / f"img_{i}_small.png", 20, 20, i)
    for pair in pairs.find(tmp_path, 2):
        low, high = pair.read()
        assert np.array_equal(low[0, 0], high[0, 0])


def test_compare_by_names(tmp_path):
    selfexsr(tmp_path / "set" / "image_SRF_2", 2)
    from liif_fast.quality import compare

    result = compare.compare([compare.Method("copy", Copy())], [tmp_path / "set"], [2])
    assert "files beside HR, such as img_001_SRF_2_LR.png" in result.markdown()
    assert len(result.reports["set", 2, "copy"].rows) == 3


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ([f"{i:04}x2" for i in range(1, 12)], [f"{i:04}" for i in range(1, 13) if i != 5]),
        ([f"{i:04}" for i in range(1, 12)], [f"{i:04}" for i in range(1, 13) if i != 5]),
        (["cat", "dog"], ["ant", "cat"]),
        (["img_2x2", "img_3x2"], ["img_1", "img_2"]),
    ],
)
def test_a_missing_file_on_each_side_is_refused(low, high):
    """The order would shift all pairs between the two by one, and sizes may not tell."""
    with pytest.raises(data.DataError, match="each folder seems to miss a file"):
        pair_names.paired([Path(f"L/{name}.png") for name in low], [Path(f"H/{name}.png") for name in high])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (["lr_1", "lr_2"], ["hr_5", "hr_7"]),
        (["a", "b"], ["a", "c"]),
        (["frame_20", "frame_21"], ["frame_1", "frame_2"]),
    ],
)
def test_names_that_do_not_contradict_leave_it_to_the_order(low, high):
    lows, highs = ([Path(f"X/{name}.png") for name in names] for names in (low, high))
    found = pair_names.paired(lows, highs)
    assert found[:2] == (lows, highs)
    assert "their order does" in found[2]
