"""Training on grids of queries, as LTE's ``lte-fast`` does: the numbers of the same queries in rows."""

from __future__ import annotations

import copy

import lte_stand_in
import pytest
import torch
import training_files as files
from test_dry_run import GAN

from liif_fast import registry
from liif_fast.cli import main as cli
from liif_fast.data.samples import expand
from liif_fast.training import setup, validate, views
from liif_fast.training.config import ConfigError, check
from liif_fast.training.step import Step, check_colours

ARGS = {"inp_size": 12, "scale_max": 4}
# three numbers each: of one every axis would do
NORM = {"inp": {"sub": [0.5], "div": [0.5]}, "gt": {"sub": [0.4, 0.5, 0.6], "div": [0.2, 0.3, 0.5]}}
FAST = {
    "train_dataset__wrapper": {"name": "sr-implicit-downsampled-fast", "args": {**ARGS, "augment": True}},
    "val_dataset__wrapper": {"name": "sr-implicit-downsampled-fast", "args": ARGS},
    "model": {"name": "grids", "args": {}},
    "data_norm": NORM,
}


@pytest.fixture(autouse=True)
def _grids(monkeypatch):
    monkeypatch.setitem(registry._MODELS, "grids", lte_stand_in.Grids)


def in_rows(batch):
    """The same queries as the plain wrappers give them."""
    coord = batch["coord"].flatten(1, 2)
    cell = batch["cell"][:, None].expand_as(coord)
    return {"inp": batch["inp"], "coord": coord, "cell": cell, "gt": batch["gt"].flatten(2).transpose(1, 2)}


@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_a_step_is_that_of_rows(images, loss):
    """Loss, gradients and PSNR, with a norm of three numbers; sums in another order: float32 rounding."""
    config = check(files.configuration(images, **FAST, loss=loss))
    parts = setup.setup(config, torch.device("cpu"), 0)
    batch = expand(next(iter(parts.train_loader)))
    found = []
    for data in (batch, in_rows(batch)):
        module = copy.deepcopy(parts.module)
        step = Step(config, module, module, torch.optim.SGD(module.parameters(), 0.1), parts.device, 0)
        value, norm = step.gradients(data)
        psnr = validate.mean_psnr(module, [data], config.data_norm, parts.device)
        assert module.asked[0][1:-1] == ([12, 12] if data is batch else [144])
        found.append([value, norm, torch.tensor(psnr), *(p.grad for p in module.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_run(images, tmp_path, capsys):
    """With all that can be asked for, resumed bit for bit, and a picture of validation."""
    run = files.runner(images, tmp_path, capsys)
    extra = {"amp": "bf16", "ema": 0.9, "channels_last": True, "head_parts": 2, **FAST}
    extra["train_dataset__dataset__args__cache"] = "device"
    code, out, err = run(folder="whole", epoch_max=2, **extra)
    assert (code, err) == (0, "")
    assert "val: psnr=" in out
    assert "head_parts: 2 is left out" in out
    assert (tmp_path / "whole" / "pictures.png").is_file()
    assert run(epoch_max=1, **extra)[0] == 0
    assert run("--resume", epoch_max=2, **extra)[0] == 0
    assert files.losses(tmp_path / "run") == files.losses(tmp_path / "whole")
    assert files.same(files.weights(tmp_path / "run"), files.weights(tmp_path / "whole"))


def test_a_model_that_takes_both_validates_on_rows(images, tmp_path, capsys):
    plain = {"name": "sr-implicit-downsampled", "args": {**ARGS, "sample_q": 64}}
    changes = {**FAST, "epoch_max": 1, "val_dataset__wrapper": plain}
    code, out, _ = files.runner(images, tmp_path, capsys)(**changes)
    assert code == 0
    assert "val: psnr=" in out


NOT_RUN = {
    "liif": ({"model": files.TINY_LIIF}, "train_dataset.wrapper.name: sr-implicit-downsampled-fast asks for grids"),
    "metasr": ({"model": files.METASR}, "MetaSR takes rows [B, Q, 2]; use sr-implicit-downsampled, or"),
    "a baseline": ({"model": files.SRCNN}, "SRCNN takes rows"),
    "liif, validation": (
        {
            "model": files.TINY_LIIF,
            "train_dataset__wrapper": {"name": "sr-implicit-downsampled", "args": {**ARGS, "sample_q": 64}},
        },
        "val_dataset.wrapper.name: sr-implicit-downsampled-fast asks for grids",
    ),
    "gan": ({"gan": GAN}, "train_dataset.wrapper.name: gan needs whole crops, and sr-implicit-downsampled-fast"),
    "eval_type": ({"eval_type": "benchmark-2"}, "val_dataset.wrapper.args.inp_size: eval_type benchmark-2 needs whole"),
    "sample_q": ({"train_dataset__wrapper__args__sample_q": 5}, "has no such argument"),
    "scales below 1": (
        {"train_dataset__wrapper__args__scale_min": 0.5},
        "144 queries, inp_size squared, are more than the 36",
    ),
}


WITH_DATA = ("eval_type", "scales below 1")  # seen with the data only


@pytest.mark.parametrize(
    ("name", "data"), [(n, d) for n in NOT_RUN for d in ("there", "missing") if d == "there" or n not in WITH_DATA]
)
def test_what_cannot_run(name, data, images, tmp_path, capsys):
    """In one line, before training and without the data where they are not needed for it."""
    changes, words = NOT_RUN[name]
    folder = images if data == "there" else tmp_path / "gone"
    config = files.configuration(folder, **copy.deepcopy(FAST))
    for key, value in changes.items():
        *path, last = key.split("__")
        at = config
        for part in path:
            at = at[part]
        at[last] = value
    path = files.write(tmp_path / "c.yaml", config)
    for option in (["--dry-run"], []):
        assert cli.main(["train", str(path), "--save", str(tmp_path / "run"), *option]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert words in err
        assert not (tmp_path / "run").exists()


def test_pictures_are_those_of_rows(images):
    """Of validation on whole images; the norm has three numbers."""
    found = []
    for name in ("sr-implicit-downsampled-fast", "sr-implicit-downsampled"):
        wrapper = {"name": name, "args": {"scale_min": 2}}
        changes = {**FAST, "val_dataset__wrapper": wrapper, "val_dataset__batch_size": 1}
        config = check(files.configuration(images, **changes))
        samples = setup.build_samples("val_dataset", config.val_dataset)
        model = lte_stand_in.Grids(lte_stand_in.weights())
        found.append(views.views(model, samples, config, torch.device("cpu"), 0))
        assert len(model.asked[0]) == (4 if name.endswith("fast") else 3)
    for rows in zip(*found, strict=True):
        for a, b in zip(*rows, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_colours_of_another_shape():
    with pytest.raises(ConfigError, match=r"gives \[2, 20, 3\] for 20 queries of 2 samples, \[2, 3, 4, 5\] is wanted"):
        check_colours(torch.zeros(2, 20, 3), torch.zeros(2, 3, 4, 5))
