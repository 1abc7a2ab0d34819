"""Standard input and output, and pipes, in the place of files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import command
import numpy as np
import pytest
from PIL import Image

import liif_fast
from liif_fast.cli import common
from liif_fast.upscaling import streams

pytestmark = pytest.mark.usefixtures("no_matrix_units")
needs_devices = pytest.mark.skipif(not os.path.exists("/dev/fd/1"), reason="needs /dev/fd")


@pytest.fixture
def piped(capfdbinary, tmp_path, monkeypatch, model_file):
    """piped(data, *arguments) -> (code, standard output, standard error) with data on standard input."""
    command.photo(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)

    def run(data: bytes, *arguments: object):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        model = [] if "-m" in arguments else ["-m", model_file]
        try:
            code = command.cli.main(["upscale", *map(str, arguments), "-s", "2", *map(str, model)])
        except SystemExit as stop:
            code = stop.code
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run


@pytest.fixture
def data(tmp_path) -> bytes:
    return Path(command.photo(tmp_path / "data.png", 3)).read_bytes()


def _picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("-", []),
        ("-", ["-o", "-"]),
        pytest.param("/dev/stdin", ["-o", "/dev/stdout"], marks=needs_devices),
        pytest.param("/dev/fd/0", ["-o", "/dev/fd/1"], marks=needs_devices),
    ],
)
def test_from_standard_input_to_standard_output(piped, data, tmp_path, model_file, source, output):
    before = sorted(tmp_path.iterdir())
    code, out, err = piped(data, source, *output)
    assert (code, err.count("\n")) == (0, 1)
    assert f"{streams.STDOUT}: 14x10 -> 28x20 in " in err
    want = liif_fast.load(model_file).upscale(_picture(data), scale=2)
    assert np.array_equal(np.asarray(_picture(out)), np.asarray(want))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "flags", "wanted"),
    [
        ("PNG", [], "PNG"),
        ("JPEG", [], "JPEG"),
        ("TIFF", [], "TIFF"),  # whose writer goes back and forth
        ("WEBP", [], "WEBP"),
        ("GIF", [], "PNG"),
        ("PNG", ["--format", "jpg"], "JPEG"),
        ("JPEG", ["--format", "webp"], "WEBP"),
    ],
)
def test_the_format_is_the_inputs_or_the_one_asked_for(piped, data, kind, flags, wanted):
    source = io.BytesIO()
    _picture(data).save(source, kind)
    code, out, _ = piped(source.getvalue(), "-", *flags)
    assert (code, _picture(out).format, _picture(out).size) == (0, wanted, (28, 20))


def test_a_file_to_standard_output_and_standard_input_to_a_file(piped, data, tmp_path):
    code, out, err = piped(b"", "photo.png", "-o", "-")
    assert (code, _picture(out).size) == (0, (28, 20))
    code, out, err = piped(data, "-", "-o", "new/large.webp", "--json")
    assert (code, err) == (0, "")
    assert b'"input": "/dev/stdin", "output": "new/large.webp"' in out
    assert _picture((tmp_path / "new" / "large.webp").read_bytes()).format == "WEBP"
    code, _, err = piped(data, "-", "-o", "new/large.webp")
    assert (code, "exists" in err) == (1, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "/dev/stdin: nothing came; write an image file to it"),
        (b"hello", "/dev/stdin: not an image of a known format"),
        (None, "/dev/stdin: cannot be decoded"),  # truncated
    ],
    ids=["nothing", "text", "half"],
)
def test_what_is_no_picture(piped, data, given, words):
    code, out, err = piped(data[: len(data) // 2] if given is None else given, "-")
    assert (code, out, err.count("\n")) == (1, b"", 1)
    assert err.startswith(f"liif-fast: error: {words}")
    assert "liif_fast-" not in err  # the temporary file's name


def test_an_endless_input_is_given_up(piped, data):
    code, out, err = piped(data + bytes(2**26 + 2000), "-", "--max-pixels", "200")
    assert (code, out) == (1, b"")
    assert "/dev/stdin: more than 64 MB came; if that is right, raise --max-pixels" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("- -", "INPUT -: standard input goes alone, got 2 inputs"),
        ("- photo.png", "INPUT -: standard input goes alone, got 2 inputs"),
        ("- folder -o out", "INPUT -: standard input goes alone, got 2 inputs"),
        ("photo.png data.png -o -", "-o -: standard output takes one picture"),
        ("folder -o -", "-o -: standard output takes one picture"),
        ("- -o folder", "-o folder: standard input has no name"),
        ("- -o new", "-o new: standard input has no name"),
        ("- --in-place", "--in-place: standard input and output cannot be replaced"),
        ("photo.png -o - --in-place", "--in-place: standard input and output cannot be replaced"),
        ("- --json", "--json: standard output takes the picture"),
        ("photo.png -o - --json", "--json: standard output takes the picture"),
        ("- --format xyz", "--format: "),
        ("- --watch", "--watch -: is no folder"),
        ("folder --watch -o -", "--watch: results go into a folder or beside the images"),
    ],
)
def test_wrong_uses(piped, data, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(common, "load", lambda *_: pytest.fail("the model is loaded"))
    (tmp_path / "folder").mkdir()
    code, out, err = piped(data, *arguments.split())
    assert (code, out, err.count("\n")) == (2, b"", 1)
    assert words in err


@pytest.mark.parametrize(
    ("stream", "arguments", "words"),
    [
        ("stdin", "-", "INPUT -: standard input is a terminal; give it a file: liif-fast - < photo.png > large.png"),
        ("stdout", "photo.png -o -", "-o -: standard output is a terminal; give -o FILE, or > FILE behind the command"),
    ],
)
def test_nobody_types_or_reads_pictures(capsys, photo, monkeypatch, stream, arguments, words):
    monkeypatch.chdir(photo.parent)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: True)
    assert command.outcome(capsys, *arguments.split(), "-s", "2") == (2, "", f"liif-fast: error: {words}\n")


def test_a_dry_run_lists_on_standard_output(piped, data):
    code, out, _ = piped(data, "-", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, b"/dev/stdin -> /dev/stdout: 14x10 -> 28x20")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_named_pipes_are_read(piped, data, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")

    def write():
        with open(tmp_path / "pipe.png", "wb") as pipe:
            for i in range(0, len(data), 100):
                pipe.write(data[i : i + 100])
                pipe.flush()

    writer = threading.Thread(target=write)
    writer.start()
    code, out, _ = piped(b"", "pipe.png", "photo.png", "-o", "out")
    writer.join()
    assert code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"pipe.png", "photo.png"}
    assert b"out/pipe.png: 14x10 -> 28x20" in out


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_reader_that_goes_has_seen_enough(tmp_path, model_file):
    Image.new("RGB", (64, 64)).save(tmp_path / "in.bmp")
    script = '"$0" -m liif_fast - -s 16 -m "$1" < in.bmp | head -c 2; exit ${PIPESTATUS[0]}'
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parents[1])}
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, model_file], cwd=tmp_path, env=env, capture_output=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, b"BM")
    assert b"rror" not in done.stderr


@needs_devices
def test_standard_output_that_is_full(tmp_path, model_file):
    command.photo(tmp_path / "a.png")
    env = {**os.environ, "PYTHONPATH": str(Path(liif_fast.__file__).parents[1])}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "liif_fast", "a.png", "-s", "2", "-o", "-", "-m", model_file, "--device", "cpu"],
            cwd=tmp_path, env=env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 1
    assert "/dev/stdout: cannot be passed on (No space left on device); use a file in its place\n" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs pipes that do not wait")
def test_streams_that_are_set_not_to_wait(tmp_path, monkeypatch):
    """As programs that share them leave them: what is not there yet comes later, a full one is emptied."""
    data = np.random.default_rng(0).bytes(300_000)
    (source, into), (outof, target) = os.pipe(), os.pipe()
    for end in (source, target):
        os.set_blocking(end, False)
    got = bytearray()

    def write():
        time.sleep(0.2)
        with open(into, "wb", buffering=0) as pipe:
            pipe.write(data[:1000])
            time.sleep(0.2)
            pipe.write(data[1000:])

    def read():
        time.sleep(0.2)
        with open(outof, "rb") as pipe:
            got.extend(pipe.read())

    threads = [threading.Thread(target=each, daemon=True) for each in (write, read)]
    for each in threads:
        each.start()
    with open(source, encoding="utf-8") as stdin, open(target, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        with streams.source_file(streams.STDIN, 1 << 20) as file, streams.target_file(streams.STDOUT) as result:
            assert file.read_bytes() == data
            result.write_bytes(data)
    for each in threads:
        each.join(60)
    assert got == data


def _animation(frames: int = 3) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (frames, 10, 14, 3), dtype=np.uint8)
    pictures, stream = [Image.fromarray(each) for each in noise], io.BytesIO()
    pictures[0].save(stream, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return stream.getvalue()


def test_an_animation_is_read_from_a_stream_frame_by_frame(piped):
    code, out, _ = piped(_animation(), "-")
    assert code == 0
    with _picture(out) as image:
        assert (image.format, image.size, image.n_frames) == ("GIF", (28, 20), 3)
    code, out, err = piped(_animation(), "-", "--format", "jpg")
    assert (code, _picture(out).format, "the file holds 3 frames, JPEG one" in err) == (0, "JPEG", True)


def test_a_frame_that_cannot_be_read_is_an_error_of_the_stream(piped):
    data = _animation(12)
    code, out, err = piped(data[: len(data) - 400], "-")
    assert (code, out, err.count("\n")) == (1, b"", 1)
    assert err.startswith("liif-fast: error: /dev/stdin: ")
    assert "liif_fast-" not in err
