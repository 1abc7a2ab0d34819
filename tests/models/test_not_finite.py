"""What is not finite is never a colour: each dtype, each path, each place where it can come from."""

from __future__ import annotations

import warnings

import pytest
import torch
import training_files
from cpu_paths import COMPILED, PATHS, forced, sample

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.head import int8, ops
from liif_fast.quality import evaluate

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8)
INT8 = torch.ops.liif_fast.render_int8.default
# where a damaged weight may lie: in the encoder, and in each kind of the MLP's layers
PLACES = (
    "encoder.first.bias", "encoder.second.weight", "imnet.layers.0.weight", "imnet.layers.0.bias",
    "imnet.layers.2.weight", "imnet.layers.2.bias", "imnet.layers.4.weight", "imnet.layers.4.bias",
)  # fmt: skip


@pytest.fixture(params=[*PATHS, "plain"])
def path(request):
    """Each instruction set, and plain PyTorch, which is the definition too."""
    if request.param == "plain":
        with torch.library._scoped_library("liif_fast", "IMPL") as library:
            if COMPILED:
                for name in ("render", "render_int8"):
                    library.impl(name, ops.PLAIN[name], "CPU", allow_override=True)
            yield "plain"
        return
    with forced(request.param):
        yield request.param


def damaged(model, place, value=NAN):
    with torch.no_grad():
        model.get_parameter(place).flatten()[2] = value
    return model


def quantized_arguments(**kwargs):
    s = sample(**kwargs)
    w_q, w_scale = int8.quantize_weights(s.w_mlp)
    act_scale = torch.full((len(w_q),), 0.02)
    return [*s[:4], w_q, w_scale, s.b_mlp, act_scale, *s[6:]]


@pytest.mark.filterwarnings("ignore:a result in", "ignore:int8")
@pytest.mark.parametrize("dtype", DTYPES)
def test_upscale_refuses_a_damaged_weight(tiny, path, dtype):
    image = torch.rand(1, 3, 9, 8)
    for place in PLACES:
        with pytest.raises(ValueError, match="the result is not finite"):
            damaged(tiny([16, 16]), place).upscale(image, scale=2, dtype=dtype)
        # damaged after the calibration
        model = tiny([16, 16])
        model = model.quantize(image) if dtype == torch.int8 else model
        with pytest.raises(ValueError, match="the result is not finite"):
            damaged(model, place).upscale(image, scale=2, dtype=None if dtype == torch.int8 else dtype)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("ensemble", [True, False])
def test_one_pixel_of_the_hidden_map_spoils_what_reads_it(path, value, ensemble):
    for unit in (0, 19):
        args = quantized_arguments(B=2, h=6, w=5, D=20, Q=60, ensemble=ensemble)
        good = INT8(*args)
        args[0][1, 4, 0, unit] = value
        bad = INT8(*args)
        index, _, weight = int8.corners(args[1], (6, 5), ensemble)
        reads = ((index[..., 0] == 4) & (index[..., 1] == 0) & (weight > 1e-6)).any(-1)
        reads[0] = False
        assert 0 < reads.sum() < 60
        assert torch.equal(bad.isnan().all(-1), reads)
        assert torch.equal(bad[~reads], good[~reads])


W_POS, W_SCALE, B_MLP = 3, 5, 6
DAMAGE = [(at, value) for at in (W_POS, W_SCALE, B_MLP) for value in (NAN, INF, -INF)]


@pytest.mark.parametrize(("at", "value"), [*DAMAGE, (W_SCALE, 3e38), (B_MLP, 3e38)])  # the last leave float32
def test_parameters_of_the_8_bit_head(path, at, value):
    for index in ([0, 1], [19, 1]) if at == W_POS else ([0, 0], [0, 19], [1, 7]):
        args = quantized_arguments(D=20)
        args[at] = args[at].clone()
        args[at][tuple(index)] = value
        assert not INT8(*args).isfinite().any()


def test_overflow_in_the_first_layer(path):
    args = quantized_arguments(D=20, Q=300)
    args[0].fill_(3e38)
    args[3] = args[3].abs() * 1e38
    assert not int8.render_int8(*args).isfinite().all()
    assert torch.equal(INT8(*args).isnan(), int8.render_int8(*args).isnan())


def test_queries_of_a_quantised_model_show_it(tiny, path):
    image, coord = torch.rand(1, 3, 6, 6), torch.rand(1, 40, 2) * 2 - 1
    model = tiny([16, 16]).quantize(image)
    cell = torch.full_like(coord, 0.2)
    feat = model.gen_feat(image * 2 - 1)
    assert model.query(feat, coord, cell).isfinite().all()
    feat = feat.detach().clone()
    feat[0, 1, 2, 3] = NAN
    seen = model.query(feat, coord, cell)
    assert seen.isnan().any()
    assert seen.isfinite().any()
    model.feat = feat
    assert torch.equal(model.query_rgb(coord, cell).isnan(), seen.isnan())
    inp = image * 2 - 1
    inp[0, 0, 2, 3] = INF
    assert not model.render(inp, (12, 12)).isfinite().all()
    assert not model(inp, coord, cell).isfinite().all()


def test_calibration_refuses(tiny):
    image = torch.rand(3, 9, 9)
    for place in PLACES[:6]:
        with pytest.raises(ValueError, match="the result is not finite in float32"):
            damaged(tiny([16, 16, 16]), place).quantize(image)
    model = tiny([16, 16]).quantize(image)
    for value in (NAN, INF, 1e-40, -1.0):
        model.act_scale[0] = value
        with pytest.raises(ValueError, match="act_scale: positive finite numbers"):
            model.upscale(image, scale=2)
    model.calibrate(image)
    assert model.upscale(image, scale=2).isfinite().all()


def test_calibration_in_half_precision_goes_over_to_float32(tiny):
    """Activations above float16's 65504 are no damage: as a tile that overflows, computed again in float32."""
    model = tiny([16, 16])
    with torch.no_grad():
        model.encoder.second.weight.mul_(1e4)
        model.imnet.layers[0].weight.mul_(1e3)
        model.imnet.layers[2].weight.mul_(1e-7)
    image = torch.rand(1, 3, 8, 8)
    assert model.half().quantize(image).act_scale.isfinite().all()


def test_the_other_networks_refuse():
    """Infinity must not become white: it is looked for before colours are clamped."""
    model = liif_fast.make({"name": "srcnn", "args": {}}).eval()
    for value in (NAN, INF):
        with torch.no_grad():
            list(model.parameters())[-1].fill_(value)
        with pytest.raises(ValueError, match="srcnn: the result is not finite"):
            model.upscale(torch.rand(3, 12, 12), scale=2)


def test_the_command_prints_no_figure_of_a_damaged_model(tmp_path, capsys):
    """eval of a folder in each dtype, and of a test configuration."""
    folder = training_files.make_images(tmp_path / "images", sizes=((40, 48),))
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}})
    damaged(model, "encoder.head.0.bias").save(tmp_path / "m.safetensors")
    config = training_files.write(tmp_path / "test.yaml", training_files.eval_configuration(folder))
    data = ["--data", str(folder), "-s", "2"]
    for arguments in (*([*data, "--dtype", str(dtype)[6:]] for dtype in DTYPES), ["--config", str(config)]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert cli.main(["eval", *arguments, "-m", str(tmp_path / "m.safetensors")]) == 1, arguments
        said = capsys.readouterr()
        assert said.out == ""
        assert "not finite" in said.err


def test_evaluation_refuses():
    image = torch.rand(1, 3, 4, 4)
    image[0, 0, 1, 1] = NAN
    with pytest.raises(ValueError, match="image: finite colours"):
        evaluate.bicubic(image, (8, 8))
