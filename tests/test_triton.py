"""What of the fused kernel needs neither a card nor triton: who may run it, what is chosen, what users are told."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
import torch
from cpu_paths import sample

from liif_fast import doctor, triton
from liif_fast.triton import choices, configs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(choices, "card", lambda device=None: "a card, triton 3.6.0")
    choices._ignored.cache_clear()
    return tmp_path / "triton.json"


def _eligible(s):
    return triton.eligible(s.hidden, s.coord, s.w_mlp, s.w_out)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"D": 48}, "hidden layers of 48 units: 64, 128, 256 are supported"),
        ({"D": 64, "L": 0}, "no hidden layer"),
        ({"D": 64, "out": 17}, "17 output channels: at most 16"),
        ({"D": 64, "dtype": torch.float64}, "float64: float32, bfloat16 or float16 is wanted"),
        ({"D": 64}, "hidden is on cpu: a CUDA device is wanted"),
    ],
)
def test_the_reason_why_not(changed, reason):
    ok, why = _eligible(sample(**changed))
    assert not ok
    assert reason in why


def test_what_is_missing_is_named(monkeypatch):
    triton.available.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert triton.available() == (False, "triton is not installed: pip install triton")
    triton.available.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(triton.eligible.__globals__["importlib"].metadata, "version", lambda name: "3.5.1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert triton.available() == (False, "triton 3.5 is older than 3.6: pip install --upgrade triton")
    triton.available.cache_clear()


def test_doctor_says_it(monkeypatch):
    assert triton.implementation() in doctor.text(doctor.facts())
    monkeypatch.setenv("LIIF_FAST_TRITON", "0")
    assert triton.implementation() == "plain PyTorch: the fused kernel is switched off by LIIF_FAST_TRITON=0"
    monkeypatch.setenv("LIIF_FAST_TRITON", "yes")
    with pytest.raises(ValueError, match="LIIF_FAST_TRITON=yes: 0, 1 or auto is wanted"):
        triton.implementation()


def test_insisting_gives_the_reason_and_otherwise_plain_runs(monkeypatch):
    s = sample(D=48)
    run = triton.on_cuda("render", lambda *arguments: "plain")
    monkeypatch.setenv("LIIF_FAST_TRITON", "1")
    with pytest.raises(RuntimeError, match=r"LIIF_FAST_TRITON=1, but .* hidden layers of 48 units"):
        run(*s)
    for value in ("auto", "0"):
        monkeypatch.setenv("LIIF_FAST_TRITON", value)
        assert run(*s) == "plain"


def test_registered_for_cuda_only():
    for name in triton.OPERATORS:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"liif_fast::{name}", "CUDA")


def test_the_package_imports_without_triton():
    code = "import liif_fast, sys; assert 'triton' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


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
        ('{"version": 99, "cards": {}}', "version 99, 1 is wanted"),
        ('{"version": 1, "cards": {"a": {"half-256": {"rows": 4}}}}', "TypeError"),
        ('{"version": 1, "cards": {"a": {"half-48": CONFIG}}}', "half-48 is no kind of numbers and width"),
        ('{"version": 1, "cards": {"a": {"int8-256": UNKNOWN}}}', "does not know"),
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


def test_renderer_on_the_cpu_is_render(tiny):
    model = tiny().eval()
    renderer = model.renderer((19, 23))
    for shape in [(1, 3, 7, 9), (2, 3, 5, 4)]:
        inp = torch.rand(shape)
        assert torch.equal(renderer(inp), model.render(inp, (19, 23)))
    with pytest.raises(ValueError, match="size"):
        model.renderer((0, 4))
    half = model.renderer((19, 23), dtype=torch.bfloat16)(inp)
    # features and layers rounded to 8 bits
    torch.testing.assert_close(half, model.render(inp, (19, 23)), rtol=0, atol=2e-2)
    assert not torch.equal(half, renderer(inp))


def test_tune_names_what_is_missing(capsys):
    from liif_fast import cli

    assert cli.main(["tune", "--device", "cpu"]) == 2
    assert "--device cpu: a CUDA device is wanted" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert cli.main(["tune"]) == 1
        assert "there is nothing to tune: " in capsys.readouterr().err
