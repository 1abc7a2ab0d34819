"""Models from and to a hub in this process: its cache, its revisions, its refusals, the command."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from command import outcome, photo
from hub_folders import FILES, same, small
from hub_server import COMMIT, hub

import liif_fast
from liif_fast.cli import compare
from liif_fast.weights.checkpoints import CheckpointError, UnknownModelError


@pytest.fixture(scope="module")
def client():
    return pytest.importorskip("huggingface_hub", reason="the package huggingface_hub is not installed")


@pytest.fixture
def model() -> liif_fast.LIIF:
    return small()


@pytest.fixture
def served(client, model, tmp_path, monkeypatch):
    """user/name and user/gated on a hub, and a cache of their own; yields (folder of user/name, what is asked)."""
    for name in ("name", "gated"):
        model.save_pretrained(tmp_path / "hub" / "user" / name)
    with hub(tmp_path / "hub") as (address, asked):
        monkeypatch.setattr(client.constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(client.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(client.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield tmp_path / "hub" / "user" / "name", asked


def test_a_repository_its_cache_and_its_revisions(client, served, model, monkeypatch):
    _, asked = served
    same(liif_fast.LIIF.from_pretrained("user/name"), model)
    assert any("/resolve/" in line for line in asked)
    assert not any("README" in line for line in asked)  # nothing that is not needed
    same(liif_fast.load("hf://user/name"), model)
    same(liif_fast.LIIF.from_pretrained("user/name", revision="v1"), model)
    same(liif_fast.load(f"hf://user/name@{COMMIT}"), model)
    before = len(asked)
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", True)
    same(liif_fast.load("hf://user/name"), model)
    same(liif_fast.LIIF.from_pretrained("user/name", local_files_only=True), model)
    assert len(asked) == before


def test_an_address_is_never_a_folder(served, model, tmp_path, monkeypatch):
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(other.imnet.layers[0].weight)
    other.save_pretrained(tmp_path / "user" / "name")
    monkeypatch.chdir(tmp_path)
    same(liif_fast.LIIF.from_pretrained("user/name"), other)
    same(liif_fast.load("hf://user/name"), model)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("user/absent", UnknownModelError, "there is no such repository"),
        ("user/name@v7", UnknownModelError, "it has no such revision"),
        ("user/gated", CheckpointError, "its authors ask for a consent"),
    ],
)
def test_what_the_hub_refuses(served, name, kind, words):
    with pytest.raises(kind, match=words) as caught:
        liif_fast.load(f"hf://{name}")
    assert "\n" not in str(caught.value)
    assert type(caught.value) is kind


def test_a_repository_without_weights(served):
    folder, _ = served
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"user/name: there is no model\.safetensors in it"):
        liif_fast.load("hf://user/name")


def test_no_network_and_nothing_in_the_cache(client, served, monkeypatch):
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="not in the hub's cache, and the hub cannot be reached"):
        liif_fast.load("hf://user/name")
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(client.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="not in the hub's cache, and the hub cannot be reached"):
        liif_fast.load("hf://user/name")


def test_the_command(served, tmp_path, capsys):
    picture = photo(tmp_path / "photo.png")
    code, _, err = outcome(capsys, "upscale", picture, "-s", 2, "-m", "hf://user/name@v1", "-o", tmp_path / "large.png")
    assert code == 0, err
    assert (tmp_path / "large.png").is_file()
    assert "Fetching" not in err
    code, out, _ = outcome(capsys, "info", "hf://user/name", "--json")
    assert code == 0
    assert json.loads(out)["class"] == "LIIF"
    code, _, err = outcome(capsys, "upscale", picture, "-s", 2, "-m", "hf://user/absent", "-o", tmp_path / "b.png")
    assert code == 2
    assert "user/absent: there is no such repository" in err


def test_what_compare_calls_it():
    labels = compare._labels(["hf://user/name@v1.0", "other=hf://user/name"])
    assert labels == {"name@v1.0": "hf://user/name@v1.0", "other": "hf://user/name"}


def test_what_is_pushed(client, model, monkeypatch):
    pushed = {}

    def create(self, repo_id, **options):
        pushed["made"] = (repo_id, options["private"], options["exist_ok"])
        return type("Url", (), {"repo_id": repo_id})

    def upload(self, *, repo_id, folder_path, revision, commit_message, **_):
        pushed.update(repo=repo_id, branch=revision, message=commit_message, files=sorted(os.listdir(folder_path)))
        pushed["model"] = liif_fast.LIIF.from_pretrained(folder_path)
        pushed["card"] = client.ModelCard.load(Path(folder_path) / "README.md").text
        return "https://hub/commit"

    monkeypatch.setattr(client.HfApi, "create_repo", create)
    monkeypatch.setattr(client.HfApi, "upload_folder", upload)
    address = model.push_to_hub("user/new", private=True, branch="dev", commit_message="first", figures={"dB": 3})
    assert address == "https://hub/commit"
    assert pushed["made"] == ("user/new", True, True)
    assert (pushed["repo"], pushed["branch"], pushed["message"], pushed["files"]) == ("user/new", "dev", "first", FILES)
    same(pushed["model"], model)
    assert 'liif_fast.load("hf://user/new")' in pushed["card"]
    assert "| dB | 3 |" in pushed["card"]


def test_nothing_is_pushed_where_it_cannot_be(client, served, tiny, model, monkeypatch):
    with pytest.raises(ValueError, match="this model has no spec"):
        tiny().push_to_hub("user/new")
    assert not [line for line in served[1] if line.startswith("POST")]
    with pytest.raises(CheckpointError, match=r"user/new: the hub refuses: .*401.*; where .*: hf auth login") as caught:
        model.push_to_hub("user/new")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="user/new: the hub cannot be reached: HF_HUB_OFFLINE") as caught:
        model.push_to_hub("user/new")
    assert "\n" not in str(caught.value)
