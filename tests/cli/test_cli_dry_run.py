"""``--dry-run``: what would be done, as the run itself would say it, and about how long it takes."""

from __future__ import annotations

import itertools
import json

import command
import pytest
from PIL import Image

from liif_fast.cli import common, reporting
from liif_fast.upscaling import estimate

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture
def said(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    command.photo(tmp_path / "in" / "a.png")
    command.photo(tmp_path / "in" / "b.jpg", size=(1000, 600))
    return lambda *arguments: command.outcome(capsys, *arguments)


def test_nothing_is_written_and_the_list_comes_before_the_model(said, tmp_path, monkeypatch, capsys, model_file):
    real, listed = common.load, []

    def load(args):
        listed.append(capsys.readouterr().out)
        return real(args)

    monkeypatch.setattr(common, "load", load)
    before = sorted(tmp_path.rglob("*"))
    code, stdout, stderr = said("in", "-o", "out", "-s", "2", "--dry-run", "-m", model_file)
    assert (code, stderr) == (0, "")
    assert listed == [
        "in/a.png -> out/a.png: 14x10 -> 28x20\nin/b.jpg -> out/b.jpg: 1000x600 -> 2000x1200\n"
        "2 files to do, 2.4 megapixels\n"
    ]
    assert stdout.startswith("about ")
    assert stdout.endswith(" s: an estimate by a small picture, without reading and writing the files\n")
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path / "out").exists()


def test_the_same_rows_and_exit_codes_as_the_run(said, tmp_path, model_file):
    (tmp_path / "in" / "c.png").write_text("hello")
    (tmp_path / "in" / "notes.txt").write_text("hello")
    (tmp_path / "out").mkdir()
    command.photo(tmp_path / "out" / "a.png")
    for flags, wanted in (([], 1), (["--skip-existing"], 1)):
        arguments = ["in", "-o", "out", "-s", "2", "--json", "-m", model_file, *flags]
        plan, run = said(*arguments, "--dry-run"), said(*arguments)
        assert plan[0] == run[0] == wanted
        planned, done = ([json.loads(line) for line in stdout.splitlines()] for _, stdout, _ in (plan, run))
        assert [row["status"] for row in planned] == ["exists", "planned", "failed"]
        assert [row["status"] for row in done] == ["exists", "done", "failed"]
        for row in (*planned, *done):
            row.pop("seconds"), row.pop("status")
        assert planned == done
        assert "1 file to do, 2.4 megapixels" in plan[2]
        assert "note: 1 skipped: 1 .txt" in plan[2]
        (tmp_path / "out" / "b.jpg").unlink()
    (tmp_path / "in" / "c.png").unlink()
    assert said(*arguments, "--dry-run")[0] == said(*arguments)[0] == 0


def test_nothing_to_do_needs_no_model(said, monkeypatch, tmp_path):
    monkeypatch.setattr(common, "load", lambda *_: pytest.fail("the model is loaded"))
    command.photo(tmp_path / "a.png")
    code, stdout, stderr = said("a.png", "-o", "in/a.png", "-s", "2", "--dry-run")
    assert (code, stdout) == (1, "0 files to do, 0 megapixels\n")
    assert "in/a.png exists" in stderr


def test_losses_and_limits_are_told(said, tmp_path, model_file):
    Image.new("CMYK", (8, 6)).save(tmp_path / "print.jpg")
    code, stdout, stderr = said("print.jpg", "in/b.jpg", "-s", "40", "-m", model_file, "--dry-run")
    assert code == 1
    assert "print.jpg -> print_x40.jpg: 8x6 -> 320x240\n1 file to do, 0.077 megapixels\n" in stdout
    assert "note: print.jpg: CMYK" in stderr
    assert "1000x600 -> 40000x24000: the output is over the limit" in stderr


def test_every_picture_of_a_file_counts(said, tmp_path, model_file):
    pages = [Image.new("RGB", (100, 100), colour) for colour in ("red", "green", "blue")]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    code, stdout, _ = said("pages.tif", "-s", "10", "-m", model_file, "--dry-run")
    wanted = "pages.tif -> pages_x10.tif: 100x100 -> 1000x1000, 3 times\n1 file to do, 3.0 megapixels\n"
    assert (code, stdout.startswith(wanted)) == (0, True)


def test_speed_by_two_scales_of_a_small_picture():
    """A model of known speed: 3 s for a million input pixels, 2 s for a million queries."""
    now, sides = [0.0], []

    class Model:
        def upscale(self, picture, scale, dtype):
            sides.append(picture.shape[0])
            now[0] += picture.shape[0] ** 2 * (3e-6 + 2e-6 * scale**2)

    found = estimate.speed(Model(), None, clock=lambda: now[0])
    assert found == pytest.approx((3e-6, 2e-6))
    assert found.seconds(1e6, 4e6) == pytest.approx(11)
    assert sides == [32] * 9 + [64] * 6  # 0.14 s


def test_a_clock_that_jitters_gives_no_speed_below_zero(monkeypatch):
    monkeypatch.setattr(estimate, "_REPEATS", 1)
    times = iter([0, 1, 1, 2, 2, 2.5])  # the larger scale takes less
    found = estimate.speed(type("Model", (), {"upscale": lambda *_, **__: None})(), None, clock=lambda: next(times))
    assert found == (1 / 32**2, 0.0)


def test_a_disturbed_measurement_does_not_count():
    now, disturbances = [0.0], itertools.cycle([0.0, 5.0, 0.3])

    class Model:
        def upscale(self, picture, scale, dtype):
            now[0] += 1e-3 * picture.shape[0] ** 2 * (1 + scale**2) + next(disturbances)

    assert estimate.speed(Model(), None, clock=lambda: now[0]) == pytest.approx((1e-3, 1e-3))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (45, "45 s"), (99.4, "99 s"), (100, "1 min 40 s"), (203, "3 min 20 s"), (361, "6 min"),
     (3599, "1 h"), (7500, "2 h 5 min"), (86400, "24 h")],
)  # fmt: skip
def test_times_as_people_say_them(seconds, words):
    assert reporting.duration(seconds) == words


@pytest.mark.parametrize("flags", [["--jobs", "4"], ["--jobs=4"], ["-j4"], ["-j", "4"], ["--jobs"]])
def test_jobs_are_not_needed(said, flags):
    code, stdout, stderr = said("in/a.png", "-s", "2", *flags)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("liif-fast: error: --jobs: is not needed, each picture is done on all cores; leave it out")
    assert stderr.count("\n") == 1


def test_help_says_what_uses_the_cores(said):
    words = " ".join(said("upscale", "--help")[1].split())
    assert "each on all cores (OMP_NUM_THREADS=N: on fewer): --jobs is not needed." in words
    assert "-j " not in words
