"""Which shape of the fused kernel runs: the table, and the measurements that are kept."""

from __future__ import annotations

import json
import sys
import types
import warnings

import pytest
import torch

from liif_fast.head import triton
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


@pytest.mark.parametrize("D", [128, 256])
def test_rings_fit_into_shared_memory(D):
    """As deep as asked for with the official head; never as short as what a consumer multiplies before it gives a block
    back, where it would wait for ever."""
    pytest.importorskip("triton")
    from liif_fast.head.triton import partitions, render, specialised

    config = next(c for c in configs.candidates(90, "half", D) if c.structure == "gluon")

    def fitted(L, channels, cell):
        w_out = torch.empty(16 if channels <= 8 else 32, D, device="meta")
        weights, vectors, b_out = (torch.empty(shape, device="meta") for shape in ((L * D, D), (L, 1, D), (channels,)))
        head = render.Head("float", weights, weights, weights, vectors, w_out, b_out)
        return specialised.fitted(config, head, cell)

    assert fitted(3, 3, True) == fitted(3, 3, False) == config
    for cell in (True, False):
        for channels in (3, 8, 16):
            found = [fitted(L, channels, cell) for L in range(1, 300)]
            depths = [c.stages for c in found if c.structure == "gluon"]
            assert depths == sorted(depths, reverse=True)
            assert depths[-1] == partitions.FLIGHT.value + 1
            others = set(found[len(depths) :])
            assert len(others) == 1
            assert others <= set(configs.candidates(90, "half", D)) - {config}


def test_measurements_are_kept(cache):
    fast = configs.candidates(90, "half", 256)[1]
    other = configs.candidates(90, "int8", 256)[1]
    assert choices.load() == {}
    assert choices.save({"half-256": fast}) == cache
    choices.save({"int8-256": other})
    choices.save({"float32-256": None})  # plain PyTorch
    assert choices.load() == {"a card, triton 3.6.0": {"half-256": fast, "int8-256": other, "float32-256": None}}


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


def test_plain_pytorch_runs_where_it_is_faster(cache, monkeypatch):
    """By default in float32, else where it measured so; LIIF_FAST_TRITON=1 wants the kernel all the same."""
    card = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    half = configs.candidates(90, "half", 256)
    choices.choose.cache_clear()
    assert choices.choose("float32", 256, card) is None
    assert choices.choose("half", 256, card) == half[0]
    choices.save({"half-256": None, "float32-256": configs.candidates(90, "float32", 256)[0]})
    assert choices.choose("half", 256, card) is None
    assert choices.choose("float32", 256, card) == configs.candidates(90, "float32", 256)[0]
    assert choices.choose("half", 128, card) == configs.candidates(90, "half", 128)[0]
    choices.choose.cache_clear()
    monkeypatch.setattr(triton, "eligible", lambda *arguments, **named: (True, ""))
    hidden, w = torch.zeros(1, 2, 2, 256, dtype=torch.bfloat16), torch.zeros(1, 256, 256)
    given = (hidden, torch.zeros(1, 1, 2), None, torch.zeros(256, 4), w, w[0, :1], w[0, :3], w[0, 0, :3])
    run = triton.on_cuda("render", lambda *arguments: torch.ones(1))
    monkeypatch.setattr(choices, "choose", lambda kind, D, device: None if (kind, D) == ("half", 256) else half[0])
    assert run(*given).item() == 1
    monkeypatch.setenv("LIIF_FAST_TRITON", "1")
    asked = []
    module = types.SimpleNamespace(render=lambda *arguments: asked.append(arguments) or torch.zeros(1))
    monkeypatch.setitem(sys.modules, "liif_fast.head.triton.render", module)
    monkeypatch.setattr(triton, "render", module, raising=False)
    assert run(*given).item() == 0
    assert len(asked) == 1


def test_tune_names_what_is_missing(capsys):
    from liif_fast.cli import main as cli

    assert cli.main(["tune", "--device", "cpu"]) == 2
    assert "--device cpu: a CUDA device is wanted" in capsys.readouterr().err
    assert cli.main(["tune", "--width", "256", "--width", "48"]) == 2
    assert "--width 48: one of 64, 128, 256 is wanted" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert cli.main(["tune"]) == 1
        assert "there is nothing to tune: " in capsys.readouterr().err
