"""``liif-fast view``: how it begins and ends, and what it refuses."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import command
import fake_desk
import pytest
import torch
from served import VIEW, address

import liif_fast
from liif_fast.cli import arguments, view
from liif_fast.head import ops

pytestmark = pytest.mark.usefixtures("no_matrix_units")
needs_server = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("starlette", "uvicorn"))), reason="the package uvicorn is not installed"
)


@pytest.fixture
def desks(monkeypatch):
    """Those that the command makes."""
    made = []

    class Desk(fake_desk.Desk):
        def __init__(self, *given, **options):
            super().__init__(*given, **options)
            made.append(self)

    monkeypatch.setattr(view, "Desk", Desk)
    return made


@pytest.fixture
def said(desks, capsys, photo, monkeypatch):
    """said(*arguments) -> (exit code, stdout, stderr) of ``liif-fast view``, which is ended as soon as it listens."""

    def ended(*_):
        raise KeyboardInterrupt

    if importlib.util.find_spec("uvicorn"):
        monkeypatch.setattr("liif_fast.viewing.protocol.Server.listen", ended)
    monkeypatch.setattr(view.webbrowser, "open", lambda _: pytest.fail("a browser is opened"))
    monkeypatch.chdir(photo.parent)
    return lambda *arguments: command.outcome(capsys, "view", *arguments)


MISTAKES = """
                                    | 2 | the following arguments are required: PHOTO
photo.png .                         | 2 | .: is a folder; name the files in it, e.g. ./*.jpg
phto.png                            | 2 | phto.png: no such file; check the name
photo.png ""                        | 2 | PHOTO and --truth: names of files are wanted, got an empty one
photo.png --truth a.png             | 2 | a.png: no such file; check the name
photo.png photo.png --truth photo.png | 2 | --truth: one file for each PHOTO is wanted, got 1 for 2
photo.png --port 65536              | 2 | --port 65536: 0 to 65535 is wanted, 0 for a free one
photo.png --port -1                 | 2 | --port -1: 0 to 65535 is wanted, 0 for a free one
photo.png --port x                  | 2 | --port invalid int value: 'x'
photo.png --memory 0                | 2 | --memory 0: a number of MiB above 0 is wanted
photo.png --max-pixels 0            | 2 | --max-pixels 0: a number above 0 is wanted
photo.png --modle x                 | 2 | --modle: no such option; --model?
photo.png --dtype int4              | 2 | --dtype invalid choice: 'int4'
photo.png --device gpux             | 2 | --device gpux:
photo.png -m no-such-model          | 2 | known names: edsr-baseline-liif
"""


@needs_server
@pytest.mark.parametrize("row", MISTAKES.strip("\n").splitlines())
def test_mistakes_are_one_line(said, row):
    typed, code, words = (cell.strip() for cell in row.split(" | "))
    found = said(*(part.strip('"') for part in typed.split()), "--no-browser")
    assert (found[0], found[1], found[2].count("\n")) == (int(code), "", 1)
    assert words in found[2]


def test_what_must_be_installed(said, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, stderr = said("photo.png")
    want = "the page needs starlette and uvicorn: pip install 'starlette>=0.40' 'uvicorn>=0.30'"
    assert (code, stderr) == (2, f"liif-fast: error: {want}\n")


@needs_server
def test_a_port_that_is_in_use(said, model_file):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, stdout, stderr = said("photo.png", "-m", model_file, "--port", port)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert f"--port {port}: " in stderr
    assert "leave it out for a free one" in stderr


@needs_server
def test_not_a_liif(said, tmp_path):
    for name, kind in (("srresnet", "a SRResNet, which is made for x2"), ("srcnn", "a SRCNN")):
        args = {"scale": 2} if name == "srresnet" else {}
        liif_fast.make({"name": name, "args": args}).save(tmp_path / "other.pth")
        code, _, stderr = said("photo.png", "-m", "other.pth")
        want = f"--model other.pth: is {kind}; a LIIF is wanted, which has pixels at any scale"
        assert (code, stderr) == (2, f"liif-fast: error: {want}\n")


@needs_server
def test_what_the_desk_gets(said, desks, model_file, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    os.link(model_file, tmp_path / "other" / "small.safetensors")
    os.link(model_file, tmp_path / "truth.safetensors")
    opened = []
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    monkeypatch.setenv("BROWSER", "x")
    models = [model_file, "other/small.safetensors", "truth.safetensors"]
    named = [part for model in models for part in ("-m", model)]
    code, stdout, stderr = said(*named, "photo.png", "--truth", "photo.png", "--memory", 64, "--dtype", "fp32")
    assert (code, stderr) == (0, "liif-fast: Ctrl-C ends it\nliif-fast: stopped\n")
    (line,) = stdout.splitlines()
    assert line.startswith("http://127.0.0.1:")
    assert opened == [line]
    (desk,) = desks
    assert [shown.name for shown in desk.shown] == ["small", "small (2)", "truth (2)"]
    assert [shown.dtype for shown in desk.shown] == [torch.float32] * 3
    assert [shown.note for shown in desk.shown] == ["float32"] * 3
    assert [shown.arguments for shown in desk.shown] == [["-m", str(m), "--dtype", "float32"] for m in models]
    assert (desk.photos, desk.truths) == ([Path("photo.png")], [Path("photo.png")])
    assert desk.options == {
        "memory": 64 << 20,
        "tiles": 16 << 20,
        "max_pixels": arguments.MAX_PIXELS,
    }


@needs_server
def test_the_page_s_command_names_a_model_that_looks_like_an_option(said, desks, model_file, tmp_path):
    os.link(model_file, tmp_path / "-small.safetensors")
    assert said("photo.png", "--model=-small.safetensors", "--dtype", "fp32")[0] == 0
    assert desks[0].shown[0].arguments[:2] == ["-m", os.path.join(".", "-small.safetensors")]


@needs_server
@pytest.mark.parametrize("kernels", [True, False])
def test_auto_is_int8_where_there_are_kernels(said, desks, model_file, monkeypatch, kernels):
    monkeypatch.setattr(ops, "CPU_KERNELS", kernels)
    assert said("photo.png", "-m", model_file, "--no-browser", "--device", "cpu")[0] == 0
    (shown,) = desks[0].shown
    assert shown.dtype == (torch.int8 if kernels else torch.float32)
    want = ["-m", str(model_file), "--device", "cpu", "--dtype", "int8" if kernels else "float32"]
    assert shown.arguments == want


@needs_server
def test_a_photo_that_cannot_be_read_and_a_desk_that_fails(said, desks, model_file, monkeypatch):
    failed = threading.Event()

    def fails(*_, **options):
        failed.set()
        raise RuntimeError("no features\ntoday")

    def ended(*_):
        assert failed.wait(20)
        raise KeyboardInterrupt

    monkeypatch.setattr("liif_fast.viewing.protocol.Server.listen", ended)
    monkeypatch.setattr(fake_desk.Desk, "begin", fails)
    code, _, stderr = said("photo.png", "-m", model_file, "--no-browser")
    assert code == 0
    assert "liif-fast: error: no features today\n" in stderr
    monkeypatch.setattr(fake_desk.Desk, "__init__", fails)
    assert said("photo.png", "-m", model_file)[::2] == (1, "liif-fast: error: no features today\n")


def test_no_browser_over_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert not view._has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert view._has_screen()


def test_the_module_needs_no_server(monkeypatch):
    """Its import is before the words of what must be installed."""
    program = (
        "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None; import liif_fast.cli.view; "
        "assert not {'liif_fast.viewing.server', 'liif_fast.viewing.protocol'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=_environment())


PROGRAM = """
import sys, time
sys.argv[0] = "liif-fast"
import fake_desk, torch
if sys.argv[1] == "long":  # a call of torch's of many seconds, which nothing can end
    def tile(self, view):
        print("begun", flush=True)
        large = torch.ones(3000, 3000, dtype=torch.float64)
        torch.linalg.multi_dot([large] * 500)
    fake_desk.Desk.tile = tile
del sys.argv[1]
fake_desk.install()
from liif_fast.cli.main import main
sys.exit(main())
"""


def _environment() -> dict[str, str]:
    places = (Path(liif_fast.__file__).parents[1], Path(fake_desk.__file__).parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}


@needs_server
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "work"), [("SIGINT", 0, "none"), ("SIGINT", 0, "long"), ("SIGTERM", 143, "long")]
)
def test_a_whole_process_ends_at_once(photo, model_file, number, code, work):
    given = [sys.executable, "-c", PROGRAM, work, "view", photo, "-m", model_file, "--no-browser", "--dtype", "float32"]
    process = subprocess.Popen(
        list(map(str, given)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        page = process.stdout.readline().strip()
        assert urllib.request.urlopen(page + "state", timeout=20).status == 200
        port = int(page.rpartition(":")[2].strip("/"))
        with socket.create_connection(("127.0.0.1", port)) as client:  # that of a tile, or one that asks nothing
            if work == "long":
                client.sendall(f"GET {address('/tile', **VIEW)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert process.stdout.readline() == "begun\n"
            began = time.monotonic()
            process.send_signal(getattr(signal, number))
            stdout, stderr = process.communicate(timeout=60)
            seconds = time.monotonic() - began
    finally:
        process.kill()
    said = "liif-fast: Ctrl-C ends it\n" + ("liif-fast: stopped\n" if code == 0 else "")
    assert (process.returncode, stdout, stderr) == (code, "", said)
    assert seconds < 5  # at once, on a machine that does much else; the work alone takes longer
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port))
