"""How the command ``upscale`` ends: every kind of bad input, what it cannot write, an interruption."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import command
import pytest
import torch
from PIL import Image

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.upscaling import files as upscale

pytestmark = pytest.mark.usefixtures("no_matrix_units")


@pytest.fixture
def run(model_file, capsys):
    return command.caller(model_file, capsys)


def test_the_others_of_a_folder_are_done(run, photo, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    data = photo.read_bytes()
    (source / "1_truncated.png").write_bytes(data[: len(data) // 2])
    (source / "2_empty.png").write_bytes(b"")
    (source / "3_text.png").write_text("hello")
    (source / "4_good.png").write_bytes(data)
    code, stdout, stderr = run(source, "-o", tmp_path / "out", "-s", "2")
    assert code == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["4_good.png"]
    lines = stderr.splitlines()
    assert len(lines) == 3
    assert all("error:" in line and name in line for line, name in zip(lines, ("1_tr", "2_em", "3_te"), strict=True))
    assert stdout.count("\n") == 1


def test_decompression_bomb(run, tmp_path):
    bomb = tmp_path / "bomb.png"
    Image.new("1", (3000, 3000)).save(bomb)
    code, _, stderr = run(bomb, "-o", tmp_path / "out.png", "-s", "2", "--max-pixels", "1000000")
    assert code == 1
    assert "--max-pixels" in stderr
    code, _, stderr = run(bomb, "-o", tmp_path / "out.png", "-s", "900")  # refused before the work, not after
    assert code == 1
    assert "output" in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-s", "0"], "--scale 0"),
        (["-s", "-2"], "--scale -2"),
        (["-s", "nan"], "--scale nan"),
        (["-s", "inf"], "--scale inf"),
        (["-s", "two"], "--scale two"),
        (["--size", "0x10"], "--size 0x10"),
        (["--size", "x"], "--size x"),
        (["--size", "big"], "--size big"),
        (["-s", "2", "--size", "4x4"], "not allowed with"),
        (["-s", "2", "--tile", "-3"], "--tile -3"),
        (["-s", "2", "--tile", "few"], "--tile few"),
        (["-s", "2", "--quality", "0"], "--quality 0"),
        (["-s", "2", "--format", "xyz"], "--format"),
        (["-s", "2", "--device", "quantum"], "--device quantum"),
        (["-s", "2", "--dtype", "int4"], "--dtype"),
        (["-s", "2", "-m", "no-such-model"], "no-such-model"),
        (["-s", "2", "--suffix", "../x"], "--suffix"),
        (["-s", "2", "--max-pixels", "-1"], "--max-pixels"),
        (["-s", "2", "--format", "webp"], "suffix says PNG"),
        (["-s", "2", "--device", "meta"], "--device meta"),
        (["--size", "9" * 5000 + "x3"], "--size"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_usage_errors(run, photo, tmp_path, arguments, words):
    code, stdout, stderr = run(photo, "-o", tmp_path / "o.png", *arguments)
    assert (code, stdout) == (2, "")
    assert words in stderr.splitlines()[-1]
    assert not (tmp_path / "o.png").exists()


def test_bad_models(run, photo, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "owned"),)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "text.safetensors").write_text("not a model")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("evil.pth", "text.safetensors", "empty.pth"):
        code, _, stderr = run(photo, "-o", tmp_path / "o.png", "-s", "2", "-m", str(tmp_path / name))
        assert code == 1
        assert stderr.count("\n") == 1
        assert name in stderr
    assert not (tmp_path / "owned").exists()


def test_unwritable_output(run, photo, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, stderr = run(photo, "-o", tmp_path / "file" / "out.png", "-s", "2")
    assert code == 1
    assert "file" in stderr
    assert stderr.count("\n") == 1
    code, _, stderr = run(photo, "-o", tmp_path / "o.xyz", "-s", "2")
    assert code == 1
    assert ".xyz" in stderr or "xyz" in stderr


def test_full_disk(run, photo, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    out = tmp_path / "out"
    code, _, stderr = run(photo, "-o", out / "o.png", "-s", "2")
    assert code == 1
    assert "No space left" in stderr or "full" in stderr
    assert list(out.iterdir()) == []


def test_nothing_to_do(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, stderr = run(tmp_path / "empty", "-o", tmp_path / "out", "-s", "2")
    assert code == 1
    assert "no images in this folder; use -r" in stderr


def test_several_inputs_need_a_folder(run, photo, tmp_path):
    code, _, stderr = run(photo, photo, "-o", tmp_path / "one.png", "-s", "2")
    assert code == 2
    assert "need a folder" in stderr
    assert not (tmp_path / "one.png").exists()


def test_one_bad_scale_does_not_stop_the_others(run, photo, tmp_path):
    code, _, stderr = run(photo, "-o", tmp_path / "o.png", "-s", "1e308")
    assert code == 1
    assert "too large" in stderr or "limit" in stderr


def test_a_damaged_model_is_said(photo, tmp_path, model_file, capsys):
    model = liif_fast.load(model_file)
    with torch.no_grad():
        model.imnet.layers[0].weight[0, 0] = float("nan")
    model.save(tmp_path / "nan.safetensors")
    out = tmp_path / "o.png"
    assert cli.main(["upscale", str(photo), "-o", str(out), "-s", "2", "-m", str(tmp_path / "nan.safetensors")]) == 1
    assert "not finite" in capsys.readouterr().err
    assert not out.exists()


def test_debug_shows_the_traceback(photo, tmp_path, model_file, capsys):
    arguments = ["upscale", str(tmp_path / "gone.png"), "-o", str(tmp_path / "o.png"), "-s", "2", "-m", str(model_file)]
    assert cli.main(arguments) == 1
    assert "Traceback" not in capsys.readouterr().err
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    assert cli.main(["upscale", str(broken), *arguments[2:], "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt(photo, tmp_path, model_file, number, code):
    """Ctrl-C or a kill in the middle: the exit code says so, one line at most, no half-written file."""
    Image.new("RGB", (1500, 1500), "green").save(tmp_path / "large.png")
    command = [sys.executable, "-m", "liif_fast", "upscale", photo, tmp_path / "large.png", "-o", tmp_path / "out"]
    command = [*map(str, command), "-s", "8", "-m", str(model_file)]
    # a shell starts background jobs with SIGINT ignored, and they would hand that on
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "photo.png" in process.stdout.readline()  # the small one is done; the large one takes a minute
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr == ("liif-fast: interrupted\n" if code == 130 else "")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["photo.png"]


def test_out_of_memory_is_an_error_of_the_file(tmp_path, photo, monkeypatch, model_file):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore lines.")

    model = liif_fast.load(model_file)
    monkeypatch.setattr(model, "upscale", fail)
    (result,) = upscale.upscale_files(
        lambda: (model, torch.float32), [photo], tmp_path / "o.png", upscale.Options(scale=2)
    )
    assert result.error.startswith("out of memory: give a smaller --tile")
    assert "\n" not in result.error
