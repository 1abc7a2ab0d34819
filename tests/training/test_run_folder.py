"""Nothing of an earlier run goes unasked: where a run begins, what is refused, kept under another name, or deleted."""

from __future__ import annotations

import copy
import errno
from collections import Counter
from pathlib import Path

import pytest
import torch
import training_files as files

from liif_fast.cli import main as cli
from liif_fast.quality import result_folder
from liif_fast.training import setup, state
from liif_fast.training.config import load_config
from liif_fast.training.optimizer import Average
from liif_fast.training.restore import restore
from liif_fast.weights import files as weight_files

EPOCHS = {"epoch_max": 3, "epoch_save": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with images, a configuration and a finished run of it; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    images = files.make_images(folder / "images")
    path = files.write(folder / "c.yaml", files.configuration(images, **EPOCHS))
    assert cli.main(["train", str(path), "--save", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def run(whole, tmp_path, capsys):
    """A copy of the run's folder, and run(*options) -> (exit code, standard output, standard error)."""
    import shutil

    shutil.copytree(whole / "run", tmp_path / "run")

    def call(*options, config=whole / "c.yaml"):
        capsys.readouterr()
        code = cli.main(["train", str(config), "--save", str(tmp_path / "run"), *options])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


LEFT = ["epoch-last.pth", "epoch-best.pth", "epoch-2.pth", "metrics.jsonl", "log.txt", "curves.png", "pictures.png"]


@pytest.mark.parametrize("kept", [LEFT[1:], *([name] for name in LEFT)], ids=lambda names: names[0])
def test_a_folder_that_holds_a_run_is_refused(run, tmp_path, kept):
    """Whatever is left of it: one of the files is enough."""
    for file in list((tmp_path / "run").iterdir()):
        if file.is_file() and file.name not in kept:
            file.unlink()
    before = contents(tmp_path / "run")
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "holds a run" in err
    assert contents(tmp_path / "run") == before


def test_overwrite_says_what_it_deletes(run, whole, tmp_path):
    (tmp_path / "run" / "notes.txt").write_text("mine")
    code, out, _ = run("--overwrite")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "deleted" in line]
    assert all(name in line for name in [*LEFT, "epoch-1.pth", "epoch-3.pth"])
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert files.losses(tmp_path / "run") == files.losses(whole / "run")


def test_overwrite_spares_what_the_run_begins_with(run, whole, tmp_path):
    init = tmp_path / "run" / "epoch-2.pth"
    before = init.read_bytes()
    path = files.write(tmp_path / "i.yaml", files.configuration(whole / "images", init=str(init), epoch_max=1))
    assert run("--overwrite", config=path)[0] == 0
    assert init.read_bytes() == before


def test_overwrite_begins_afresh_where_resume_names_the_run_itself(run, whole, tmp_path):
    """As in LTE's configurations."""
    own = tmp_path / "run" / "epoch-last.pth"
    path = files.write(tmp_path / "r.yaml", files.configuration(whole / "images", resume=str(own), epoch_max=1))
    code, out, _ = run("--overwrite", config=path)
    assert code == 0
    assert f"resume: {own}: is of the run that is deleted, so the run begins afresh" in out
    assert "resumed" not in out
    assert len(files.losses(tmp_path / "run")) < len(files.losses(whole / "run"))
    assert own.is_file()


@pytest.mark.parametrize(
    ("damage", "newest"),
    [("missing", "epoch-best.pth"), ("cut", "epoch-2.pth"), ("other", "epoch-1.pth"), ("missing", "epoch-1.pth")],
)
def test_resume_from_the_newest_whole_checkpoint(run, whole, tmp_path, damage, newest):
    """It is said, the damaged file is kept under another name, and the run becomes what it would have been."""
    folder = tmp_path / "run"
    order = ["epoch-best.pth", "epoch-3.pth", "epoch-2.pth", "epoch-1.pth"]
    for name in order[: order.index(newest)]:
        (folder / name).unlink()
    last = folder / "epoch-last.pth"
    data = {"missing": None, "cut": last.read_bytes()[:2000], "other": b"no checkpoint at all"}[damage]
    last.unlink()
    if data is not None:
        last.write_bytes(data)
    code, out, err = run("--resume")
    assert (code, err) == (0, "")
    assert f"going on from the newest whole checkpoint, {newest}" in out
    assert f"resumed {folder / newest}" in out
    if data is not None:
        assert (folder / "epoch-last.pth.1").read_bytes() == data
        assert "epoch-last.pth is kept as epoch-last.pth.1" in out
    assert files.losses(folder) == files.losses(whole / "run")
    assert files.same(files.weights(folder), files.weights(whole / "run"))
    assert (folder / "metrics.jsonl.1").read_bytes() == (whole / "run" / "metrics.jsonl").read_bytes()
    assert "metrics.jsonl is kept as metrics.jsonl.1" in out


def test_what_is_not_damaged_is_not_passed_over(run, tmp_path, monkeypatch):
    """A newer program's file, and one that a network folder does not give just now."""
    last = tmp_path / "run" / "epoch-last.pth"
    checkpoint = torch.load(last, weights_only=True)
    before = last.read_bytes()
    torch.save({**checkpoint, "training": {**checkpoint["training"], "format": 9}}, last)
    code, _, err = run("--resume")
    assert code == 1
    assert "epoch-last.pth: written by a newer liif_fast (format 9" in err
    last.write_bytes(before)
    read = weight_files.read

    def stale(path):
        if path == last:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path)

    monkeypatch.setattr(weight_files, "read", stale)
    code, _, err = run("--resume")
    assert code == 1
    assert "epoch-last.pth: cannot be read (Stale file handle)" in err
    assert last.read_bytes() == before


def test_resume_without_any_whole_checkpoint(run, tmp_path):
    """Damaged ones are no reason to begin anew; none at all is, and what there is is kept."""
    folder = tmp_path / "run"
    for file in folder.glob("epoch-*.pth"):
        file.write_bytes(file.read_bytes()[:1000])
    before = contents(folder)
    code, _, err = run("--resume")
    assert code == 1
    assert "none of the 5 checkpoints there can be read" in err
    assert "epoch-last.pth" in err
    assert contents(folder) == before
    for file in folder.glob("epoch-*.pth"):
        file.unlink()
    code, out, _ = run("--resume")
    assert code == 0
    assert "begins anew" in out
    assert (folder / "metrics.jsonl.1").read_bytes() == before["metrics.jsonl"]
    assert (folder / "log.txt").read_bytes().startswith(before["log.txt"])


def test_another_configuration_does_not_replace_the_old_one(run, whole, tmp_path):
    old = (tmp_path / "run" / "config.yaml").read_bytes()
    path = files.write(tmp_path / "more.yaml", files.configuration(whole / "images", **{**EPOCHS, "epoch_max": 4}))
    code, out, _ = run("--resume", config=path)
    assert code == 0
    assert "config.yaml is kept as config.yaml.1" in out
    assert (tmp_path / "run" / "config.yaml.1").read_bytes() == old
    assert (tmp_path / "run" / "config.yaml").read_bytes() == path.read_bytes()
    run("--resume", config=path)
    assert not (tmp_path / "run" / "config.yaml.2").exists()  # the same again


def test_results_say_what_they_replace(tmp_path):
    """`compare -o`: files of the earlier result that the new one has not."""
    names = ("a", "b", "c")
    assert result_folder.write(tmp_path / "r", {"a": b"1", "b": b"2"}, names) == []
    (tmp_path / "r" / "other").write_text("mine")
    assert result_folder.write(tmp_path / "r", {"a": b"3"}, names, overwrite=True) == ["b"]
    assert contents(tmp_path / "r") == {"a": b"3", "other": b"mine"}


# --- what stands in a checkpoint ---

NAN = float("nan")
WRONG = {
    "epoch": [None, "3", 1.5, -1, True],
    "model.sd.imnet.layers.0.weight": [3, "x", torch.zeros(2), torch.zeros(16, 76, dtype=torch.int64)],
    "model.sd.unknown": [torch.zeros(1)],
    "data_norm": [3, {"inp": 1}],
    "training": [None, 3, []],
    "training.format": ["1", None],
    "training.seed": ["x", -1, 1.5, None],
    "training.progress": [None, [], "x"],
    "training.progress.step": ["7", None, -1, NAN],
    "training.progress.batch": [1.5],
    "training.progress.pending": [1, "no"],
    "training.progress.best": ["x", NAN],
    "training.progress.seconds": [None, NAN, 1 << 1100],
    "training.progress.epoch_loss": [0.0, [1.0], ["a", "b"]],
    "training.weights": [3],
    "training.weights.imnet.layers.0.weight": [None],
    "training.schedule": [3, {"last_epoch": "x"}, {"_last_lr": 3}, {"base_lrs": ["x"]}, {1: 2}],
    "optimizer.sd.state": [None, {"a": {}}, {99: {"step": 1.0}}, {0: 3}],
    "optimizer.sd.state.first.exp_avg": [None, "x", torch.zeros(1), torch.zeros(2, dtype=torch.complex64)],
    "optimizer.sd.state.first.step": ["x", torch.zeros(3)],
    "optimizer.sd.param_groups": [None, [], [3], [{"params": [0]}], [{"params": 3}]],
    "optimizer.sd.param_groups.0.lr": ["x", NAN, -1, None],
    "optimizer.sd.param_groups.0.betas": [0.9, [0.9], ["a", "b"]],
    "optimizer.sd.param_groups.0.amsgrad": ["x", 3],
    "optimizer.sd.param_groups.0.params": [["x"], [0]],
}


def test_values_of_wrong_kinds(run, whole, tmp_path):
    """Each gives one line with the file, the key (or what is above it), and none of Python's own words."""
    file = tmp_path / "run" / "epoch-last.pth"
    good = torch.load(file, weights_only=True)
    good["training"]["weights"] = dict(good["model"]["sd"])
    parts = setup.build(load_config(whole / "c.yaml"), torch.device("cpu"), 0)
    average = Average(parts.module, 0.9)

    def restored() -> None:
        checkpoint = state.read(file)
        restore(checkpoint, file, parts, state.progress_of(checkpoint, 4), average)

    for key, values in WRONG.items():
        for value in values:
            bad = copy.deepcopy(good)
            *way, last = steps_to(bad, key)
            at = bad
            for part in way:
                at = at[part]
            at[last] = value
            torch.save(bad, file)
            with pytest.raises(state.TrainingError) as caught:
                restored()
            text = str(caught.value)
            assert text.startswith(f"{file}: "), text
            assert "\n" not in text
            assert len(text) < 500
            assert any(key.startswith(found) for found in named(text)) or "does not fit the model" in text, (key, text)
            assert not any(word in text for word in ("object", "not supported", "attribute", "argument")), text
    torch.save(good, file)
    restored()
    bad = copy.deepcopy(good)
    bad["training"]["progress"]["step"] = "7"
    for path in (tmp_path / "run").glob("epoch-*.pth"):
        torch.save(bad, path)
    before = contents(tmp_path / "run")
    code, out, err = run("--resume")  # and as a whole
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "epoch-last.pth: training.progress.step: int is wanted, got '7'" in err
    assert contents(tmp_path / "run") == before


def steps_to(checkpoint, key: str) -> list:
    """The keys of a dotted name; names of tensors have dots of their own, indices are numbers."""
    for prefix in ("model.sd.", "training.weights."):
        if key.startswith(prefix):
            return [*prefix.split(".")[:-1], key.removeprefix(prefix)]
    first = next(iter(checkpoint["optimizer"]["sd"]["state"]))  # the first parameters are fixed and have no state
    return [first if part == "first" else int(part) if part.isdecimal() else part for part in key.split(".")]


def named(err: str) -> list[str]:
    words = [word.rstrip(":;,()").lstrip("(") for word in err.split()]
    heads = {"epoch", "model", "data_norm", "training", "optimizer"}
    return [".".join(word.split(".")[:2]) for word in words if word.split(".")[0] in heads and word]


def test_official_and_older_checkpoints_are_taken(run, whole, tmp_path):
    """Without what newer versions of torch keep in an optimizer's groups, or with a learning rate as a tensor."""
    folder = tmp_path / "run"
    good = torch.load(folder / "epoch-last.pth", weights_only=True)
    group = good["optimizer"]["sd"]["param_groups"][0]
    for name in ("foreach", "fused", "capturable", "differentiable", "maximize", "decoupled_weight_decay"):
        group.pop(name, None)
    good["training"]["schedule"]["milestones"] = Counter({1: 1})
    torch.save(good, folder / "epoch-last.pth")
    path = files.write(tmp_path / "m.yaml", files.configuration(whole / "images", **{**EPOCHS, "epoch_max": 4}))
    code, out, err = run("--resume", config=path)
    assert (code, err) == (0, "")
    assert "epoch 4/4" in out
    assert state.read(folder / "epoch-last.pth")["epoch"] == 4
