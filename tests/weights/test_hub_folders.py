"""Folders of the Hugging Face Hub's form: there and back, their card, every refusal in one line."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hub_folders import FILES, same, small

import liif_fast
from liif_fast.models.baselines.srcnn import SRCNN
from liif_fast.weights.checkpoints import CheckpointError, CheckpointNote, UnknownModelError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client():
    return pytest.importorskip("huggingface_hub", reason="the package huggingface_hub is not installed")


@pytest.fixture
def model() -> liif_fast.LIIF:
    return small()


@pytest.fixture
def folder(client, model, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "folder")
    return tmp_path / "folder"


@pytest.mark.parametrize("form", [str, Path])
def test_a_folder_there_and_back(folder, model, form):
    assert sorted(os.listdir(folder)) == FILES
    loaded = liif_fast.LIIF.from_pretrained(form(folder))
    same(loaded, model)
    assert not loaded.training
    image = torch.rand(3, 6, 7)
    assert torch.equal(loaded.upscale(image, 3), model.upscale(image, 3))
    same(liif_fast.load(folder / "model.safetensors"), model)


def test_the_weights_are_those_of_save(folder, model, tmp_path):
    model.save(tmp_path / "saved.safetensors")
    files = [safetensors.safe_open(p / n, "pt") for p, n in ((folder, FILES[2]), (tmp_path, "saved.safetensors"))]
    assert files[0].metadata() == files[1].metadata()


def test_nothing_of_the_client_stays_on_the_model(folder, model):
    loaded = liif_fast.LIIF.from_pretrained(folder)
    assert vars(loaded).keys() == vars(model).keys()
    same(pickle.loads(pickle.dumps(loaded)), model)
    same(copy.deepcopy(loaded), model)
    assert type(loaded).__mro__ == type(model).__mro__
    assert not any("hub" in kind.__module__ for kind in liif_fast.LIIF.__mro__)


def test_the_card_has_facts_and_given_figures_only(client, model, tmp_path):
    figures = {"PSNR, Set5 | x4": "32.24 dB", "images": 5}
    model.save_pretrained(tmp_path / "f", license="bsd-3-clause", figures=figures, credit="Somebody\nElse")
    card = client.ModelCard.load(tmp_path / "f" / "README.md")
    assert card.data.library_name == "liif_fast"
    assert card.data.pipeline_tag == "image-to-image"
    assert card.data.license == "bsd-3-clause"
    assert {"liif", "super-resolution"} <= set(card.data.tags)
    assert f"{sum(p.numel() for p in model.parameters()):,}" in card.text
    assert '"local_ensemble": false' in card.text
    assert "| PSNR, Set5 \\| x4 | 32.24 dB |\n| images | 5 |" in card.text
    assert "| credit | Somebody Else |" in card.text
    model.save_pretrained(tmp_path / "g")
    bare = client.ModelCard.load(tmp_path / "g" / "README.md")
    assert bare.data.license is None
    assert "Figures" not in bare.text
    assert "credit" not in bare.text


def test_a_card_that_is_there_stays_and_that_is_said(folder, model):
    (folder / "README.md").write_text("mine", encoding="utf-8")
    with pytest.warns(CheckpointNote, match=r"README\.md is there and stays"):
        model.save_pretrained(folder, license="mit")
    assert (folder / "README.md").read_text(encoding="utf-8") == "mine"


def test_a_file_of_the_cache_is_not_written_through_its_link(folder, tmp_path):
    (tmp_path / "snapshot").mkdir()
    for name in FILES:
        (tmp_path / "snapshot" / name).symlink_to(folder / name)
    before = {name: (folder / name).read_bytes() for name in FILES}
    other = small()
    with pytest.warns(CheckpointNote, match="stays as it is"):
        other.save_pretrained(tmp_path / "snapshot")
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    same(liif_fast.LIIF.from_pretrained(tmp_path / "snapshot"), other)


def test_a_quantized_model_and_a_baseline(client, model, tmp_path):
    quantized = model.quantize(torch.rand(3, 8, 8))
    quantized.save_pretrained(tmp_path / "int8")
    same(liif_fast.LIIF.from_pretrained(tmp_path / "int8"), quantized)
    network = SRCNN().eval()
    network.save_pretrained(tmp_path / "srcnn")
    same(SRCNN.from_pretrained(tmp_path / "srcnn"), network)
    with pytest.raises(CheckpointError, match="a LIIF is wanted, it holds a SRCNN"):
        liif_fast.LIIF.from_pretrained(tmp_path / "srcnn")


def test_a_model_without_spec_is_refused_before_anything_is_written(client, tiny, tmp_path):
    with pytest.raises(ValueError, match="this model has no spec"):
        tiny().save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_offline_without_a_socket(folder, model):
    code = f"""
import socket, sys
import liif_fast
assert "huggingface_hub" not in sys.modules
def refuse(*_, **__):
    raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
model = liif_fast.LIIF.from_pretrained({str(folder)!r})
model.save_pretrained({str(folder / "again")!r})
assert "huggingface_hub" in sys.modules
"""
    done = python(code, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    same(liif_fast.LIIF.from_pretrained(folder / "again"), model)


def test_without_the_client_the_extra_is_named(model_file, tmp_path):
    code = f"""
import sys
sys.modules["huggingface_hub"] = None
import liif_fast
model = liif_fast.load({str(model_file)!r})
for call in (
    lambda: model.save_pretrained({str(tmp_path / "f")!r}), lambda: model.push_to_hub("user/name"),
    lambda: liif_fast.LIIF.from_pretrained("user/name"), lambda: liif_fast.load("hf://user/name"),
):
    try:
        call()
    except (ImportError, liif_fast.CheckpointError) as error:
        print(error)
"""
    done = python(code)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all("pip install 'liif-fast[hub]'" in line for line in lines)
    assert not (tmp_path / "f").exists()


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def another_config(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["spec"]["args"]["local_ensemble"] = True
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def another_norm(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["data_norm"]["gt"]["sub"] = [0.2]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def broken_config(folder):
    (folder / "config.json").write_text('{"spec": ', encoding="utf-8")


def config_of_bytes(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")


def config_of_a_list(folder):
    (folder / "config.json").write_text("[1, 2]", encoding="utf-8")


def no_metadata(folder):
    state = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file(state, folder / "model.safetensors")


def other_weights(folder):
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}', encoding="utf-8")
    safetensors.torch.save_file({"bert.embeddings.weight": torch.zeros(2, 2)}, folder / "model.safetensors")


def cut_weights(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-7])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_weights, r"there is no model\.safetensors in it \(it holds README\.md, config\.json\)"),
        (another_config, "has another spec"),
        (another_norm, "has another data_norm"),
        (broken_config, r"its config\.json is damaged"),
        (config_of_bytes, r"its config\.json is damaged"),
        (config_of_a_list, r"its config\.json is damaged"),
        (no_metadata, "has another spec .* not None"),
        (other_weights, "not the weights of a LIIF"),
        (cut_weights, "cut short"),
    ],
)
def test_a_folder_of_something_else(folder, change, words):
    change(folder)
    with pytest.raises(CheckpointError, match=words) as caught:
        liif_fast.LIIF.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_wrong_arguments(client, folder, model, tmp_path):
    for call, kind, words in (
        (lambda: liif_fast.LIIF.from_pretrained(folder, revision="v1"), ValueError, "revision: .* is a folder"),
        (lambda: liif_fast.LIIF.from_pretrained(3), TypeError, "'user/name' or a folder is wanted"),
        (lambda: liif_fast.LIIF.from_pretrained(tmp_path / "no"), UnknownModelError, "there is no such folder"),
        (lambda: liif_fast.LIIF.from_pretrained("a/b/c"), UnknownModelError, "nor can a repository be called so"),
        (lambda: liif_fast.LIIF.from_pretrained("hf://a/b"), UnknownModelError, "'user/name' is wanted here, without"),
        (lambda: liif_fast.LIIF.from_pretrained("a/b", revision=3), TypeError, "revision: a text is wanted, got 3"),
        (lambda: model.push_to_hub(None), TypeError, "push_to_hub: 'user/name' is wanted, got None"),
        (lambda: model.push_to_hub("name"), UnknownModelError, "push_to_hub: 'user/name' is wanted, got 'name'"),
        (lambda: liif_fast.load("hf://name"), UnknownModelError, "hf://user/name is wanted"),
        (lambda: liif_fast.load("hf://a/b/c"), UnknownModelError, "hf://user/name is wanted"),
        (lambda: model.save_pretrained(tmp_path / "x", figures=[1]), TypeError, "figures: a mapping"),
        (lambda: model.save_pretrained(tmp_path / "x", license=3), TypeError, "license: a text is wanted"),
        (lambda: model.save_pretrained(folder / "config.json"), CheckpointError, r"config\.json: File exists"),
    ):
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_the_notes_of_a_file_are_said(client, tmp_path):
    """A folder whose weights somebody else has put there."""
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "no_upsampling": True}}
    averaged = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [8]}}).state_dict()
    state = {f"ema.{key}": t for key, t in averaged.items()} | {key: t + 1 for key, t in averaged.items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.warns(CheckpointNote, match="averaged weights"):
        loaded = liif_fast.LIIF.from_pretrained(tmp_path)
    assert torch.equal(loaded.state_dict()["imnet.layers.0.bias"], averaged["imnet.layers.0.bias"])
