"""``--dry-run`` says yes exactly where the run begins: both make the same checks."""

from __future__ import annotations

import pytest
import training_files as files

from liif_fast.cli import main as cli

GAN = {
    "discriminator": {"name": "srgan-discriminator", "args": {}},
    "optimizer": {"name": "adam", "args": {"lr": 1e-4}},
    "content": "none",
}
WHOLE = {"name": "sr-implicit-downsampled", "args": {"scale_min": 2}}
NOT_RUN = {
    "no imnet_spec": ({"model__args__imnet_spec": None}, "model.args.imnet_spec: this key is missing"),
    "four channels": ({"model__args__imnet_spec__args__out_dim": 4}, "imnet_spec.args.out_dim: 3"),
    "one channel": ({"model__args__imnet_spec__args__out_dim": 1}, "imnet_spec.args.out_dim: 3"),
    "an encoder alone": ({"model": {"name": "edsr-baseline", "args": {"n_resblocks": 1}}}, "model: fails"),
    "a range of scales": (
        {"train_dataset__wrapper__args__inp_size": None, "train_dataset__wrapper__args__scale_max": 2},
        "inp_size: with a range of scales it is needed",
    ),
    "gan": ({"gan": GAN}, "train_dataset.wrapper.args.sample_q: gan needs whole crops"),
    "a list that holds no names": ({"train_dataset__dataset__args__root_path": [3]}, "root_path"),
    "an empty list": ({"train_dataset__dataset__args__root_path": []}, "root_path"),
    "two channels of a norm": ({"data_norm__inp__sub": [0.5, 0.5]}, "model: fails at the first samples"),
    "queries and eval_type": (
        {"eval_type": "benchmark-2"},
        "val_dataset.wrapper.args.sample_q: eval_type benchmark-2 needs whole images",
    ),
    "batches of validation": (
        {"val_dataset__wrapper": WHOLE, "val_dataset__batch_size": 2},
        "val_dataset",
    ),
    "unknown optimizer's value": ({"optimizer__args__betas": [0.9, "x"]}, "optimizer"),
    "norm_eval of no norms": ({"norm_eval": True}, "norm_eval: the model has no batch normalisation"),
    "init of another model": ({"init": "m.pth"}, "init"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_RUN)
def test_what_cannot_run(name, tmp_path, capsys, monkeypatch):
    """The dry run's answer is the run's: exit code and the line on standard error are the same."""
    changes, words = NOT_RUN[name]
    monkeypatch.chdir(tmp_path)
    if name.startswith("init"):
        from liif_fast import make
        from liif_fast.weights import checkpoints

        checkpoints.save_official(make({"name": "srcnn", "args": {}}), tmp_path / "m.pth")
    images = files.make_images(tmp_path / "images")
    path = files.write(tmp_path / "c.yaml", files.configuration(images, **changes))
    said = []
    for options in (["--dry-run"], []):
        assert cli.main(["train", str(path), "--save", str(tmp_path / "run"), *options]) == 2
        said.append(capsys.readouterr())
    assert said[0] == said[1]
    assert said[0].out == ""
    assert words in said[0].err
    assert said[0].err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["train", "val", "init", "wrapper"])
def test_what_is_missing(what, tmp_path, capsys):
    """All that can be checked without the data is checked, and the exit code tells a script."""
    images = files.make_images(tmp_path / "images")
    gone = str(tmp_path / "gone")
    key = {"init": "init", "val": "val_dataset__dataset__args__root_path"}.get(
        what, "train_dataset__dataset__args__root_path"
    )
    changes = {key: gone}
    if what == "wrapper":
        changes["train_dataset__wrapper__args__scale_max"] = "four"
    path = files.write(tmp_path / "c.yaml", files.configuration(images, **changes))
    code = cli.main(["train", str(path), "--dry-run", "--save", str(tmp_path / "run")])
    out, err = capsys.readouterr()
    if what == "wrapper":
        assert code == 2
        assert "train_dataset: scale_max: a number above 0 is wanted, got 'four'" in err
        return
    assert (code, err) == (1, "")
    assert f"missing: {key.partition('__')[0]}: {gone}: no such f" in out
    assert "cannot run yet" in out.splitlines()[-1]
    assert cli.main(["train", str(path), "--save", str(tmp_path / "run")]) == 2
    assert gone in capsys.readouterr().err


@pytest.mark.parametrize("cache", ["none", "bin", "in_memory", "device"])
def test_a_dry_run_writes_and_decodes_nothing_else(cache, tmp_path, capsys):
    images = files.make_images(tmp_path / "images")
    (images / "03.png").write_bytes((images / "03.png").read_bytes()[:300])  # the last one cannot be decoded
    changes = {"train_dataset__dataset__args__cache": cache, "val_dataset__dataset__args__cache": "in_memory"}
    path = files.write(tmp_path / "c.yaml", files.configuration(images, **changes))
    assert cli.main(["train", str(path), "--dry-run", "--save", str(tmp_path / "run")]) == 0
    assert "would train 3 epochs of 4 steps" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml", "images"]


def test_dry_run_of_a_folder_that_holds_a_run(tmp_path, capsys):
    images = files.make_images(tmp_path / "images")
    path = files.write(tmp_path / "c.yaml", files.configuration(images, epoch_max=1))
    command = ["train", str(path), "--save", str(tmp_path / "run")]
    assert cli.main(command) == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()}
    capsys.readouterr()
    assert cli.main([*command, "--dry-run"]) == 2
    assert "holds a run" in capsys.readouterr().err
    assert cli.main([*command, "--dry-run", "--overwrite"]) == 0
    assert f"would delete {tmp_path}/run/epoch-last.pth" in capsys.readouterr().out
    assert cli.main([*command, "--dry-run", "--resume"]) == 0
    assert "epoch-last.pth: 1 epochs complete" in capsys.readouterr().out
    other = files.configuration(images, model__args__imnet_spec__args__hidden_list=[17])
    files.write(path, other)
    assert cli.main([*command, "--dry-run", "--resume"]) == 1
    assert "does not fit the model" in capsys.readouterr().err
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file()}


def test_no_room_or_no_folder(tmp_path, capsys):
    images = files.make_images(tmp_path / "images")
    path = files.write(tmp_path / "c.yaml", files.configuration(images))
    (tmp_path / "file").write_text("")
    for options in (["--dry-run"], []):
        assert cli.main(["train", str(path), "--save", str(tmp_path / "file" / "run"), *options]) == 2
        assert "cannot be written" in capsys.readouterr().err
