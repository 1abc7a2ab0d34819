"""Seeded hostile cases, and the proof that each property is seen when it does not hold.

LIIF_FAST_HOSTILE_N cases (100); ``make hostile N=10000 SEED=1`` for more.
"""

from __future__ import annotations

import os
from pathlib import Path

import config_files
import hostile_cases as cases
import picture_kinds
import plants
import pytest
import run
import training_files


def test_hostile_cases():
    """Every case, then all that failed at once, each with the command that repeats it."""
    count = int(os.environ.get("LIIF_FAST_HOSTILE_N", "100"))
    failures = run.run(list(range(count)), seed=int(os.environ.get("LIIF_FAST_HOSTILE_SEED", "0")))
    assert not failures, "\n" + "\n".join(map(str, failures))


def test_a_case_depends_on_seed_and_index_alone(tmp_path):
    made = []
    for name in ("a", "b"):
        folder = tmp_path / name / "work"
        folder.mkdir(parents=True)
        case = cases.make(3, 5, folder, tmp_path, tmp_path / "canary")
        made.append((case, sorted((p.name, p.read_bytes()) for p in folder.iterdir() if p.is_file())))
    assert made[0] == made[1]


def test_sixty_kinds_of_pictures():
    assert len(picture_kinds.KINDS) >= 60
    assert len(config_files.TEXTS) > 30


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = run.Runner(run.prepare(tmp_path_factory.mktemp("hostile")))
    yield runner
    runner.close()


SEEN = {
    "exit_code": "exit code 3",
    "crash": "exit code 139",
    "trace": "a trace",
    "foreign_line": "a line that is not ours",
    "long_line": "a line of 10017 characters",
    "wordless": "an error without words",
    "second_line": "1 results and 1 errors for 1 files",
    "silent_failure": "exit code 1 without an error",
    "lost_output": "1 results, but 0 files",
    "part_file": "left behind: .abc.part",
    "half_output": "the output is not whole",
    "changed_input": "changed or gone: ['p.png']",
    "code_run": "code out of a file was run",
    "wrong_pixel": "colours differ from Pillow's decoding in 1 pixels",
    "memory": "killed: memory above",
    "address_space": "asked for",
    "processor_time": "of processor time",
    "waiting": "killed: it waits",
    "survivor": "a process that it started goes on",
}
LIMITS = {"memory": {"resident": 500 << 20}, "processor_time": {"cpu": 0.5}, "waiting": {"wall": 1.0}}


def test_every_fault_is_a_plant():
    public = {n for n in vars(plants) if callable(vars(plants)[n]) and vars(plants)[n].__module__ == "plants"}
    assert {n for n in public if not n.startswith("_")} == {*SEEN, "dry_run_agrees"}


@pytest.mark.parametrize("name", [None, *SEEN])
def test_a_planted_fault_is_seen(runner, tmp_path, name):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "p.png").write_bytes(_picture())
    argv = ["upscale", "p.png", "-o", "out.png", "-s", "1", "-m", str(runner.common / cases.MODEL)]
    case = cases.Case("planted", argv, 1, [("p.png", "out.png", True)], ["out.png"])
    plant = None if name is None else f"plants:{name}"
    found, stderr = runner.judge(case, tmp_path, plant=plant, **LIMITS.get(name, {}))
    if name is None:
        assert found == []
    else:
        assert any(SEEN[name] in text for text in found), (found, stderr)


def test_a_dry_run_that_agrees_with_anything_is_seen(runner, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    config = training_files.configuration(Path("nowhere"))
    training_files.write(folder / "c.yaml", config)
    argv = ["train", "c.yaml", "--save", "run"]
    case = cases.Case("planted", [*argv, "--dry-run"], then=argv)
    found, _ = runner.judge(case, tmp_path, plant="plants:dry_run_agrees")
    assert "--dry-run said that it is in order" in found


def _picture() -> bytes:
    import image_bytes

    return image_bytes.png(3, 2, 8, 2, [bytes(range(9)), bytes(range(100, 109))])
