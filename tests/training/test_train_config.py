"""Configurations: the official ones and our own are taken, bad ones end with one line that names the key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import official_configs
import pytest
import training_files as files
import yaml
from PIL import Image

from liif_fast.cli import main as cli
from liif_fast.training.config import Config, EvalConfig, check, load_config

OWN = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


def train(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["train", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_the_official_names_are_all_there():
    """The repository has 17 training and 30 test files."""
    assert (len(official_configs.TRAIN), len(official_configs.TEST)) == (17, 30)


@pytest.mark.parametrize("name", official_configs.TRAIN)
def test_official_training_files(name, tmp_path, capsys):
    """Accepted as they are, models built; the data they name is not there, which is said, hence the exit code of 1."""
    path = files.write(tmp_path / "config.yaml", official_configs.TRAIN[name])
    code, out, err = train(capsys, path, "--dry-run", "--save", tmp_path / "run")
    assert (code, err) == (1, "")
    assert "missing: train_dataset: load/" in out
    assert "missing: val_dataset: load/" in out
    assert "parameters" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", official_configs.TEST)
def test_official_test_files(name, tmp_path):
    config = load_config(files.write(tmp_path / "config.yaml", official_configs.TEST[name]), EvalConfig)
    assert config.test_dataset.batch_size == 1


@pytest.mark.parametrize("path", OWN, ids=lambda p: p.stem)
def test_own_configurations(path, capsys):
    code, out, err = train(capsys, path, "--dry-run")
    assert (code, err) == (1 if "missing:" in out else 0, "")
    assert "the configuration is in order" in out


def test_numbers_as_the_official_files_write_them():
    text = "lr: 1.e-4\nother: 1e-4"  # the second is a string in YAML 1.1
    raw = yaml.safe_load(text)
    assert raw == {"lr": 1e-4, "other": "1e-4"}
    config = check(
        {**official_configs.TRAIN["train-div2k/train_rdn-liif"], "optimizer": {"name": "sgd", "args": {"lr": "1e-4"}}}
    )
    assert config.optimizer["args"]["lr"] == 1e-4


def test_dry_run_of_data_that_is_there(tmp_path, capsys):
    folder = files.make_images(tmp_path / "images")
    path = files.write(tmp_path / "c.yaml", files.configuration(folder, amp=True, ema=0.99))
    code, out, _ = train(capsys, path, "--dry-run", "--save", tmp_path / "run", "--tag", "a")
    assert code == 0
    assert "train_dataset: 16 samples an epoch in batches of 4" in out
    assert "3 epochs of 4 steps, 12 in all" in out
    assert "times 0.5 after epochs 2" in out
    assert "amp: auto, ema: 0.99" in out
    assert f"{tmp_path}/run_a" in out
    assert not (tmp_path / "run_a").exists()


BAD = {
    "unknown key": ({"epoch_maxx": 3}, "epoch_maxx", "did you mean epoch_max?"),
    "unknown key of a part": ({"train_dataset__batchsize": 3}, "train_dataset.batchsize", "did you mean batch_size?"),
    "missing key": ({"model": None}, "model", "missing"),
    "no model": ({"model": {"name": "lif"}}, "model.name", "did you mean liif?"),
    "model's argument": ({"model": {"name": "liif", "args": {"encoder": 1}}}, "model", "encoder"),
    "no encoder": ({"model": {"name": "liif", "args": {"encoder_spec": {"name": "x"}}}}, "model", "no model"),
    "no dataset": ({"train_dataset__dataset__name": "folder"}, "train_dataset.dataset.name", "image-folder"),
    "dataset's argument": ({"train_dataset__dataset__args__repeats": 3}, "args.repeats", "did you mean repeat?"),
    "wrapper's argument": ({"train_dataset__wrapper__args__inp_sise": 3}, "wrapper.args.inp_sise", "inp_size"),
    "dataset lacks": ({"train_dataset__dataset__args__root_path": None}, "args.root_path", "needs this argument"),
    "missing folder": ({"train_dataset__dataset__args__root_path": "/no/such"}, "train_dataset", "no such folder"),
    "cache": ({"train_dataset__dataset__args__cache": "memory"}, "cache", "in_memory"),
    "crop": ({"train_dataset__wrapper__args__inp_size": 15}, "train_dataset", "smaller than a crop of 60x60"),
    "queries": ({"train_dataset__wrapper__args__sample_q": 145}, "train_dataset", "more than the 144 pixels"),
    "pairs": ({"train_dataset__wrapper": {"name": "sr-implicit-paired"}}, "train_dataset", "paired-image-folders"),
    "sizes": ({"train_dataset__wrapper__args__inp_size": None}, "train_dataset", "of one size"),
    "range": ({"train_dataset__wrapper__args__sample_q": None}, "train_dataset", "sample_q"),
    "optimizer": ({"optimizer__name": "adan"}, "optimizer.name", "adamw"),
    "optimizer's argument": ({"optimizer__args__rate": 1}, "optimizer.args.rate", "lr"),
    "learning rate": ({"optimizer__args__lr": "fast"}, "optimizer.args.lr", "'fast'"),
    "betas": ({"optimizer__args__betas": [2, 3]}, "optimizer", "beta"),
    "epochs": ({"epoch_max": 0}, "epoch_max", "above 0"),
    "batch": ({"train_dataset__batch_size": "16"}, "train_dataset.batch_size", "'16'"),
    "milestones": ({"multi_step_lr": {"milestones": 5}}, "multi_step_lr.milestones", "list"),
    "norm": ({"data_norm__inp__div": [0]}, "data_norm", "0"),
    "norm's parts": ({"data_norm__inp__sub": None}, "data_norm.inp.sub", "missing"),
    "no validation": ({"val_dataset": None}, "epoch_val", "val_dataset"),
    "eval_type": ({"eval_type": "set5"}, "eval_type", "benchmark-S"),
    "amp": ({"amp": "int8"}, "amp", "bf16"),
    "fp16": ({"amp": "fp16"}, "amp", "CUDA"),
    "ema": ({"ema": 1.0}, "ema", "between 0 and 1"),
    "clip": ({"grad_clip": -1}, "grad_clip", "above 0"),
    "seed": ({"seed": 1.5}, "seed", "whole number"),
    "flag": ({"compile": "yes"}, "compile", "true or false"),
    "loss": ({"loss": "l2"}, "loss", "mse"),
    "monitor": ({"monitor": "ssim"}, "monitor", "psnr"),
    "init": ({"init": "/no/such.pth"}, "init", "/no/such.pth"),
    "resume": ({"resume": "/dev/null"}, "/dev/null", "no regular file"),
    "gan": ({"gan": {"discriminator": {"name": "srgan-discriminator"}}}, "gan.optimizer", "missing"),
    "test file": ({"test_dataset": {}}, "test_dataset", "eval --config"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_configurations(name, tmp_path, capsys):
    changes, key, words = BAD[name]
    folder = files.make_images(tmp_path / "images")
    path = files.write(tmp_path / "c.yaml", files.configuration(folder, **changes))
    code, out, err = train(capsys, path, "--save", tmp_path / "run")
    assert (code, out) == (1 if name == "resume" else 2, "")
    assert err.count("\n") == 1
    assert key in err
    assert words in err
    assert not (tmp_path / "run").exists()  # before anything was begun


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "is no YAML"), ("", "a mapping"), ("- 1", "a mapping"), (None, "cannot be read")]
)
def test_no_configuration(text, words, tmp_path, capsys):
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    code, _, err = train(capsys, path)
    assert code == 2
    assert err.count("\n") == 1
    assert str(path) in err
    assert words in err


@pytest.mark.parametrize(
    ("mode", "words"), [("I;16", "mode is I;16"), ("CMYK", "mode is CMYK"), ("F", "mode is F"), ("text", "image")]
)
def test_mixed_modes(mode, words, tmp_path, capsys):
    """One file that is not 8-bit RGB or grey, among others, is named before the training begins."""
    folder = files.make_images(tmp_path / "images")
    bad = folder / ("bad.jpg" if mode == "CMYK" else "bad.tif")
    if mode == "text":
        bad.write_text("hello")
    else:
        Image.new(mode, (64, 64)).save(bad)
    path = files.write(tmp_path / "c.yaml", files.configuration(folder))
    code, _, err = train(capsys, path, "--save", tmp_path / "run")
    assert code == 2
    assert err.count("\n") == 1
    assert bad.name in err
    assert words in err


def test_grey_and_palette_and_alpha_are_taken(tmp_path, capsys):
    """As the official code takes them; that alpha is left out is said."""
    folder = files.make_images(tmp_path / "images")
    for mode in ("L", "P", "RGBA"):
        Image.open(folder / "00.png").convert(mode).save(folder / f"{mode}.png")
    path = files.write(tmp_path / "c.yaml", files.configuration(folder, epoch_max=1))
    code, out, _ = train(capsys, path, "--save", tmp_path / "run")
    assert code == 0
    assert "1 images have an alpha channel" in out


def test_a_broken_image_that_is_decoded_late(tmp_path, capsys):
    """Truncated data behind a good header, decoded in a worker process: one line all the same."""
    folder = files.make_images(tmp_path / "images")
    whole = (folder / "01.png").read_bytes()
    (folder / "01.png").write_bytes(whole[: len(whole) // 2])
    changes = {"train_dataset__dataset__args__cache": "none", "num_workers": 1}
    path = files.write(tmp_path / "c.yaml", files.configuration(folder, **changes))
    code, _, err = train(capsys, path, "--save", tmp_path / "run")
    assert code == 1
    assert err.count("\n") == 1
    assert "01.png: cannot be decoded" in err


def test_every_process_alone_says_it(tmp_path):
    """Under torchrun the first process says what they all know, the others nothing."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "liif_fast.train"]
    done = subprocess.run([*command, str(tmp_path / "no.yaml")], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.count("liif-fast") == 1
    assert f"liif-fast: error: {tmp_path}/no.yaml: cannot be read" in done.stderr


def test_a_process_says_what_the_first_did_not_meet(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(cli, "FIRST_SPEAKS", 0.0)
    assert cli.main(["train", str(tmp_path / "no.yaml")]) == 2
    assert f"liif-fast, process 1: error: {tmp_path}/no.yaml: cannot be read" in capsys.readouterr().err


def test_fields_are_documented():
    """The module's table is where users find the keys."""
    import dataclasses

    from liif_fast.training import config

    table = "\n".join(line for line in config.__doc__.splitlines() if line.startswith("|"))
    assert all(field.name in table for field in dataclasses.fields(Config))
    assert json.dumps(official_configs.TRAIN)  # plain values only, as in YAML
