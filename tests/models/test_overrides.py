"""Methods that a subclass or an instance replaces have their effect wherever a picture is made."""

from __future__ import annotations

import types
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import TinyEncoder
from liif_queries import queries
from torch.testing import assert_close

import liif_fast
from liif_fast import LIIF, functional

IMNET = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}}


class OwnFeatures(LIIF):
    """A field-of-view-like change: features are scaled."""

    def gen_feat(self, inp):
        self.feat = 2 * super().gen_feat(inp)
        return self.feat


class OwnColours(LIIF):
    """As LTE: the image itself, enlarged, is added to the colours."""

    def gen_feat(self, inp):
        self.inp = inp
        return super().gen_feat(inp)

    def query_rgb(self, coord, cell=None):
        grid = coord.flip(-1).unsqueeze(1)
        nearest = torch.nn.functional.grid_sample(self.inp, grid, mode="nearest", align_corners=False)
        return super().query_rgb(coord, cell) + nearest[:, :, 0].transpose(1, 2)


class OwnQuery(LIIF):
    def query(self, feat, coord, cell=None):
        return -super().query(feat, coord, cell)


class OwnForward(LIIF):
    def forward(self, inp, coord, cell=None):
        return super().forward(inp, coord, cell) + 1


def replaced_on_the_instance():
    model = LIIF(TinyEncoder(), IMNET)
    model.query_rgb = types.MethodType(lambda self, coord, cell=None: 3 * LIIF.query_rgb(self, coord, cell), model)
    return model


MODELS = {kind.__name__: kind for kind in (OwnFeatures, OwnColours, OwnQuery, OwnForward)}


def build(name):
    model = MODELS[name](TinyEncoder(), IMNET) if name in MODELS else replaced_on_the_instance()
    return model.eval()


ALL = [*MODELS, "instance"]


def official(model, inp, size):
    """What the official test program does with a model."""
    coord = functional.make_coord(size).expand(len(inp), -1, -1)
    cell = torch.tensor([2 / n for n in size]).expand_as(coord)
    with torch.no_grad():
        return model(inp, coord, cell).transpose(1, 2).unflatten(-1, size)


@pytest.mark.parametrize("name", ALL)
def test_every_way_to_a_picture(name, monkeypatch):
    model, inp, size = build(name), torch.rand(2, 3, 7, 6), (11, 9)
    want = official(model, inp, size)
    plain = LIIF(model.encoder, IMNET).eval()
    plain.imnet = model.imnet
    assert (want - official(plain, inp, size)).abs().max() > 1e-2
    # the same computation, in other pieces
    monkeypatch.setattr("liif_fast.models.overrides._BLOCK", 20)
    assert_close(model.render(inp, size), want, rtol=1e-5, atol=1e-6)
    assert_close(model.renderer(size)(inp), want, rtol=1e-5, atol=1e-6)
    image = (model.render(inp * 2 - 1, size) / 2 + 0.5).clamp(0, 1)
    assert_close(model.upscale(inp, size=size), image, rtol=1e-5, atol=1e-6)
    assert model.feat is None or model.feat.shape == (2, 6, 7, 6)


@pytest.mark.parametrize("name", ALL)
def test_render_keeps_the_features_that_were_there(name):
    model, (coord, cell) = build(name), queries(1, 20)
    with torch.no_grad():
        feat = model.gen_feat(torch.rand(1, 3, 5, 5))
    model.render(torch.rand(1, 3, 7, 6), (8, 8))
    assert model.feat is feat
    with torch.no_grad():
        assert model.query(feat, coord, cell).shape == (1, 20, 3)


@pytest.mark.parametrize("name", ["OwnColours", "instance"])
def test_compiled(no_compiled_code, name):
    model, inp, (coord, cell) = build(name), torch.rand(1, 3, 6, 5), queries(1, 20)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        want = model(inp, coord, cell)
        assert_close(compiled(inp, coord, cell), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_what_cannot_be_done_is_refused(name, tmp_path):
    model, image = build(name), torch.rand(3, 8, 8)
    with pytest.raises(ValueError, match="of its own, so there are no exact tiles; use tile=0"):
        model.upscale(image, scale=2, tile=4)
    for act in (lambda: model.quantize(image), lambda: model.upscale(image, scale=2, dtype=torch.int8)):
        with pytest.raises(ValueError, match=r"^(quantize|dtype: int8): .* of its own"):
            act()


def test_half_precision_is_autocast(tiny):
    model, inp, size = build("OwnColours"), torch.rand(1, 3, 7, 6), (11, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want = official(model, inp, size)
    assert_close(model.render(inp, size, dtype=torch.bfloat16), want)


def test_own_render_is_upscales(tiny):
    class Dark(LIIF):
        def render(self, inp, size, dtype=None):
            return super().render(inp, size, dtype) * 0 - 1

    model = Dark(TinyEncoder(), IMNET)
    assert model.upscale(torch.rand(3, 5, 5), scale=2).max() == 0
    with pytest.raises(ValueError, match="Dark has a render of its own"):
        model.upscale(torch.rand(3, 5, 5), scale=2, tile=4)


def test_own_methods_that_give_something_else(tiny):
    class Pair(LIIF):
        def query_rgb(self, coord, cell=None):
            colours = super().query_rgb(coord, cell)
            return colours, colours

    class Grey(LIIF):
        def query_rgb(self, coord, cell=None):
            return super().query_rgb(coord, cell)[..., :1]

    with pytest.raises(ValueError, match=r"Pair: colours \[1, 100, 'O'\] are wanted .* got tuple"):
        Pair(TinyEncoder(), IMNET).render(torch.rand(1, 3, 5, 5), (10, 10))
    with pytest.raises(ValueError, match="puts out 1 channels"):
        Grey(TinyEncoder(), IMNET).upscale(torch.rand(3, 5, 5), scale=2)
    assert Grey(TinyEncoder(), IMNET).render(torch.rand(1, 3, 5, 5), (10, 10)).shape == (1, 1, 10, 10)


def test_files_keep_no_methods_and_no_changed_layers(tmp_path):
    """A file holds weights and a spec: what its spec does not build is refused, not lost."""
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}
    path = tmp_path / "model.safetensors"

    class Gelu(torch.nn.ReLU):
        def forward(self, x):
            return torch.nn.functional.gelu(x)

    changed = LIIF(encoder, IMNET)
    changed.imnet.layers[1] = Gelu()
    in_encoder = LIIF(encoder, IMNET)
    in_encoder.encoder.body[0].body[1] = torch.nn.Tanh()
    on_instance = LIIF(encoder, IMNET)
    on_instance.imnet.layers[0].forward = lambda x: x[..., :16]
    without_bias = LIIF(encoder, IMNET)
    without_bias.imnet.layers[2] = torch.nn.Linear(16, 16, bias=False)
    for model, words in [
        (OwnColours(encoder, IMNET), "OwnColours.*gen_feat, query_rgb"),
        (changed, r"imnet\.layers\.1"),
        (in_encoder, r"encoder\.body\.0\.body\.1"),
        (on_instance, r"imnet\.layers\.0"),
        (without_bias, r"imnet\.layers\.2\.bias"),
    ]:
        for save in (model.save, lambda p, m=model: liif_fast.weights.checkpoints.save_official(m, p)):
            with pytest.raises(ValueError, match=f"cannot be saved.*{words}"):
                save(path)
            assert not path.exists()


@pytest.mark.parametrize("flag", ["local_ensemble", "cell_decode"])
def test_a_changed_flag_is_kept(tmp_path, flag):
    """Flags that are set on the model after it was built hold in its copies and files too."""
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}
    model = LIIF(encoder, IMNET, cell_decode=False).eval()
    if flag == "cell_decode":
        model.cell_decode, model.imnet = True, LIIF(encoder, IMNET).imnet
    else:
        model.local_ensemble = False
    model.save(tmp_path / "model.safetensors")
    again = liif_fast.load(tmp_path / "model.safetensors")
    inp, size = torch.rand(1, 3, 6, 6), (9, 9)
    assert_close(again.render(inp, size), model.render(inp, size))
    image = torch.rand(3, 6, 6)
    exact, quantized = (m.upscale(image, scale=2) for m in (model, model.quantize(image)))
    # 8-bit steps of two layers; without the flag the difference is tenfold
    assert (exact - quantized).abs().mean() < 5e-3


BASELINES = {"srcnn": {}, "metasr": {"encoder_spec": TinyEncoder()}}


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name in BASELINES for method in ("gen_feat", "query_rgb", "forward")] + [("srcnn", "render")],
)
def test_baselines(name, method):
    """Their pictures are made by render: another method is used by it, or refused."""
    plain = liif_fast.make({"name": name, "args": BASELINES[name]}).eval()
    kind = type(plain)

    def changed(self, *args, **kwargs):
        out = getattr(kind, method)(self, *args, **kwargs)
        if method == "gen_feat":
            setattr(self, "feat" if name == "metasr" else "_inp", out * 2)
        return out * 2

    model = type("Mine", (kind,), {method: changed})(**BASELINES[name]).eval()
    model.load_state_dict(plain.state_dict())
    image = torch.rand(3, 6, 6)
    coord = functional.make_coord((12, 12))[None]
    cell = torch.full_like(coord, 2 / 12)
    with torch.no_grad():
        normal = image[None] * 2 - 1
        colours = model(normal, coord, cell)
        assert (colours - plain(normal, coord, cell)).abs().max() > 1e-3
        if method in kind.bypassed:
            with pytest.raises(ValueError, match=f"Mine has a {method} of its own, which upscale does not use"):
                model.upscale(image, scale=2)
        else:
            want = (colours[0].T.unflatten(1, (12, 12)) * 0.5 + 0.5).clamp(0, 1)
            assert_close(model.upscale(image, scale=2), want, rtol=1e-4, atol=1e-5)  # float32 in other pieces


def test_threads_take_turns():
    """The methods of a subclass keep the features in the model: pictures of several threads must not mix."""
    model = OwnFeatures(TinyEncoder(), IMNET).eval()
    images = [torch.rand(3, 9, 9) for _ in range(16)]
    alone = [model.upscale(image, scale=2) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: model.upscale(image, scale=2), images))
    assert all(map(torch.equal, alone, together))


class OtherForward(LIIF):
    """A whole step of training under forward's name: no colours at coordinates."""

    def forward(self, batch):
        return super().forward(batch["inp"], batch["coord"], batch["cell"])


def test_a_forward_with_other_arguments_is_not_what_renders():
    model = OtherForward(TinyEncoder(), IMNET).eval()
    plain = LIIF(TinyEncoder(), IMNET).eval()
    plain.load_state_dict(model.state_dict())
    inp = torch.randn(1, 3, 6, 7)
    assert torch.equal(model.render(inp, (11, 13)), plain.render(inp, (11, 13)))
