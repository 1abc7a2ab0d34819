"""LIIF and LTE through the real spandrel: every form of file, ``liif_fast.load``'s numbers, what stays others'."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import swinir_weights
import torch

import liif_fast
from liif_fast.integrations import spandrel as ours
from liif_fast.weights import checkpoints


@pytest.fixture(scope="module")
def spandrel():
    """The package, with LIIF. torchvision's wheels load beside a torch of the same build only; spandrel takes three
    functions from it, for LaMa and RestoreFormer, which are not called here: where it fails, they are names alone."""
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed; tools/check_spandrel.sh brings it")
    stand_ins = {}
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        stand_ins = {name: ModuleType(name) for name in names}
        vars(stand_ins[names[-1]]).update(normalize=None, rotate=None, InterpolationMode=None)
    sys.modules.update(stand_ins)
    found = importlib.import_module("spandrel")
    for name in stand_ins:  # other packages look for torchvision too
        del sys.modules[name]
    ours.install()
    return found


@pytest.fixture
def load(spandrel):
    return spandrel.ModelLoader("cpu").load_from_file


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 9, 13)


def small(**args) -> liif_fast.LIIF:
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 64, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}}
    return liif_fast.make({"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet, **args}}).eval()


LTE_HEADS = {
    "lte": {"imnet_spec": {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}}, "hidden_dim": 32},
    "lte-fast": {"num_layer": 1, "hidden_dim": 32},
}
LTE_ENCODERS = (
    {"name": "edsr-baseline", "args": {"n_resblocks": 1, "no_upsampling": True}},
    {"name": "swinir", "args": {**swinir_weights.SMALL, "no_upsampling": True}},
)


def lte(head, encoder) -> liif_fast.LIIF:
    return liif_fast.make({"name": head, "args": {"encoder_spec": encoder, **LTE_HEADS[head]}}).eval()


def same(descriptor, model, image) -> None:
    assert type(descriptor.model) is type(model)
    assert torch.equal(descriptor(image), model.upscale(image, 4))


def test_the_official_file(load, spandrel, data_dir, official, image):
    descriptor = load(data_dir / "weights" / "edsr-baseline-liif.pth")
    assert isinstance(descriptor, spandrel.ImageModelDescriptor)
    assert (descriptor.scale, descriptor.purpose, descriptor.architecture.id) == (4, "SR", "LIIF")
    assert (descriptor.input_channels, descriptor.output_channels) == (3, 3)
    assert descriptor.tiling == spandrel.ModelTiling.INTERNAL
    assert descriptor.dtype == torch.float32
    same(descriptor, official, image)
    assert descriptor(image).shape == (1, 3, 36, 52)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_flat_state_dicts(load, tmp_path, image, suffix, prefix):
    model, path = small(), tmp_path / f"flat{suffix}"
    state = {prefix + key: t for key, t in model.state_dict().items()}
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)(state, path)
    same(load(path), model, image)


def test_averaged_weights_are_preferred_as_everywhere(load, tmp_path, image):
    raw, averaged = small(), small()
    torch.save({"state_dict": raw.state_dict(), "ema_state_dict": averaged.state_dict()}, tmp_path / "ema.pth")
    with pytest.warns(checkpoints.CheckpointNote, match="averaged weights"):
        descriptor = load(tmp_path / "ema.pth")
    same(descriptor, averaged, image)


@pytest.mark.parametrize("kind", ["safetensors", "official"])
def test_what_only_the_file_says_is_honoured(load, tmp_path, monkeypatch, image, kind):
    model = small(local_ensemble=False)
    model.data_norm = {"inp": {"sub": [0.4], "div": [0.3]}, "gt": {"sub": [0.1], "div": [0.5]}}
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.pth")
    (checkpoints.save if kind == "safetensors" else checkpoints.save_official)(model, path)
    monkeypatch.chdir(tmp_path)
    descriptor = load(path.name)
    assert descriptor.model.data_norm == model.data_norm
    assert not descriptor.model.local_ensemble
    same(descriptor, model, image)


@pytest.mark.parametrize("kind", ["flat", "official"])
def test_a_state_dict_without_its_file(spandrel, image, kind):
    model = small()
    state = model.state_dict() if kind == "flat" else {"model": {**model.spec, "sd": model.state_dict()}, "epoch": 3}
    same(spandrel.ModelLoader().load_from_state_dict(state), model, image)


def test_a_state_dict_that_is_changed_after_it_was_read_is_what_counts(spandrel, tmp_path, image):
    model, path, loader = small(), tmp_path / "model.safetensors", spandrel.ModelLoader()
    model.data_norm = {"inp": {"sub": [0.4], "div": [0.3]}, "gt": {"sub": [0.1], "div": [0.5]}}
    model.save(path)
    state = loader.load_state_dict_from_file(path)
    small().save(path)  # another one, after that
    state["imnet.layers.4.bias"] = model.imnet.layers[4].bias.data.add_(0.25)
    same(loader.load_from_state_dict(state), model, image)
    path.unlink()
    same(loader.load_from_state_dict(state), model, image)


def test_any_scale_through_the_descriptor(load, tmp_path, image):
    model = small()
    model.save(tmp_path / "model.safetensors")
    descriptor = load(tmp_path / "model.safetensors")
    assert torch.equal(descriptor.upscale(image, scale=1.7), model.upscale(image, scale=1.7))
    assert torch.equal(descriptor.upscale(image, size=(20, 30)), model.upscale(image, size=(20, 30)))
    descriptor.scale = 2.5
    assert torch.equal(descriptor(image), model.upscale(image, 2.5))
    descriptor.scale = -1
    with pytest.raises(ValueError, match="scale"):
        descriptor(image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(load, data_dir, image, dtype):
    descriptor = load(data_dir / "weights" / "edsr-baseline-liif.pth")
    exact = descriptor(image)
    half = descriptor.to(dtype)(image.to(dtype))
    assert (half.dtype, descriptor.dtype) == (dtype, dtype)
    assert (half.float() - exact).abs().max() < 0.04
    assert 0 <= half.min() <= half.max() <= 1


def test_every_size_and_a_second_image(load, tmp_path):
    small().save(tmp_path / "model.safetensors")
    descriptor = load(tmp_path / "model.safetensors")
    for size in ((1, 1), (3, 70), (70, 3), (64, 64)):
        assert descriptor(torch.rand(1, 3, *size)).shape == (1, 3, 4 * size[0], 4 * size[1])


def test_a_quantized_model(load, spandrel, tmp_path, image):
    quantized = small().quantize(image)
    quantized.save(tmp_path / "int8.safetensors")
    descriptor = load(tmp_path / "int8.safetensors")
    same(descriptor, quantized, image)
    with pytest.raises(spandrel.UnsupportedDtypeError):
        descriptor.half()


@pytest.mark.parametrize("encoder", LTE_ENCODERS, ids=lambda spec: spec["name"])
@pytest.mark.parametrize("head", LTE_HEADS)
@pytest.mark.parametrize("kind", ["own", "official", "flat"])
def test_an_lte(load, tmp_path, image, head, encoder, kind):
    model, path = lte(head, encoder), tmp_path / f"lte{'.safetensors' if kind == 'own' else '.pth'}"
    write = {"own": checkpoints.save, "official": checkpoints.save_official}
    write.get(kind, lambda model, path: torch.save(model.state_dict(), path))(model, path)
    descriptor = load(path)
    same(descriptor, model, image)
    assert (descriptor.architecture.id, descriptor.output_channels) == ("LIIF", 3)
    assert descriptor.tags == [type(model).__name__, type(model.encoder).__name__, "any scale"]
    assert torch.equal(descriptor.upscale(image, scale=1.7), model.upscale(image, scale=1.7))
    assert descriptor.to(torch.bfloat16)(image.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("encoder", LTE_ENCODERS, ids=lambda spec: spec["name"])
@pytest.mark.parametrize("head", LTE_HEADS)
def test_an_lte_is_recognised(head, encoder, image):
    model = lte(head, encoder)
    official = {"name": model.spec["name"], "args": model.spec["args"], "sd": model.state_dict()}
    for state in (model.state_dict(), {"model": official}, official):
        assert ours._is_liif(state)
        assert torch.equal(ours._load(state).upscale(image, 2), model.upscale(image, 2))


def test_half_an_lte_and_what_has_more_are_none():
    whole, plain = lte("lte", LTE_ENCODERS[0]).state_dict(), small().state_dict()
    for part in ("coef.", "freq.", "phase.", "encoder.", "imnet."):
        assert not ours._is_liif({key: t for key, t in whole.items() if not key.startswith(part)})
    for extra in ("coef.weight", "layers.0.weight", "gamma", "act_scale.weight"):
        assert not ours._is_liif({**plain, extra: torch.zeros(3)})
    assert ours._is_liif({**plain, "act_scale": torch.zeros(2)})


def test_installing_again_changes_nothing(spandrel):
    before = len(spandrel.MAIN_REGISTRY), spandrel.ModelLoader.load_state_dict_from_file
    ours.install()
    assert (len(spandrel.MAIN_REGISTRY), spandrel.ModelLoader.load_state_dict_from_file) == before


def other_models(spandrel):
    arch = spandrel.architectures
    return {
        "Compact": arch.Compact.Compact(num_feat=8, num_conv=2),
        "ESRGAN": arch.ESRGAN.ESRGAN(num_filters=8, num_blocks=1),
        "RCAN": arch.RCAN.RCAN(n_resgroups=1, n_resblocks=1, n_feats=16),
        "DnCNN": arch.DnCNN.DnCNN(),
        "SwinIR": arch.SwinIR.SwinIR(depths=[1], num_heads=[1], embed_dim=8),
    }


@pytest.mark.parametrize("name", ["Compact", "ESRGAN", "RCAN", "DnCNN", "SwinIR"])
def test_files_of_other_architectures_stay_theirs(spandrel, load, tmp_path, name):
    model = other_models(spandrel)[name]
    torch.save(model.state_dict(), tmp_path / "other.pth")
    state = spandrel.ModelLoader().load_state_dict_from_file(tmp_path / "other.pth")
    assert type(state) is dict or type(state).__name__ == "OrderedDict"
    assert not ours._is_liif(state)
    assert load(tmp_path / "other.pth").architecture.id == name


def test_no_other_architecture_takes_a_liif(spandrel, data_dir):
    state = spandrel.ModelLoader().load_state_dict_from_file(data_dir / "weights" / "edsr-baseline-liif.pth")
    official = {"name": "liif", "args": {}, "sd": dict(state)}  # without its file
    found = [[a.architecture.id for a in spandrel.MAIN_REGISTRY if a.detect(s)] for s in (state, official)]
    assert found == [["LIIF"], ["LIIF"]]


@pytest.mark.parametrize("extra", ["coef.weight", "tail.0.weight", "decoder.0.weight"])
def test_relatives_of_liif_are_not_taken(spandrel, load, tmp_path, extra):
    torch.save({**small().state_dict(), extra: torch.zeros(3)}, tmp_path / "relative.pth")
    with pytest.raises(spandrel.UnsupportedModelError):
        load(tmp_path / "relative.pth")


def test_an_edsr_alone_is_not_taken(spandrel, load, tmp_path):
    torch.save(small().encoder.state_dict(), tmp_path / "edsr.pth")
    with pytest.raises(spandrel.UnsupportedModelError):
        load(tmp_path / "edsr.pth")


def damaged(state):
    del state["imnet.layers.0.bias"]


def narrow(state):
    state["imnet.layers.0.weight"] = state["imnet.layers.0.weight"][:, :-1].clone()


@pytest.mark.parametrize("change", [damaged, narrow])
def test_what_liif_fast_refuses_is_refused_with_its_line(spandrel, load, tmp_path, change):
    state = small().state_dict()
    change(state)
    path = tmp_path / "bad.pth"
    torch.save(state, path)
    with pytest.raises(checkpoints.CheckpointError) as want:
        liif_fast.load(path)
    with pytest.raises(checkpoints.CheckpointError) as got:
        load(path)
    assert str(got.value) == str(want.value)
    with pytest.raises(checkpoints.CheckpointError, match="the state dict: "):
        spandrel.ModelLoader().load_from_state_dict(state)


def test_another_number_of_channels_is_refused(load, tmp_path):
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 1, "hidden_list": [16]}})
    model.save(tmp_path / "grey.safetensors")
    with pytest.raises(ValueError, match="puts out 1 channels"):
        load(tmp_path / "grey.safetensors")


def test_without_the_package_the_extra_is_named():
    code = (
        "import sys; sys.modules['spandrel'] = None\n"
        "import liif_fast.integrations.spandrel as ours\n"
        "try:\n    ours.install()\nexcept ImportError as error:\n    print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert "pip install 'liif-fast[spandrel]'" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1
