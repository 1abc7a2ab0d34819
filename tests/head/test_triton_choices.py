"""Which shape of the fused kernel runs: the table, and the measurements that are kept."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from liif_fast.head.triton import choices, configs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(choices, "card", lambda device=None: "a card, triton 3.6.0")
    choices._ignored.cache_clear()
    return tmp_path / "triton.json"


@pytest.mark.parametrize(
    ("capability", "family"),
    [
        ((8, 0), 80),
        ((8, 6), 89),
        ((8, 7), 80),
        ((8, 9), 89),
        ((9, 0), 90),
        ((10, 3), 100),
        ((12, 1), 120),
        ((13, 0), 120),
    ],
)
def test_architectures(capability, family):
    assert configs.family(capability) == family


def test_table_is_complete():
    for architecture in configs.SHARED:
        for kind in configs.KINDS:
            for D in configs.WIDTHS:
                found = configs.candidates(architecture, kind, D)
                assert len(set(found)) == len(found) > 0
                for c in found:
                    assert D % c.piece == 0
                    assert D % c.chunk == 0
                    assert not c.tma or architecture >= 90


def test_measurements_are_kept(cache):
    fast = configs.candidates(90, "half", 256)[1]
    other = configs.candidates(90, "int8", 256)[1]
    assert choices.load() == {}
    assert choices.save({"half-256": fast}) == cache
    choices.save({"int8-256": other})
    assert choices.load() == {"a card, triton 3.6.0": {"half-256": fast, "int8-256": other}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"version": 99, "cards": {}}', "version 99, 2 is wanted"),
        ('{"version": 2, "cards": {"a": {"half-256": {"rows": 4}}}}', "TypeError"),
        ('{"version": 2, "cards": {"a": {"half-48": CONFIG}}}', "half-48 is no kind of numbers and width"),
        ('{"version": 2, "cards": {"a": {"int8-256": UNKNOWN}}}', "does not know"),
    ],
)
def test_a_damaged_file_is_ignored_with_one_warning(cache, text, reason):
    good = configs.candidates(90, "half", 256)[0]
    text = text.replace("CONFIG", json.dumps(good._asdict()))
    cache.write_text(text.replace("UNKNOWN", json.dumps(good._replace(rows=512)._asdict())))
    with pytest.warns(UserWarning, match=reason):
        assert choices.load() == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choices.load() == {}
    choices.save({"half-256": good})
    assert choices.load() == {"a card, triton 3.6.0": {"half-256": good}}


def test_tune_names_what_is_missing(capsys):
    from liif_fast.cli import main as cli

    assert cli.main(["tune", "--device", "cpu"]) == 2
    assert "--device cpu: a CUDA device is wanted" in capsys.readouterr().err
    assert cli.main(["tune", "--width", "256", "--width", "48"]) == 2
    assert "--width 48: one of 64, 128, 256 is wanted" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert cli.main(["tune"]) == 1
        assert "there is nothing to tune: " in capsys.readouterr().err
