"""The files of the LTE repository, taken as they are or refused with the reason, and ``resume`` as it means it."""

from __future__ import annotations

import lte_configs
import lte_stand_in
import pytest
import torch
import training_files as files

from liif_fast.cli import main as cli
from liif_fast.training import run
from liif_fast.training.config import ConfigError, EvalConfig, load_config


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    lte_stand_in.known(monkeypatch)


def train(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["train", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_all_of_them_are_there():
    """The repository has 16 training and 56 test files."""
    assert (len(lte_configs.TRAIN), len(lte_configs.TEST)) == (16, 56)


@pytest.mark.parametrize("name", [name for name in lte_configs.TRAIN if name != lte_configs.REFUSED])
def test_training_files(name, tmp_path, capsys, monkeypatch):
    """Their data are not there, hence the exit code of 1; that their checkpoint is not there yet is no fault."""
    monkeypatch.chdir(tmp_path)
    config = lte_configs.TRAIN[name]
    path = files.write(tmp_path / "config.yaml", config)
    code, out, err = train(capsys, path, "--dry-run")
    assert (code, err) == (1, "")
    assert "missing: train_dataset: load/" in out
    assert "missing: val_dataset: load/" in out
    assert f"model: {config['model']['name']}, " in out
    assert f"note: resume: {config['resume']}: there is no such file yet, so the run begins afresh" in out


def test_an_encoder_as_the_model(tmp_path, capsys, monkeypatch):
    """LTE's file says ``name: swinir`` with LIIF's arguments, which ends its program with a TypeError."""
    monkeypatch.chdir(tmp_path)
    config = lte_configs.TRAIN[lte_configs.REFUSED]
    code, out, err = train(capsys, files.write(tmp_path / "c.yaml", config), "--dry-run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "model.name: swinir is an encoder and takes no encoder_spec" in err
    assert "write liif" in err
    cured = {**config, "model": {**config["model"], "name": "liif"}}
    monkeypatch.setitem(cured["model"]["args"]["encoder_spec"], "name", "edsr-baseline")
    assert train(capsys, files.write(tmp_path / "c.yaml", cured), "--dry-run")[0] == 1


@pytest.mark.parametrize("name", lte_configs.TEST)
def test_test_files(name, tmp_path):
    config = load_config(files.write(tmp_path / "config.yaml", lte_configs.TEST[name]), EvalConfig)
    assert config.test_dataset.batch_size == 1
    assert config.eval_bsize in (30000, 300000)


# --- resume ---


def test_a_checkpoint_that_is_not_there_yet(images, tmp_path, capsys, monkeypatch):
    """The run begins afresh and says so; the same file then goes on from it, as in LTE's program."""
    monkeypatch.chdir(tmp_path)
    where = "save/first/epoch-last.pth"
    path = files.write(tmp_path / "c.yaml", files.configuration(images, resume=where, epoch_max=1))
    code, out, err = train(capsys, path, "--name", "first")
    assert (code, err) == (0, "")
    assert f"note: resume: {where}: there is no such file yet, so the run begins afresh" in out
    log = (tmp_path / "save" / "first" / "log.txt").read_text()
    assert f"resume: {where}: there is no such file yet" in log
    assert "resumed" not in out
    fresh = files.write(tmp_path / "d.yaml", files.configuration(images, epoch_max=1))
    assert train(capsys, fresh, "--name", "fresh")[0] == 0
    assert files.losses(tmp_path / "save" / "first") == files.losses(tmp_path / "save" / "fresh")

    again = files.write(tmp_path / "c.yaml", files.configuration(images, resume=where, epoch_max=2))
    for option in (["--dry-run"], []):
        code, out, _ = train(capsys, again, "--name", "second", *option)
        assert code == 0
        assert "no such file" not in out
        assert f"{'would go on from' if option else 'resumed'} {where}" in out


@pytest.mark.parametrize("kind", ["damaged", "a folder", "a link to nothing", "below a file that is no folder"])
def test_what_is_there_must_be_good(images, kind, tmp_path, capsys):
    path = tmp_path / "last.pth"
    if kind == "damaged":
        path.write_bytes(b"PK\x03\x04 no checkpoint")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link to nothing":
        path.symlink_to(tmp_path / "elsewhere" / "last.pth")
    else:
        path.write_text("")
        path = path / "last.pth"
    config = files.write(tmp_path / "c.yaml", files.configuration(images, resume=str(path), epoch_max=1))
    for option in (["--dry-run"], []):
        code, out, err = train(capsys, config, "--save", tmp_path / "run", *option)
        if kind.startswith("below"):  # os.path.exists says no, too
            assert code == 0
            assert "there is no such file yet" in out
            continue
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert f"{path}: " in err
        assert not (tmp_path / "run").exists()


def test_processes_that_do_not_see_the_same(images, tmp_path, monkeypatch):
    """One would train from the beginning beside others that go on."""
    config = files.write(tmp_path / "c.yaml", files.configuration(images, resume=str(tmp_path / "last.pth")))
    monkeypatch.setattr(run.distributed, "gather", lambda value: [value, not value])
    with pytest.raises(ConfigError, match=r"last\.pth: 1 of 2 processes find this checkpoint"):
        run.train(config, tmp_path / "run", torch.device("cpu"))
    assert not (tmp_path / "run").exists()
