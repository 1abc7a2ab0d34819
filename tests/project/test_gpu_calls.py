"""benchmarks/gpu.sh keeps to its times and brings everything back: with programs that only pretend, then on the CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import official_configs
import pytest
from PIL import Image

import liif_fast
from liif_fast.weights import checkpoints

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
# What runs is written down; what of it fails or hangs is in $WHAT. A hung program hears no signal.
PRETENDED = r"""#!/bin/bash
echo "$(basename "$0") $*" >>"$RAN"
case "$WHAT $*" in
  hang*"-m pytest"*)
    for name in 'test_b[c-1]' test_c test_hung; do echo "tests/gpu/test_a.py::$name "; done
    echo "[gw0] [  1%] FAILED tests/gpu/test_a.py::test_b[c-1] "
    echo "[gw1] [100%] PASSED tests/gpu/test_a.py::test_c "
    echo "tests/gpu/test_a.py:3: AssertionError"
    trap '' INT TERM
    while :; do read -t 1 <> <(:); done ;;
  fail*"-m pytest"*)
    echo "tests/gpu/test_a.py::test_d PASSED     [ 10%]"
    echo "ERROR tests/gpu/test_a.py::test_d - it is not torn down"
    echo "SKIPPED [3] tests/gpu/test_a.py:7: no device"
    echo "tests/gpu/test_a.py::test_e FAILED     [ 50%]"
    echo "FAILED tests/gpu/test_a.py::test_e - assert 1 == 2"
    exit 1 ;;
  *speed.py*--json*) echo '{"case": "pretended"}' >>"${@: -1}" ;;
esac
"""


@pytest.fixture
def call(tmp_path):
    """call(NAME, WHAT, more=environment) runs it among programs that pretend: (exit code, output, what ran)."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python", "ncu", "compute-sanitizer", "nvidia-smi"):
        (folder / name).write_text(PRETENDED)
        (folder / name).chmod(0o755)

    def run(name, what="", **more):
        ran = tmp_path / "ran"
        ran.unlink(missing_ok=True)
        env = {k: v for k, v in os.environ.items() if k not in ("TINY", "TESTS", "LIIF_FAST_DATA", "LIMIT")}
        env |= {"PATH": f"{folder}:{env['PATH']}", "PYTHON": str(folder / "python"), "RAN": str(ran), "WHAT": what}
        env |= {"DEV": str(tmp_path / "dev"), "OUT": str(tmp_path / "out"), **more}
        done = subprocess.run([SCRIPT, name], env=env, capture_output=True, text=True)
        return done.returncode, done.stderr + done.stdout, ran.read_text().splitlines() if ran.exists() else []

    return run


def outcomes(output):
    """{step: outcome} of the table, which comes last."""
    table = output.split("\n== ")[-1].splitlines()[1:]
    return {line.split()[0]: re.split(r"\s{2,}|\s+\d+ s", line, maxsplit=2)[1].strip() for line in table}


def packed(tmp_path):
    with tarfile.open(tmp_path / "out" / "found.tar.gz") as archive:
        return {m.name: archive.extractfile(m).read().decode() for m in archive if m.isfile()}


def test_a_call_runs_its_steps_and_packs_what_they_found(call, tmp_path):
    code, output, ran = call("call1")
    assert code == 0, output
    assert list(outcomes(output)) == ["card", "doctor", "tests", "frames", "tune"]
    assert set(outcomes(output).values()) == {"done"}
    tests = next(line for line in ran if " -m pytest " in line)
    assert tests.startswith(
        "python -m pytest -v --durations=10 -p no:cacheprovider --timeout 60 --timeout-method thread"
    )
    assert tests.endswith("-n 12 -m not slow_gpu tests/gpu")
    assert ran[-1] == "python -m liif_fast tune --width 256"
    code, output, ran = call("call2")
    assert list(outcomes(output)) == ["card", "ncu-half-best", "ncu-half-other", "ncu-gather", "rows", "memcheck"]
    assert [line.split()[0] for line in ran if "-c" not in line.split()] == [
        "nvidia-smi", "ncu", "ncu", "ncu", "python", "compute-sanitizer"
    ]  # fmt: skip
    code, output, ran = call("call3")
    assert list(outcomes(output)) == ["card", "upscale", "head", "video", "training"]  # nothing has failed before
    found = packed(tmp_path)
    assert found["results/gpu.jsonl"] == '{"case": "pretended"}\n' * 5
    assert {f"results/{name}.log" for name in ("call1-tests", "call2-ncu-half-best", "call3-head")} <= set(found)
    assert os.listdir(tmp_path / "out") == ["found.tar.gz"]


def test_what_failed_runs_again(call, tmp_path):
    code, output, _ = call("call1", "fail")
    assert code == 1
    assert outcomes(output) == dict.fromkeys(("card", "doctor", "frames", "tune"), "done") | {"tests": "FAILED (1)"}
    names = ["tests/gpu/test_a.py::test_d", "tests/gpu/test_a.py::test_e"]
    assert packed(tmp_path)["failed"].split() == names
    _, _, ran = call("call3")
    assert next(line for line in ran if " -m pytest " in line).split()[-2:] == names
    assert not (tmp_path / "dev" / "failed").exists()  # it passed
    _, _, ran = call("call3", TESTS="tests/gpu/test_x.py tests/gpu/test_y.py::test_z")
    assert next(line for line in ran if " -m pytest " in line).endswith(
        " tests/gpu/test_x.py tests/gpu/test_y.py::test_z"
    )


def test_a_step_that_hangs_is_ended_with_what_it_said(call, tmp_path):
    """What is left of the call is less than the step's own time; nothing else has any."""
    start = time.monotonic()
    code, output, ran = call("call1", "hang", LIMIT="17")
    assert time.monotonic() - start < 17 + 5
    assert code == 1
    assert outcomes(output) == {"card": "done", "doctor": "done", "tests": "OUT OF TIME"} | dict.fromkeys(
        ("frames", "tune"), "no time left"
    )
    assert packed(tmp_path)["failed"].split() == ["tests/gpu/test_a.py::test_b[c-1]", "tests/gpu/test_a.py::test_hung"]
    assert not any("speed.py" in line for line in ran)


def test_prepare_insists_on_cuda_kernels_and_data(call, tmp_path):
    code, output, _ = call("prepare")
    assert code == 1
    assert "LIIF_FAST_DATA (unset) has no weights/edsr-baseline-liif.pth or no benchmark/Set5" in output
    code, output, _ = call("prepare", PYTHON=sys.executable, LIIF_FAST_DATA=str(data(tmp_path)))
    built = liif_fast.head.ops.CUDA_KERNELS and liif_fast.head.library.status == "loaded"
    kept = {str(p.relative_to(tmp_path / "dev")) for p in (tmp_path / "dev").rglob("*") if p.is_file()}
    assert "data/weights/edsr-baseline-liif.pth" in kept
    assert "data/benchmark/Set5/LR_bicubic/X4/onex4.png" in kept
    if not built:
        assert code == 1
        assert "the library has no CUDA kernels that load here" in output


def test_unknown_calls_are_explained(call):
    code, output, ran = call("nonsense")
    assert code == 2
    assert "benchmarks/gpu.sh prepare" in output
    assert not ran


@pytest.mark.long
def test_all_three_calls_on_the_cpu(tmp_path):
    """TINY=1: every program with its true arguments, on sizes that mean nothing."""
    env = os.environ | {"TINY": "1", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "OUT": str(tmp_path / "out")}
    env |= {"DEV": str(tmp_path / "dev"), "LIIF_FAST_DATA": str(data(tmp_path)), "LIMIT": "600"}
    env["CONFIGURATIONS"] = "half:best"
    for name, steps in (
        ("prepare", []),
        ("call1", ["doctor", "tests", "frames", "tune"]),
        ("call2", ["ncu-half-best", "ncu-gather", "rows", "memcheck"]),
        ("call3", ["tests", "upscale", "head", "video", "training"]),
    ):
        if name == "call3":
            env["TESTS"] = "tests/gpu/test_gather_gpu.py::test_bfloat16_gradients_are_summed_in_float32"
        done = subprocess.run([SCRIPT, name], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not steps or outcomes(done.stdout) == dict.fromkeys(steps, "done")
    found = packed(tmp_path)
    rows = [json.loads(line) for line in found["results/gpu.jsonl"].splitlines()]
    assert {row["case"].split()[0] for row in rows} == {
        "frames",
        "encoder",
        "gather",
        "upscale",
        "head",
        "training",
        "Set5",
        "video",
    }
    assert "1 passed" in found["results/call1-tests.log"]
    assert "1 passed" in found["results/call3-tests.log"]


def data(folder: Path) -> Path:
    """Weights of a small model in the official form, and a picture in Set5's place."""
    to = folder / "data"
    (to / "weights").mkdir(parents=True)
    spec = official_configs.liif("edsr-baseline")
    spec["args"]["encoder_spec"]["args"]["n_resblocks"] = 1
    checkpoints.save_official(liif_fast.make(spec), to / "weights" / "edsr-baseline-liif.pth")
    for part, name, size in (("HR", "one", 48), ("LR_bicubic/X2", "onex2", 24), ("LR_bicubic/X4", "onex4", 12)):
        (to / "benchmark" / "Set5" / part).mkdir(parents=True)
        Image.radial_gradient("L").resize((size, size)).convert("RGB").save(
            to / "benchmark" / "Set5" / part / f"{name}.png"
        )
    return to
