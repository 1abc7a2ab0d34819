"""Configuration files that anybody may have written: one line with file and key, exit code 2, in little memory."""

from __future__ import annotations

import os
import tracemalloc

import pytest
import training_files as files

from liif_fast import data
from liif_fast.base import shown
from liif_fast.cli import main as cli
from liif_fast.training import yaml_file
from liif_fast.training.config import ConfigError, check, load_config
from liif_fast.training.values import number_if_one

NEST = "epoch_max:\n- &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"- &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
NEST += "train_dataset: 1\nmodel: 1\noptimizer: 1\n"
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{{b}1: 1, <<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
FAULTS = {
    "nine levels of nine aliases": (NEST, "more than 100000 values"),
    "the same through merges": (MERGED, "more than 100000 values"),
    "a list in itself": ("model: &a [1, *a]", "contains itself"),
    "no boolean": ("train_dataset:\n  batch_size: !!bool maybe", "train_dataset.batch_size: maybe (line 2)"),
    "no date": ("model:\n  args: [1, 2001-99-99]", "model.args.1: 2001-99-99 (line 2)"),
    "deep brackets": ("model: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "deeper than any configuration": ("model: " + "[" * 60 + "]" * 60, "more than 50 levels"),
    "6,000 digits": ("seed: " + "7" * 6000, "seed: 777"),
    "hexadecimal digits": ("0x" + "7" * 6000, "got a number of"),
    "code": ("model: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
    "a list as a key": ("? [1, 2]\n: 3", "unhashable"),
    "a date as a key": ("2001-01-01: 3", "unknown key"),
    "an infinite number": ("epoch_max: .inf", "epoch_max"),
    "a long unknown key": ("k" * 1000 + ": 3", "kkk...: unknown key"),
    "an undefined alias": ("model: *" + "a" * 2000, "undefined alias"),
    "bytes that are no text": (b"model: \xff\xfe", "cannot be read"),
    "control characters": ("model: \x07", "is no YAML"),
    "a large file": ("# " + "x" * yaml_file.MOST_BYTES, "has more than"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("command", ["train", "eval"])
def test_faults_of_files(name, command, tmp_path, capsys):
    """For training and test configurations alike."""
    text, words = FAULTS[name]
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    arguments = {
        "train": ["train", str(path), "--save", str(tmp_path / "run")],
        "eval": ["eval", "--config", str(path)],
    }
    assert cli.main(arguments[command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"liif-fast: error: {path}: ")
    assert words in err
    assert err.count("\n") == 1
    assert len(err) < 700 + len(str(path))


@pytest.mark.parametrize("text", [NEST, MERGED], ids=["aliases", "merges"])
def test_a_nest_of_aliases_takes_no_memory(text):
    """Written out it has 3.9e8 values, in a kilobyte of text."""
    tracemalloc.start()
    with pytest.raises(ConfigError):
        yaml_file.parse(text)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * 2**20


@pytest.mark.parametrize("kind", ["/dev/zero", "fifo", "folder"])
def test_only_regular_files(kind, tmp_path, capsys):
    """None of them is opened in a way that waits or reads for ever."""
    path = tmp_path / "f"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = kind
    for command in (["train", str(path)], ["eval", "--config", str(path)]):
        assert cli.main(command) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert f"{path}: cannot be read" in err
    images = files.make_images(tmp_path / "images", sizes=((20, 20),))
    spec = {"name": "image-folder", "args": {"root_path": str(images), "split_file": str(path), "split_key": "a"}}
    with pytest.raises(data.DataError, match="cannot be read"):
        data.make(spec)


def test_split_files_are_bounded_too(tmp_path):
    images = files.make_images(tmp_path / "images", sizes=((20, 20),))
    split = tmp_path / "split.json"
    spec = {"name": "image-folder", "args": {"root_path": str(images), "split_file": str(split), "split_key": "a"}}
    split.write_text("[" * 100_000)
    with pytest.raises(data.DataError, match=r"split\.json: this split_file is no JSON"):
        data.make(spec)


def test_aliases_within_reason_are_taken(tmp_path):
    """Anchors and merge keys save repetition in honest files."""
    images = files.make_images(tmp_path / "images", sizes=((60, 60),))
    plain = files.write(tmp_path / "plain.yaml", files.configuration(images))
    text = plain.read_text().replace("data_norm:\n  inp:\n", "data_norm:\n  inp: &norm\n")
    start = text.index("  gt:\n    sub:")
    shared = tmp_path / "shared.yaml"
    shared.write_text(text[:start] + "  gt:\n    <<: *norm\n" + text[text.index("model:") :])
    assert load_config(shared) == load_config(plain)


VALUES = {
    "train_dataset__batch_size": 2**70,
    "grad_clip": 10**400,
    "ema": "nan",
    "seed": 1 << 20000,
    "optimizer__args__lr": 10**400,
    "data_norm__inp__sub": [10**400],
    "monitor": ["psnr"],
    "num_workers": 10**9,
    "eval_type": "div2k-" + "1" * 6000,
    "multi_step_lr": {"milestones": [[]], "gamma": 1},
    "model__name": {"a": 1},
}


@pytest.mark.parametrize("key", VALUES)
def test_values_beyond_reason(key, tmp_path):
    """Names the key, and shows no more of the value than a line has room for."""
    config = files.configuration(tmp_path, **{key: VALUES[key]})
    with pytest.raises(ConfigError, match=key.split("__")[0]) as caught:
        check(config)
    assert len(str(caught.value)) < 500


def test_shown():
    assert shown.shown("fast") == "'fast'"
    assert shown.shown({"a": [1, 2.5, None]}) == "{'a': [1, 2.5, None]}"
    assert shown.named("a key") == "a key"
    assert shown.shown(number_if_one("1e3")) == "1000.0"
    value = ["x"]
    for _ in range(100):
        value = [value] * 9  # 9^100 written out
    for hostile in (
        value,
        {"k": value},
        (value,) * 9,
        1 << 100_000,
        "y" * 10**7,
        b"z" * 10**7,
        {i: i for i in range(10**6)},
    ):
        assert len(shown.shown(hostile)) <= 120
        assert len(shown.named(hostile)) <= 120
    assert "\n" not in shown.shown(type("Odd", (), {"__repr__": lambda self: "a\nb"})())
