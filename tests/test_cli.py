"""The command: what it writes, what it says, how it ends; and every kind of bad input."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.upscaling import files as upscale


@pytest.fixture(scope="session")
def model_file(tmp_path_factory) -> Path:
    """A small untrained model in a file."""
    torch.manual_seed(0)
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    model = liif_fast.LIIF(encoder, {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}})
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    model.save(path)
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def run(model_file, capsys):
    """run(*arguments) -> (exit code, stdout, stderr) of ``liif-fast upscale``, with the small model."""

    def call(*arguments, command="upscale"):
        model = [] if "-m" in arguments or command == "doctor" else ["-m", str(model_file)]
        try:
            code = cli.main([command, *map(str, arguments), *model])
        except SystemExit as stop:  # argparse
            code = stop.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def test_one_file(run, photo, tmp_path, model_file):
    out = tmp_path / "new" / "large.png"
    code, stdout, stderr = run(photo, "-o", out, "-s", "2.5")
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"{out}: 14x10 -> 35x25 in ")
    want = liif_fast.load(model_file).upscale(Image.open(photo), scale=2.5)
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(want))


@pytest.mark.parametrize(("size", "want"), [("28x20", (28, 20)), ("28x", (28, 20)), ("x5", (7, 5)), ("9X30", (9, 30))])
def test_size(run, photo, tmp_path, size, want):
    assert run(photo, "-o", tmp_path / "o.png", "--size", size)[0] == 0
    assert Image.open(tmp_path / "o.png").size == want


def test_folder_formats_and_names(run, photo, tmp_path):
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    image = Image.open(photo)
    for name in ("a.png", "b.jpg", "c.webp", "d.tif", "e.bmp", "f.gif", "deep/g.png"):
        image.save(source / name)
    (source / "notes.txt").write_text("not an image")
    code, _, _ = run(source, "-o", tmp_path / "flat", "-s", "2")
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "flat").iterdir()) == [
        "a.png",
        "b.jpg",
        "c.webp",
        "d.tif",
        "e.bmp",
        "f.png",
    ]
    code, _, _ = run(source, "-r", "-o", tmp_path / "all", "-s", "2", "--suffix", "_x2", "--format", "webp")
    assert code == 0
    found = sorted(str(p.relative_to(tmp_path / "all")) for p in (tmp_path / "all").rglob("*.*"))
    assert found == sorted([*(f"{c}_x2.webp" for c in "abcdef"), "deep/g_x2.webp"])
    assert all(Image.open(tmp_path / "all" / f).format == "WEBP" for f in found)


def test_json(run, photo, tmp_path):
    code, stdout, _ = run(photo, tmp_path / "gone.png", "-o", tmp_path / "out", "-s", "2", "--json")
    assert code == 1
    rows = [json.loads(line) for line in stdout.splitlines()]
    by_input = {Path(r["input"]).name: r for r in rows}
    assert by_input["photo.png"]["out_size"] == [28, 20]
    assert by_input["photo.png"]["error"] is None
    assert "gone.png" in by_input["gone.png"]["error"]


def test_existing_outputs_are_kept(run, photo, tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    code, _, stderr = run(photo, "-o", out, "-s", "2")
    assert code == 1
    assert "exists" in stderr
    assert "--overwrite" in stderr
    assert out.read_bytes() == b"precious"
    assert run(photo, "-o", out, "-s", "2", "--overwrite")[0] == 0
    assert Image.open(out).size == (28, 20)


def test_two_inputs_for_one_output(run, photo, tmp_path):
    other = tmp_path / "other" / "photo.png"
    other.parent.mkdir()
    Image.open(photo).save(other)
    code, _, stderr = run(photo, other, "-o", tmp_path / "out", "-s", "2", "--overwrite")
    assert code == 1
    assert "another input" in stderr


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
        (["-s", "two"], "invalid float"),
        (["--size", "0x10"], "--size 0x10"),
        (["--size", "x"], "--size x"),
        (["--size", "big"], "--size big"),
        (["-s", "2", "--size", "4x4"], "not allowed with"),
        ([], "required"),
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


def test_a_second_run_leaves_the_first_ones_outputs_alone(run, photo, tmp_path):
    for extra in ([], ["--overwrite"]):
        assert run(tmp_path, "-r", "-o", tmp_path / "large", "-s", "2", *extra)[0] == 0
        assert sorted(p.name for p in (tmp_path / "large").rglob("*")) == ["photo.png"]


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


def test_dtype_and_tile(run, photo, tmp_path):
    results = {}
    for name, extra in {
        "plain": [],
        "tiled": ["--tile", "4"],
        "half": ["--dtype", "bfloat16"],
        "int8": ["--dtype", "int8"],
    }.items():
        assert run(photo, "-o", tmp_path / f"{name}.png", "-s", "3", *extra)[0] == 0
        results[name] = np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int)
    assert np.abs(results["tiled"] - results["plain"]).max() <= 1
    for name in ("half", "int8"):  # 8 bits, through four layers
        assert 1 <= np.abs(results[name] - results["plain"]).max() <= 5


def test_alpha_orientation_and_profile(run, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8))
    image.save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    exif[0x010F] = "maker"
    profile = _profile()  # holds the time of its making
    Image.new("RGB", (8, 6), "red").save(tmp_path / "turned.jpg", exif=exif, icc_profile=profile)
    code, _, stderr = run(tmp_path / "alpha.png", tmp_path / "turned.jpg", "-o", tmp_path / "out", "-s", "2")
    assert (code, stderr) == (0, "")
    assert Image.open(tmp_path / "out" / "alpha.png").mode == "RGBA"
    turned = Image.open(tmp_path / "out" / "turned.jpg")
    assert turned.size == (12, 16)
    assert turned.getexif()[0x010F] == "maker"
    assert turned.getexif().get(0x0112, 1) == 1
    assert turned.info["icc_profile"] == profile


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_losses_are_said(run, tmp_path):
    Image.new("CMYK", (8, 6), (10, 20, 30, 40)).save(tmp_path / "print.jpg")
    code, _, stderr = run(tmp_path / "print.jpg", "-o", tmp_path / "o.png", "-s", "2")
    assert code == 0
    assert "note:" in stderr
    assert "CMYK" in stderr
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert run(tmp_path / "deep.png", "-o", tmp_path / "deep_out.png", "-s", "2")[::2] == (0, "")
    assert Image.open(tmp_path / "deep_out.png").mode == "I;16"


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


def test_doctor(run):
    code, stdout, _ = run(command="doctor")
    assert code == 0
    assert f"torch {torch.__version__}" in stdout
    for name in ("corner_gather", "corner_gather_backward", "render"):
        assert f"{name} on cpu: " in stdout
    facts = json.loads(run("--json", command="doctor")[1])
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["operators"]["render"]["cpu"]


def test_eval(run, tmp_path):
    hr = tmp_path / "data" / "HR"
    hr.mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)).save(hr / f"{name}.png")
    code, stdout, _ = run("--data", tmp_path / "data", "-s", "2", "--json", command="eval")
    assert code == 0
    report = json.loads(stdout)
    assert 0 < report["psnr"] < 20  # noise cannot be restored
    code, stdout, _ = run("--data", tmp_path / "data", "-s", "2", "--protocol", "div2k", command="eval")
    assert code == 0
    assert "border" in stdout
    code, _, stderr = run("--data", tmp_path / "nowhere", "-s", "2", command="eval")
    assert code == 2
    assert "nowhere" in stderr
    assert run("--data", tmp_path / "data", "-s", "0", command="eval")[0] == 2


def test_out_of_memory_is_an_error_of_the_file(tmp_path, photo, monkeypatch, model_file):
    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore lines.")

    model = liif_fast.load(model_file)
    monkeypatch.setattr(model, "upscale", fail)
    (result,) = upscale.upscale_files(model, [photo], tmp_path / "o.png", upscale.Options(scale=2))
    assert result.error.startswith("out of memory: give a smaller --tile")
    assert "\n" not in result.error
