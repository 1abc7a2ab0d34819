"""Processors with AMX and without: which path a row is of, which ceiling and which bars it is held against, and whose
table it is in. What a processor has is replaced, so that both kinds are tested on either."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import training_files as files

import liif_fast
from liif_fast.head import precision

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import heads
import measure
import processor
import readme
import rows
import speed
from cases import CASES, Setup
from measure import Case, Contender

CPU = torch.device("cpu")
AVX512 = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}
TODAY = {"float32": "avx512", "bfloat16": "avx512_bf16", "int8": "avx512_vnni", "gather": "avx512"}
INFERENCE = TODAY | {"bfloat16": "amx_bf16", "int8": "amx_int8"}
TRAINING = INFERENCE | {"train_float32": "avx512", "train_bfloat16": "amx_bf16"}


def on(monkeypatch, kernels: dict[str, str], amx: bool = True) -> None:
    monkeypatch.setattr(processor, "ops", SimpleNamespace(cpu_kernels=lambda: kernels))
    monkeypatch.setattr(processor, "flags", lambda: AVX512 | (processor.AMX if amx else set()))
    monkeypatch.setattr(precision, "matmul_dtype", lambda dtype, device: dtype)


def built(name: str) -> Case:
    torch.manual_seed(0)
    (case,) = CASES[name](liif_fast.make(files.TINY_LIIF), Setup(CPU))
    return case


def bars(name: str) -> dict[str, float]:
    """Bounds of ours, by kind of number, quantity and what they are held against."""
    found = built(name).bars
    assert {bar.row[0] for bar in found} == {heads.OURS}
    return {" ".join((bar.row[1], bar.quantity, *(bar.than or ()))): bar.bound for bar in found}


def contender(case: Case, name: str, kind: str) -> Contender:
    return next(c for c in case.contenders if (c.name, c.kind) == (name, kind))


def test_paths(monkeypatch):
    on(monkeypatch, TRAINING)
    assert processor.path("bfloat16", CPU) == "amx_bf16"
    assert processor.path("float32", CPU, training=True) == "avx512"
    assert processor.path("bfloat16", torch.device("cuda")) == ""
    on(monkeypatch, INFERENCE)
    assert processor.path("bfloat16", CPU, training=True) == ""  # a library that does not say
    on(monkeypatch, {})  # plain PyTorch
    assert processor.path("bfloat16", CPU) == ""


def test_rows_say_path_and_are_held_against_its_ceiling(capsys):
    def run(i):
        return torch.ones(3)

    found = [
        Contender("reference", "float32", run, 0, {"float32": 1e6}),
        Contender("autocast", "bfloat16", run, 0, {"amx bfloat16": 1e6}),
        Contender("ours", "bfloat16", run, 0, {"amx bfloat16": 1e6}, path="amx_bf16"),
        # as an encoder by oneDNN, on AMX, and the head on another path
        Contender("mixed", "bfloat16", run, 0, {"amx bfloat16": 4e6, "bfloat16": 1e6}, path="avx512_bf16"),
        Contender("not measured", "int8", run, 0, {"amx int8": 1e6}, path="amx_int8"),
    ]
    ceilings = {"float32": 1e11, "bfloat16": 2e11, "int8": 8e11, "amx bfloat16": 4e12}
    reference, autocast, ours, mixed, unknown = measure.measure(Case("planted", found), 2, CPU, ceilings)
    assert "path" not in reference
    assert "path" not in autocast
    assert [row["path"] for row in (ours, mixed, unknown)] == ["amx_bf16", "avx512_bf16", "amx_int8"]
    assert reference["ceiling"] == 1e11
    assert autocast["ceiling"] == ours["ceiling"] == 4e12
    assert mixed["ceiling"] == 2e11
    assert ours["share"] == pytest.approx(1e6 / 4e12 / ours["median"])
    assert mixed["share"] == pytest.approx((4e6 / 4e12 + 1e6 / 2e11) / mixed["median"])
    assert unknown["share"] is unknown["ceiling"] is None
    speed.say("planted", ours)
    speed.say("planted", reference)
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(" by amx_bf16")
    assert " by " not in said[1]


@pytest.mark.parametrize("training", [False, True])
def test_work_is_counted_by_what_does_it(monkeypatch, training):
    on(monkeypatch, TRAINING if training else INFERENCE)
    case = built("upscale")
    high, ours = heads.matrix_work(torch.empty(1, 1024 * 1024, 2)), heads.OURS
    assert contender(case, ours, "bfloat16").work.keys() == {"amx bfloat16"}
    assert contender(case, ours, "int8").work["amx int8"] == high
    assert contender(case, ours, "float32").work.keys() == {"float32"}
    assert contender(case, heads.REFERENCE, "float32").work.keys() == {"float32"}
    head = built("head")
    for name in (heads.REFERENCE + heads.AUTOCAST, heads.FOLD, ours):  # the first two by oneDNN
        assert contender(head, name, "bfloat16").work.keys() == {"amx bfloat16"}
    for name in ("train", "step"):
        case = built(name)
        assert contender(case, heads.REFERENCE, "bfloat16").work.keys() == {"amx bfloat16"}
        own = contender(case, ours, "bfloat16")
        assert own.work.keys() == ({"amx bfloat16"} if training else {"amx bfloat16", "bfloat16"})
        assert own.path == ("amx_bf16" if training else "")


@pytest.mark.parametrize("name", ["head", "upscale", "train", "step"])
def test_without_amx_nothing_is_counted_on_it(monkeypatch, name):
    on(monkeypatch, TODAY, amx=False)
    for c in built(name).contenders:
        assert not any(unit.startswith("amx") for unit in c.work)
        assert c.unit == c.kind


MEMORY = {f"{kind} memory of reference {kind}": 1 / 3 for kind in ("float32", "bfloat16")}
COMPILED = {"float32 faster than reference, torch.compile float32": 7}


def faster(**least: float) -> dict[str, float]:
    """Bars against the reference in float32, by kind of number."""
    return {f"{kind} faster than reference float32": bound for kind, bound in least.items()}


def test_bars_without_amx(monkeypatch):
    on(monkeypatch, TODAY, amx=False)
    assert bars("head") == COMPILED | faster(float32=7.5, bfloat16=14, int8=24)
    assert bars("upscale") == faster(float32=6, bfloat16=11, int8=15)
    assert bars("train") == MEMORY | faster(float32=2.2, bfloat16=4.5)
    assert bars("step") == faster(float32=1.5, bfloat16=2.5)


def test_bars_with_amx(monkeypatch):
    on(monkeypatch, TRAINING)
    autocast = {"bfloat16 faster than reference, autocast bfloat16": 8, "bfloat16 share": 0.55}
    assert bars("head") == COMPILED | autocast | faster(float32=7.5, bfloat16=36, int8=60)
    assert bars("upscale") == faster(float32=6, bfloat16=25, int8=30)
    assert bars("train") == MEMORY | faster(float32=2.2, bfloat16=8)
    assert bars("step") == faster(float32=1.5, bfloat16=4) | {"bfloat16 faster than reference bfloat16": 2.5}
    for name in ("head", "upscale", "train", "step"):  # what they are held against is there
        case = built(name)
        there = {(c.name, c.kind) for c in case.contenders}
        assert {end for bar in case.bars for end in (bar.row, bar.than) if end} <= there


def test_bars_follow_the_path_that_is_used(monkeypatch):
    """With LIIF_FAST_CPU=avx512_bf16, say, or a library whose training does not run on AMX."""
    on(monkeypatch, TODAY)
    assert bars("head")["bfloat16 faster than reference float32"] == 14
    assert bars("upscale")["int8 faster than reference float32"] == 15
    on(monkeypatch, INFERENCE | {"train_bfloat16": "avx512_bf16"})
    assert bars("head")["bfloat16 faster than reference float32"] == 36
    assert bars("train")["bfloat16 faster than reference float32"] == 4.5
    assert "bfloat16 faster than reference bfloat16" not in bars("step")


def test_about_tells_the_kind(monkeypatch):
    found = {"model name": "Some CPU", "cpu family": "6", "model": "207"}
    found["flags"] = "fpu avx512f amx_tile amx_bf16 amx_int8"
    monkeypatch.setattr(processor, "facts", lambda: found)
    row = rows.about(CPU)
    assert row["cpu"] == "Some CPU (family 6, model 207)"
    assert row["flags"] == ["amx_bf16", "amx_int8", "amx_tile", "avx512f"]
    assert processor.kind(row) == processor.WITH_AMX
    assert processor.kind({**row, "flags": ["avx512f", "amx_tile"]}) == processor.WITHOUT_AMX
    assert processor.kind({**row, "flags": ["avx2"]}) == processor.WITHOUT_AVX512
    assert processor.kind({"cpu": "Some CPU"}) == processor.WITHOUT_AMX  # an old row
    monkeypatch.setattr(processor, "facts", dict)  # not Linux
    assert processor.kind(rows.about(CPU)) == processor.WITHOUT_AVX512


def made(cpu: str, ratio: float, paths: dict[str, str] | None = None, flags: set[str] | None = None) -> list[dict]:
    """Rows of a machine, of each block, all with one ratio; ``paths`` and ``flags``: in new rows."""
    common = {"cpu": cpu, "threads": 2, "torch": "2", "commit": "abc", "run": cpu, "q20": 1.0, "q80": 1.0, "rounds": 2,
              "error": 0.0, "peak": 2**20, "share": 0.5, "set5_x4_db": None, "ok": True}  # fmt: skip
    common |= {} if flags is None else {"flags": sorted(flags)}
    single = {"contender": heads.REFERENCE, "dtype": "float32", "median": 1.0, "ratio": 1.0, "ceiling": None}
    found = []
    for case in (readme.HEAD, "upscale 256x256 -> 1024x1024", "queries 10^4", "queries 10^5", "tiles whole"):
        common |= {"case": case, "queries": 10 ** int(case[-1]) if case.startswith("queries") else 1}
        found.append(common | single)
        for kind in readme.KINDS:
            own = {"contender": heads.OURS, "dtype": kind, "median": 1 / ratio, "ratio": ratio, "ceiling": 1e9 * ratio}
            own |= {"path": paths[kind], "unit": processor.unit(kind, paths[kind])} if paths else {}
            found.append(common | own)
    return found


def test_each_processor_has_its_tables(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows.append(path, made("New", 44.0, INFERENCE, AVX512 | processor.AMX))
    rows.append(path, made("Old", 11.0) + made("Other", 7.0, TODAY, AVX512))
    found = readme.machines(rows.load(path))
    titles = [machine.title for machine in found]
    without = [f"AVX-512 without AMX: {name}, 2 cores" for name in ("Old", "Other")]
    assert titles == [*without, "with AMX: New, 2 cores"]
    for block in ("head", "others", "sizes", "tiles"):
        text = readme.BLOCKS[block](found)
        old, other, new = (text[text.index(title) :].split("\n\n")[1] for title in titles)
        assert "(avx512_bf16)" in other
        assert "(amx_bf16)" in new
        assert "avx" not in old + new.replace("(avx512)", "")  # float32's; old rows do not say which path
        assert "amx" not in old + other
    text = readme.BLOCKS["head"](found)
    assert "| liif_fast, bfloat16 (amx_bf16) | 22.7 ms | 44.0 |" in text
    assert "| liif_fast, bfloat16 | 90.9 ms | 11.0 |" in text  # each machine's own, no range over machines
    conditions = readme.BLOCKS["conditions"](found)
    assert readme.NOT_MEASURED not in conditions
    assert [part.split(", torch")[0] for part in conditions.split("\n\n")] == titles
    assert conditions.endswith(" a second: 44.0 in float32, 44.0 in amx bfloat16, 44.0 in amx int8.")
    claim = readme.BLOCKS["claim"](found)
    assert "7 to 11 times as fast as the official one on a CPU in float32" in claim
    assert claim.endswith("\nOn a CPU with AMX: 44 times in float32, 44 times in bfloat16, 44 times in int8.")


def test_that_amx_is_not_measured_is_said():
    found = readme.machines(made("Old", 11.0))
    assert readme.BLOCKS["conditions"](found).endswith(f"\n\n{readme.NOT_MEASURED}")
    assert "AMX" not in readme.BLOCKS["claim"](found)
    # a run in which nothing was timed measured nothing
    failed = {"case": readme.HEAD, "contender": "liif_fast", "dtype": "float32", "ok": False, "failed": "no"}
    failed |= {"cpu": "New", "threads": 2, "flags": sorted(AVX512 | processor.AMX)}
    assert readme.machines([*made("Old", 11.0), failed]) == found


def test_a_machine_without_a_case_has_no_table_of_it():
    found = readme.machines(row for row in made("Quick", 9.0) if row["case"] == readme.HEAD)
    assert "Quick" in readme.BLOCKS["head"](found)
    for block in ("others", "sizes", "tiles"):
        assert readme.BLOCKS[block](found) == ""
