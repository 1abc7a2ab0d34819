"""Runs that end early: what is kept, what goes on with it, and that the result is then the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

av = pytest.importorskip("av")
from nearest_video import Nearest, enlarge, held  # noqa: E402
from video_files import make_clip  # noqa: E402

from liif_fast.video import enlarge as enlarging  # noqa: E402
from liif_fast.video import segments  # noqa: E402
from liif_fast.video.kinds import VideoError  # noqa: E402

TIMES = [0, 40, 80, 95, 120, 200, 240, 241, 300, 340, 400, 440]


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT", 5)
    monkeypatch.setattr(enlarging, "SEGMENT", 5)


@pytest.fixture
def source(tmp_path):
    return make_clip(tmp_path / "in.mp4", times=TIMES, audio=True)


def stopping(at: int, error: type[BaseException] = KeyboardInterrupt) -> Nearest:
    """A model that stops before the at-th frame, when all parts that can be whole are."""

    def before(n):
        if n == at:
            time.sleep(0.3)
            raise error("stop")

    return Nearest(before)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_run_that_ends_keeps_whole_parts_and_the_next_goes_on(tmp_path, source, error):
    enlarge(source, tmp_path / "whole.mp4")
    said = []
    with pytest.raises(error):
        enlarge(source, tmp_path / "out.mp4", stopping(11, error), say=said.append)
    parts = tmp_path / "out.mp4.parts"
    assert said == [f"10 frames are kept in {parts}: the same command with --resume goes on from there"]
    assert names(parts) == ["000000.json", "000000.mkv", "000001.json", "000001.mkv", "lock", "made_of.json"]
    assert names(tmp_path) == ["in.mp4", "out.mp4.parts", "whole.mp4"]

    computed = []
    result = enlarge(source, tmp_path / "out.mp4", Nearest(computed.append), resume=True)
    assert (result.frames, result.resumed, len(computed)) == (12, 10, 2)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert names(tmp_path) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_nothing_is_kept_without_a_whole_part(tmp_path, source):
    said = []
    with pytest.raises(KeyboardInterrupt):
        enlarge(source, tmp_path / "out.mp4", stopping(3), say=said.append)
    assert (said, names(tmp_path)) == ([], ["in.mp4"])


def test_an_old_output_stays_until_the_new_one_is_whole(tmp_path, source):
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        enlarge(source, tmp_path / "out.mp4", stopping(11), overwrite=True)
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    enlarge(source, tmp_path / "out.mp4", overwrite=True, resume=True)
    assert len(held(tmp_path / "out.mp4").times) == 12


def test_without_resume_all_is_done_anew(tmp_path, source):
    with pytest.raises(KeyboardInterrupt):
        enlarge(source, tmp_path / "out.mp4", stopping(11))
    computed = []
    result = enlarge(source, tmp_path / "out.mp4", Nearest(computed.append))
    assert (result.resumed, len(computed)) == (0, 12)


def test_all_parts_were_there(tmp_path, source, monkeypatch):
    """The run ended while the whole was being written."""

    def full(*_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(enlarging.muxing, "write", full)
        with pytest.raises(VideoError, match="No space left on device; make room"):
            enlarge(source, tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mp4", "out.mp4.parts"]
    result = enlarge(source, tmp_path / "out.mp4", stopping(0), resume=True)
    assert (result.frames, result.resumed) == (12, 12)
    assert held(tmp_path / "out.mp4").times == held(source).times


@pytest.mark.parametrize(
    ("how", "name"),
    [({"crf": 30}, "crf"), ({"scale": 3.0}, "scale"), ({"preset": "fast", "start": 0.1}, "start, preset")],
)
def test_parts_that_were_made_otherwise_are_refused(tmp_path, source, how, name):
    with pytest.raises(KeyboardInterrupt):
        enlarge(source, tmp_path / "out.mp4", stopping(11))
    before = names(tmp_path / "out.mp4.parts")
    with pytest.raises(VideoError, match=f"--resume: .*out.mp4.parts was made with another {name}; give what"):
        enlarge(source, tmp_path / "out.mp4", resume=True, **how)
    assert names(tmp_path / "out.mp4.parts") == before


def test_parts_of_another_model_or_source_are_refused(tmp_path, source):
    with pytest.raises(KeyboardInterrupt):
        enlarge(source, tmp_path / "out.mp4", stopping(11))
    other = Nearest()
    torch.nn.init.zeros_(other.weight)
    with pytest.raises(VideoError, match="was made with another model"):
        enlarge(source, tmp_path / "out.mp4", other, resume=True)
    os.utime(source, (1, 1))
    with pytest.raises(VideoError, match="was made with another source"):
        enlarge(source, tmp_path / "out.mp4", resume=True)


def test_resume_without_parts_begins_and_says_so(tmp_path, source):
    result = enlarge(source, tmp_path / "out.mp4", resume=True)
    assert "there was nothing to go on with: it is begun anew" in result.notes


def test_a_folder_of_somebody_else_is_not_touched(tmp_path, source):
    (tmp_path / "out.mp4.parts").mkdir()
    (tmp_path / "out.mp4.parts" / "mine.txt").write_text("precious")
    with pytest.raises(VideoError, match="is wanted for the parts of the work; rename it, or choose another output"):
        enlarge(source, tmp_path / "out.mp4")
    assert names(tmp_path / "out.mp4.parts") == ["mine.txt"]


def test_two_at_one_output(tmp_path, source):
    def other(n):
        if n == 7:
            with pytest.raises(VideoError, match="another process is writing this output"):
                enlarge(source, tmp_path / "out.mp4")

    enlarge(source, tmp_path / "out.mp4", Nearest(other))
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


RUN = """
import sys, time
from pathlib import Path
from nearest_video import Nearest, enlarge
from liif_fast.video import enlarge as enlarging, segments
segments.SEGMENT = enlarging.SEGMENT = 5
def before(n):
    if n == 11:
        time.sleep(0.3)
        print("here", flush=True)
        time.sleep(60)
enlarge(Path(sys.argv[1]), Path(sys.argv[2]), Nearest(before))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_goes_on(tmp_path, source):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path])}
    out = tmp_path / "out.mp4"
    with subprocess.Popen([sys.executable, "-c", RUN, source, out], env=env, stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"here\n"
        running.send_signal(signal.SIGKILL)
    assert not out.exists()
    result = enlarge(source, out, resume=True)
    assert result.resumed == 10
    assert held(out).times == held(source).times
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_what_the_parts_say_of_themselves(tmp_path, source):
    with pytest.raises(KeyboardInterrupt):
        enlarge(source, tmp_path / "out.mp4", stopping(11), crf=20)
    made_of = json.loads((tmp_path / "out.mp4.parts" / "made_of.json").read_text())
    assert made_of["source"][:2] == [str(source), source.stat().st_size]
    assert (made_of["crf"], made_of["scale"], made_of["dtype"], len(made_of["model"])) == (20, 2.0, "float32", 64)
