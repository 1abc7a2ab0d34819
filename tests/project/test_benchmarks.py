"""The benchmarks are honest: a wrong contender is refused, rows say what README says, every case runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import official_configs
import pytest
import torch

import liif_fast
from liif_fast.head import precision
from liif_fast.head.triton.configs import Config
from liif_fast.weights import checkpoints

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
sys.path.insert(0, str(FOLDER))

import cases  # noqa: E402
import gauge  # noqa: E402
import measure  # noqa: E402
import one  # noqa: E402
import readme  # noqa: E402
import readme_gpu  # noqa: E402
import readme_machines  # noqa: E402
import rows  # noqa: E402
import speed  # noqa: E402
from measure import Bar, Case, Contender  # noqa: E402

CPU = torch.device("cpu")


class Counted:
    """A contender's run that remembers its inputs."""

    def __init__(self, result):
        self.result, self.inputs = result, []

    def __call__(self, i):
        self.inputs.append(i)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def planted(**wrong):
    right = Counted(torch.ones(3))
    runs = {"reference": right, "right": Counted(torch.ones(3) + 1e-6)} | {k: Counted(v) for k, v in wrong.items()}
    found = [Contender(name, "float32", run, 1e-5, {"float32": 1e6}) for name, run in runs.items()]
    return Case("planted", found, [Bar(("right", "float32"), "faster than", ("reference", "float32"), 1e-9)]), runs


@pytest.mark.parametrize(
    "wrong", [torch.ones(3) + 1e-3, torch.full((3,), float("nan")), torch.ones(4), ValueError("no")]
)
def test_a_wrong_contender_is_refused_and_not_timed(wrong, capsys):
    case, runs = planted(wrong=wrong)
    found = measure.measure(case, 4, CPU, {"float32": 1e12})
    reference, right, row = found
    assert not row["ok"]
    assert "median" not in row
    assert "ratio" not in row
    assert runs["wrong"].inputs == [0]  # checked, and never again
    assert right["ok"]
    assert right["median"] > 0
    assert right["share"] == pytest.approx(1e-6 / right["median"])
    assert right["q20"] <= right["median"] <= right["q80"]
    assert reference["ratio"] == 1
    assert set(runs["right"].inputs) == set(range(measure.INPUTS))  # inputs rotate
    speed.say("planted", {**row, "dtype": "float32"})
    said = capsys.readouterr().out
    assert "WRONG" in said or "FAILED" in said
    assert " ms" not in said


def test_the_program_ends_with_an_error_for_it(monkeypatch, capsys, tmp_path):
    case, _ = planted(wrong=torch.zeros(3))

    def not_built(model, setup):
        raise RuntimeError("out of memory")
        yield

    monkeypatch.setitem(speed.CASES, "planted", lambda model, setup: iter([case]))
    monkeypatch.setattr(speed.liif_fast, "load", lambda *a, **k: torch.nn.Identity())
    monkeypatch.setitem(speed.CASES, "not built", not_built)
    command = ["speed.py", "not built", "planted", "--rounds", "2", "--json", str(tmp_path / "rows.jsonl")]
    monkeypatch.setattr(sys, "argv", command)
    grad = torch.is_grad_enabled()
    try:
        with pytest.raises(SystemExit) as exit_code:
            speed.main()
    finally:
        torch.set_grad_enabled(grad)
    assert exit_code.value.code == 1
    said = capsys.readouterr().out
    assert "WRONG by 1.0e+00: not timed" in said
    assert "not built FAILED: RuntimeError: out of memory" in said
    assert "3 rows, 2 wrong; bars: 1 met, 0 not, 0 not measured" in said
    written = rows.load(tmp_path / "rows.jsonl")
    assert [row.get("contender") for row in written] == ["reference", "right", "wrong", None]
    assert written[3]["met"] is True
    for key in ("cpu", "torch", "commit", "case", "dtype", "median", "q20", "q80", "error", "share", "peak", "run"):
        assert key in written[1]


def test_bars():
    found = [
        {"contender": "a", "dtype": "x", "median": 6.0, "ratio": 1.0, "peak": 100, "error": 0.0, "share": None},
        {"contender": "b", "dtype": "x", "median": 2.0, "ratio": 2.5, "peak": 20, "error": 1e-3, "share": 0.5},
        {"contender": "c", "dtype": "x", "median": 1.0, "ratio": 6.0, "peak": 40, "error": 4e-3, "share": 0.25},
        {"contender": "wrong", "dtype": "x", "error": 1.0},
    ]

    def judged(name, quantity, than, bound):
        bar = Bar((name, "x"), quantity, than and (than, "x"), bound).judge(found)
        return bar["value"], bar["met"]

    assert judged("b", "faster than", "a", 3) == (2.5, False)  # of the rounds' ratios, not 6 / 2
    assert judged("c", "faster than", "b", 2) == (2.0, True)
    assert judged("b", "memory of", "a", 0.25) == (0.2, True)
    assert judged("c", "memory of", "a", 0.25) == (0.4, False)
    assert judged("c", "memory", None, 50) == (40, True)
    assert judged("c", "error of", "b", 2) == (4.0, False)
    assert judged("b", "share", None, 0.6) == (0.5, False)
    assert judged("b", "per second", None, 0.4) == (0.5, True)
    assert judged("wrong", "faster than", "a", 1) == (None, None)
    assert judged("not there", "share", None, 1) == (None, None)


def test_memory_counts_what_a_run_takes():
    peak = measure.Peak(CPU)
    if peak.before is None:
        pytest.skip("this system does not count")
    torch.ones(1 << 24).sum()
    # 64 MiB, and what else the process did meanwhile; counters lag by some pages
    assert 60 << 20 < peak() < 90 << 20


def test_slopes_and_comparison():
    def row(case, median, ratio=None, **more):
        return {"case": case, "contender": "a", "dtype": "x", "median": median, "q20": median, "q80": median,
                "ratio": ratio, **more}  # fmt: skip

    points = [row(f"queries 10^{p}", 1e-3 * 10**p, queries=10**p) for p in (4, 5, 7)]
    assert rows.slopes(points) == {"a x": pytest.approx(1.0)}
    before, after = [row("one", 2.0, 4.0), row("gone", 1.0)], [row("one", 1.0, 5.0), row("new", 1.0)]
    text = "\n".join(rows.compare(before, after))
    assert "4.00, 5.00 (+25%)  differs" in text
    assert "only in A: gone | a | x" in text
    assert "only in B: new | a | x" in text


def test_rows_that_are_none_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"case": "one"}\n\n[1]\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 3: not a row"):
        rows.load(path)


def test_readme_says_what_the_rows_say(tmp_path):
    assert readme.stale() == []
    other = tmp_path / "speed.md"
    text = readme.ROOT.joinpath("docs", "speed.md").read_text(encoding="utf-8")
    marked = [set(re.findall(r"<!-- rows: (\w+) -->", file.read_text())) for file in readme.FILES]
    assert {*readme.BLOCKS, *readme_gpu.BLOCKS, readme_machines.NAME} == set.union(*marked)
    start = text.index("<!-- rows: head -->")
    digit = next(i for i in range(start, len(text)) if text[i : i + 3] == " s " or text[i : i + 4] == " ms ") - 1
    other.write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    assert readme.stale(files=[other]) == [str(other)]


@pytest.mark.long
def test_every_kind_of_case_runs_and_is_drawn(tmp_path):
    """Small, on the CPU, with weights of its own; without those that compile, which take a minute, and those that
    test_gpu_calls.py runs."""
    command = [sys.executable, str(FOLDER / "speed.py"), "upscale", "tiles", "queries", "--tiny"]
    command += ["--device", "cpu", "--rounds", "2", "--json", str(tmp_path / "rows.jsonl"), "--plot", str(tmp_path)]
    done = subprocess.run([*command, "--model", weights(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    assert "FAILED" not in done.stdout
    for name in ("throughput.png", "size.png", "memory.png"):
        assert (tmp_path / name).stat().st_size > 1000
    written = rows.load(tmp_path / "rows.jsonl")
    assert all(row["ok"] and row["tiny"] and row["median"] > 0 for row in written)
    assert {row["dtype"] for row in written} == {"float32", "bfloat16", "int8"}


@pytest.mark.parametrize("fast", [True, False])
def test_the_encoders_work_is_counted_as_what_it_is(monkeypatch, tmp_path, fast):
    """int8 is the head's: beside it the encoder is bfloat16 on a CPU that multiplies it faster, else float32."""
    monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,) if fast else ())
    with torch.no_grad():
        (case,) = cases.upscale((12, 16), (24, 32), liif_fast.load(weights(tmp_path)), cases.Setup(CPU, tiny=True))
    work = {c.kind: c.work for c in case.contenders if c.name == cases.OURS}
    assert work["int8"].keys() == {"bfloat16" if fast else "float32", "int8"}
    encoder = work["int8"]["bfloat16" if fast else "float32"]
    assert encoder > 0
    assert sum(work["bfloat16"].values()) == pytest.approx(encoder + work["int8"]["int8"])
    assert (work["bfloat16"].keys() == {"bfloat16"}) is fast


def test_clock_and_power_of_a_card(monkeypatch):
    clocks, powers = iter((1700, 1980, 1750)), iter((600_500, 300_000, 650_000))
    monkeypatch.setattr(torch.cuda, "clock_rate", lambda device: next(clocks))
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: next(powers))
    card = gauge.Gauge(torch.device("cuda"))
    for _ in range(3):
        card.read()
    assert gauge.medians(card.take()) == {"sm_mhz": 1750.0, "watts": 600.5}
    assert card.take() == []


@pytest.mark.parametrize("error", [ModuleNotFoundError("nvidia-ml-py"), RuntimeError("driver")])
def test_no_driver_no_figures(monkeypatch, error):
    asked = []

    def missing(device):
        asked.append(device)
        raise error

    monkeypatch.setattr(torch.cuda, "clock_rate", missing)
    card = gauge.Gauge(torch.device("cuda"))
    card.read()
    card.read()
    assert gauge.medians(card.take()) == {}
    assert len(asked) == 1  # it does not hold up every run


def test_rows_say_of_which_commit(tmp_path):
    assert re.fullmatch("[0-9a-f]{7,}", rows.commit()) or not (ROOT / ".git").exists()
    assert rows.commit(tmp_path) == "unknown"
    (tmp_path / ".dev").mkdir()
    (tmp_path / ".dev" / "commit").write_text("abc1234-dirty\n")
    assert rows.commit(tmp_path) == "abc1234-dirty"


def test_what_a_profiler_sees():
    pairs, again, gluon = (Config(s, r, 64, 64, 8) for s, r in (("pairs", 128), ("pairs", 64), ("gluon", 128)))
    table = [pairs, again, gluon]
    assert one.pick("best", table, again) == again
    assert one.pick("other", table, again) == gluon
    assert one.pick("other", table, gluon) == pairs
    assert one.pick("other", table[:2], pairs) == again
    assert one.pick("2", table, pairs) == gluon
    with pytest.raises(ValueError, match="3: best, other or a number below 3"):
        one.pick("3", table, pairs)


def weights(folder: Path) -> str:
    """An official checkpoint, with random weights."""
    path = folder / "weights.pth"
    checkpoints.save_official(liif_fast.make(official_configs.liif("edsr-baseline")), path)
    return str(path)
