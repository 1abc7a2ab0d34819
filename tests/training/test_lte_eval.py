"""``eval --config`` with the options of LTE's test program. Its figures: of its ``eval_psnr``, run on the same images
with the weights of ``lte_stand_in``; differences are float32's, below 1e-4 dB."""

from __future__ import annotations

import math

import lte_stand_in
import pytest
import torch
import training_files as files

from liif_fast.cli import main as cli
from liif_fast.training import official_test
from liif_fast.training.config import ConfigError, check
from liif_fast.training.config import EvalConfig as Kind
from liif_fast.training.protocol import Protocol
from liif_fast.weights import checkpoints

SIZES = ((70, 93), (66, 74))  # at scale 6: 11x15 and 11x12, at scale 2 odd ones and multiples of nothing
# (eval_type, window, scale_max) -> dB
OFFICIAL = {
    ("benchmark-2", 0, None): 15.071805953979492,
    ("benchmark-2", 8, 4): 15.029436588287354,
    ("benchmark-2", 0, 1.5): 15.031416416168213,
    ("benchmark-6", 0, None): 15.741915225982666,
    ("benchmark-6", 8, None): 15.667933940887451,
    ("benchmark-6", 0, 4): 15.572565078735352,
    ("benchmark-6", 8, 4): 15.495164394378662,
    ("div2k-2", 0, None): 13.38530158996582,
    ("div2k-2", 8, 4): 13.385544300079346,
    ("div2k-2", 0, 1.5): 13.415197372436523,
}


def configuration(folder, eval_type="benchmark-2", fast=False, **changes):
    config = files.eval_configuration(folder)
    wrapper = {"name": f"sr-implicit-downsampled{'-fast' * fast}", "args": {"scale_min": int(eval_type[-1])}}
    config["test_dataset"]["wrapper"] = wrapper
    return {**config, "eval_type": eval_type, **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return files.make_images(tmp_path_factory.mktemp("lte") / "images", SIZES)


def evaluate(model, config, **options):
    return official_test.evaluate_config(model, check(config, Kind), torch.device("cpu"), **options)


@pytest.mark.parametrize(("eval_type", "window", "scale_max"), OFFICIAL)
@pytest.mark.parametrize("fast", [False, True])
def test_figures_of_the_official_program(eval_type, window, scale_max, fast, folder):
    """Grids too, whose window the official program cannot pad (it would compare images of different sizes)."""
    model = lte_stand_in.weights()
    config = configuration(folder, eval_type, fast)
    got = evaluate(
        lte_stand_in.Grids(model, split=False) if fast else model, config, window=window, scale_max=scale_max
    )
    assert got == pytest.approx(OFFICIAL[eval_type, window, scale_max], abs=1e-4)


def test_the_models_own_scale_max_is_the_default(folder):
    """As LTE's program; none of a configuration without a scale, or where it is infinite."""
    model, config = lte_stand_in.weights(), configuration(folder, "benchmark-6", False)
    wanted = {limit: evaluate(model, config, scale_max=limit) for limit in (4, math.inf)}
    assert wanted[4] == pytest.approx(OFFICIAL["benchmark-6", 0, 4], abs=1e-4)
    assert wanted[math.inf] == pytest.approx(OFFICIAL["benchmark-6", 0, None], abs=1e-4)
    assert evaluate(model, config) == wanted[math.inf]
    model.scale_max = 4
    assert evaluate(model, config) == wanted[4]
    assert evaluate(model, config, scale_max=math.inf) == wanted[math.inf]
    whole = {**config, "eval_bsize": None}
    assert evaluate(model, whole) == pytest.approx(wanted[math.inf], abs=1e-4)


def test_the_command(folder, tmp_path, capsys):
    """Both spellings."""
    checkpoints.save_official(lte_stand_in.weights(), tmp_path / "m.pth")
    path = files.write(tmp_path / "c.yaml", configuration(folder, "benchmark-6"))
    arguments = ["eval", "--config", str(path), "-m", str(tmp_path / "m.pth"), "--window", "8"]
    for spelling in ("--scale-max", "--scale_max"):
        assert cli.main([*arguments, spelling, "4"]) == 0
        figure = float(capsys.readouterr().out.removesuffix(" dB\n"))
        assert figure == pytest.approx(OFFICIAL["benchmark-6", 8, 4], abs=2e-4)


def test_grids_in_rows_of_eval_bsize(folder):
    """Of a model that answers each query by itself: at most 300 queries at a time, or one row."""
    model = lte_stand_in.Grids(lte_stand_in.weights())
    got = evaluate(model, configuration(folder, fast=True))
    assert got == pytest.approx(OFFICIAL["benchmark-2", 0, None], abs=1e-4)
    assert {tuple(shape[1:3]) for shape in model.asked} == {(3, 92), (1, 92), (4, 74), (2, 74)}
    model = lte_stand_in.Grids(lte_stand_in.weights(), split=False)
    evaluate(model, configuration(folder, fast=True))
    assert {tuple(shape[1:3]) for shape in model.asked} == {(70, 92), (66, 74)}


@pytest.mark.parametrize(
    ("size", "padded"), [((8, 8), (16, 16)), ((7, 9), (8, 16)), ((3, 5), (8, 8)), ((1, 30), (8, 32))]
)
def test_padding(size, padded):
    """LTE's: a copy mirrored behind the edge, which repeats it, as often as it needs; a window more where none is
    needed. The coordinates are those of the padded image, and the cell is 2 / its size / scale."""
    image = torch.randn(2, 3, *size)
    want = image
    for dim in (2, 3):
        while want.shape[dim] < padded[dim - 2]:
            want = torch.cat([want, want.flip(dim)], dim)
        want = want.narrow(dim, 0, padded[dim - 2])
    inp, coord, cell = Protocol("benchmark-2", 100, 8).queries(image, torch.zeros(2, 5, 2), torch.zeros(2, 5, 2))
    assert torch.equal(inp, want)
    h, w = (2 * n for n in padded)
    assert coord.shape == cell.shape == (2, h * w, 2)
    assert torch.equal(cell[1, -1], torch.tensor([2 / padded[0] / 2, 2 / padded[1] / 2]))
    axes = [-1 + 1 / n + (2 / n) * torch.arange(n).float() for n in (h, w)]
    torch.testing.assert_close(coord[1], torch.cartesian_prod(*axes), rtol=0, atol=1e-6)
    _, coord, cell = Protocol("benchmark-2", 100, 8).queries(image, torch.zeros(2, 5, 4, 2), torch.zeros(2, 2))
    assert (coord.shape, cell.shape) == ((2, h, w, 2), (2, 2))


WRONG = {
    "no scale": ({"eval_type": None}, {"window": 8}, "window: needs a scale"),
    "no scale for the cell": ({"eval_type": None}, {"scale_max": 4}, "scale_max: needs a scale"),
    "no eval_bsize": ({"eval_bsize": None}, {"scale_max": 4}, "scale_max: this configuration has no eval_bsize"),
    "a window below 0": ({}, {"window": -8}, "window: a whole number of pixels from 0 to 1024 is wanted, got -8"),
    "half a pixel": ({}, {"window": 8.5}, "window: a whole number"),
    "scale_max 0": ({}, {"scale_max": 0}, "scale_max: a number above 0"),
    "scale_max NaN": ({}, {"scale_max": float("nan")}, "scale_max: a number above 0"),
    "another scale": (
        {"eval_type": "benchmark-3"},
        {"window": 8},
        "window: eval_type benchmark-3 wants images 3 times",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit(name, folder):
    changes, options, words = WRONG[name]
    config = {**configuration(folder), **changes}
    with pytest.raises(ConfigError) as caught:
        evaluate(lte_stand_in.weights(), {k: v for k, v in config.items() if v is not None}, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fast", [False, True])
def test_a_model_that_answers_less_than_the_padded_image(fast, folder):
    """Cut to the image it would pass for an answer."""

    class Small(lte_stand_in.Grids):
        def query_rgb(self, coord, cell):
            return super().query_rgb(coord, cell)[..., : 92 if fast else 1]  # the image is 92 wide, padded 96

    with pytest.raises(ConfigError, match=r"model: gives .* for the queries of a padded image"):
        evaluate(Small(), configuration(folder, fast=fast), window=8)


def test_a_model_of_rows_on_grids(folder):
    with pytest.raises(ConfigError, match=r"test_dataset\.wrapper\.name: sr-implicit-downsampled-fast .* LIIF takes"):
        evaluate(lte_stand_in.weights(), configuration(folder, fast=True))


def test_a_folder_has_no_such_options(folder, capsys):
    for option in (["--window", "8"], ["--scale_max", "4"]):
        assert cli.main(["eval", "--data", str(folder), "-s", "2", "-m", "bicubic", *option]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "it is for --config" in err
