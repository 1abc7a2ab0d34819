"""Damaged copies of whole checkpoints: refused in one line, or the weights are those of the whole one to the bit.

The old form of torch has no checksums: there a changed byte of a weight is that weight, and nothing else may change.
"""

from __future__ import annotations

import itertools
import time

import checkpoint_mutants
import pytest
import torch

import liif_fast
from liif_fast import CheckpointError

COUNT = 60  # of each form
SECONDS = 10  # of the processor, against a hang; each takes a few thousandths


def bytes_of(model):
    return torch.cat([t.contiguous().view(torch.uint8).flatten() for t in model.state_dict().values()])


def tried(path):
    """The model, or the refusal."""
    try:
        return liif_fast.load(path), None
    except CheckpointError as error:
        return None, str(error)


@pytest.mark.parametrize("form", checkpoint_mutants.FORMS)
def test_damaged_copies(form, tmp_path):
    whole = checkpoint_mutants.content(form, tmp_path)
    path, refused = tmp_path / "m.pth", 0
    path.write_bytes(whole)
    good = liif_fast.load(path)
    cuts = ((f"cut at {n}", whole[:n]) for n in (1, 9, len(whole) // 3, 2 * len(whole) // 3, len(whole) - 1))
    for what, data in (*cuts, *itertools.islice(checkpoint_mutants.mutants(whole, seed=7), COUNT)):
        path.write_bytes(data)
        begun = time.process_time()
        model, error = tried(path)
        if model is None:
            refused += 1
            assert error.startswith(f"{path}: "), what
            assert "\n" not in error, what
            assert len(error) < 600, what
        else:
            assert not what.startswith("cut"), what
            assert model.spec == good.spec, what
            assert model.data_norm == good.data_norm, what
            assert model.state_dict().keys() == good.state_dict().keys(), what
            changed = (bytes_of(model) != bytes_of(good)).sum().item()
            may = sum(a != b for a, b in zip(data, whole, strict=True)) if form == "legacy" and changed else 0
            assert changed <= may, what
        assert time.process_time() - begun < SECONDS, what
    assert refused > COUNT // 2


@pytest.mark.parametrize("form", checkpoint_mutants.FORMS)
def test_cut_files_are_said_to_be_cut(form, tmp_path):
    whole = checkpoint_mutants.content(form, tmp_path)
    path = tmp_path / "m.pth"
    for share in (0.3, 2 / 3, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match=r"m\.pth: it is cut short.*fetch it again"):
            liif_fast.load(path)


@pytest.mark.parametrize(
    ("form", "what"),
    [
        ("zip", "weights"),
        ("zip", b"n_resblocks"),
        ("safetensors", "weights"),
        ("safetensors", b"n_resblocks"),
        ("safetensors", b"data_norm"),
        ("safetensors", b'"liif_fast"'),
        ("safetensors", b'"liif_fast_sha256"'),
    ],
)
def test_one_flipped_bit_is_noticed(form, what, tmp_path):
    """In a weight, in what is said of the model, and in the names under which liif_fast finds that and the hash."""
    path = tmp_path / "m"
    whole = checkpoint_mutants.content(form, tmp_path)
    path.write_bytes(whole)
    if what == "weights":
        what = liif_fast.load(path).state_dict()["imnet.layers.0.weight"].numpy().tobytes()
    at = whole.index(what) + len(what) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :])
    with pytest.raises(CheckpointError, match=r"m: it is .*(checksum|hash)|metadata is damaged \(its hash is missing"):
        liif_fast.load(path)
