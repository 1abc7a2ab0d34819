"""What of the fused kernel needs neither a card nor triton: who may run it, what is chosen, what users are told."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import warnings

import pytest
import torch
from cpu_paths import sample

from liif_fast.cli import doctor
from liif_fast.head import triton
from liif_fast.head.triton import choices, configs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path))
    monkeypatch.setattr(choices, "card", lambda device=None: "a card, triton 3.6.0")
    choices._ignored.cache_clear()
    return tmp_path / "triton.json"


def _eligible(s):
    return triton.eligible(s.hidden, s.coord, s.cell, s.w_mlp, s.w_out)


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


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda s: s._replace(cell=s.cell.double()), "cell is torch.float64: float32 is wanted"),
        (lambda s: s._replace(coord=s.coord.half()), "coord is torch.float16: float32 is wanted"),
        (lambda s: s._replace(hidden=s.hidden[:, :0]), "an empty hidden map (0x7)"),
        (lambda s: s._replace(hidden=s.hidden[:, :1, :1].expand(-1, 1 << 22, -1, -1)), "sides below 4194304"),
        (lambda s: s._replace(w_out=s.w_out.to("meta")), "hidden is on cpu, another argument on meta"),
    ],
)
def test_the_reason_in_the_arguments(changed, reason, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # or the device would be the first reason
    ok, why = _eligible(changed(sample(D=64)))
    assert not ok
    assert reason in why


def test_hidden_must_lie_in_the_map():
    pytest.importorskip("triton")
    from liif_fast.head.triton import render

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "eligible", lambda *arguments: (True, ""))
        for wrong in ({"size": (5, 6)}, {"origin": (1, 0)}, {"origin": (0, -1), "size": (9, 9)}):
            with pytest.raises(ValueError, match=r"hidden \(5 x 7\) at .* must lie in a map of size"):
                render.render(*sample(D=64)._replace(**wrong))


@pytest.mark.parametrize(
    ("error", "falls_back"),
    [
        (subprocess.CalledProcessError(1, "gcc"), True),  # no Python.h
        (PermissionError("~/.triton"), True),
        (RuntimeError("PassManager::run failed"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (ValueError("size"), False),
    ],
)
def test_what_stops_the_compiler_does_not_stop_the_user(error, falls_back, monkeypatch):
    pytest.importorskip("triton")
    from liif_fast.head.triton import render

    def broken(*arguments):
        raise error

    monkeypatch.setattr(triton, "eligible", lambda *arguments: (True, ""))
    monkeypatch.setattr(render, "render", broken)
    monkeypatch.setattr(triton, "_failed", set())
    run = triton.on_cuda("render", lambda *arguments: "plain")
    if falls_back:
        with pytest.warns(UserWarning, match="does not compile, plain PyTorch runs"):
            assert run(*sample(D=64)) == "plain"
        assert run(*sample(D=64)) == "plain"  # said once
        triton._failed.clear()
        monkeypatch.setenv("LIIF_FAST_TRITON", "1")
    with pytest.raises(type(error)):
        run(*sample(D=64))


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


class PretendedGraph:
    """Runs again what was recorded, into the same memory."""

    recordings = 0

    def replay(self):
        with torch.no_grad():
            self.renderer._out.copy_(self.renderer._render(self.renderer._inp))


@pytest.fixture
def graphs(monkeypatch):
    """As much of CUDA's graphs as Renderer asks for, on the CPU."""

    class Nothing(contextlib.nullcontext):
        def wait_stream(self, other):
            pass

    @contextlib.contextmanager
    def graph(recorded):
        PretendedGraph.recordings += 1
        yield

    monkeypatch.setattr(PretendedGraph, "recordings", 0)
    for name, replacement in {
        "Stream": Nothing,
        "current_stream": Nothing,
        "stream": contextlib.nullcontext,
        "graph": graph,
        "CUDAGraph": PretendedGraph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    return PretendedGraph


def test_renderer_records_when_it_must(tiny, graphs, monkeypatch):
    model = tiny().eval()
    renderer = graphs.renderer = model.renderer((9, 8))
    kept = []

    def check(inp, recordings):
        kept.append((renderer._replay(inp), model.render(inp, (9, 8)).detach()))
        assert graphs.recordings == recordings
        for ours, want in kept:  # earlier results are not overwritten by later frames
            assert torch.equal(ours, want)

    inp = torch.rand(1, 3, 5, 6)
    check(inp, 1)
    check(torch.rand(1, 3, 5, 6), 1)  # another frame
    with torch.no_grad():
        model.imnet.layers[0].weight.mul_(0.5)
    check(inp, 1)  # new values in place
    check(torch.rand(2, 3, 5, 6), 2)  # another shape
    check(inp, 3)
    model.imnet.layers[0].weight = torch.nn.Parameter(torch.randn_like(model.imnet.layers[0].weight))
    check(inp, 4)  # other storage
    monkeypatch.setenv("LIIF_FAST_TRITON", "0")
    check(inp, 5)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "ieee" if before == "tf32" else "tf32"
        check(inp, 6)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_renderer_records_anew_after_a_failure(tiny, graphs, monkeypatch):
    model = tiny().eval()
    renderer = graphs.renderer = model.renderer((9, 8))
    inp = torch.rand(1, 3, 5, 6)

    def full(inp):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renderer, "_render", full)
        with pytest.raises(torch.OutOfMemoryError):
            renderer._replay(inp)
    assert torch.equal(renderer._replay(inp), model.render(inp, (9, 8)))


def test_tune_names_what_is_missing(capsys):
    from liif_fast.cli import main as cli

    assert cli.main(["tune", "--device", "cpu"]) == 2
    assert "--device cpu: a CUDA device is wanted" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert cli.main(["tune"]) == 1
        assert "there is nothing to tune: " in capsys.readouterr().err
