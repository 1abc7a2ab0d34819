"""``liif-fast view``: what its arguments mean, and how the command begins and ends."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import socket
import sys
import threading
import webbrowser
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .. import distributed
from ..base import interruption
from ..head import ops
from ..models.liif import LIIF
from ..sizes import MAX_PIXELS
from ..viewing import saving
from ..viewing.desk import Desk, Shown
from ..viewing.work import Dropped, Work
from ..weights import hub, pretrained
from . import common, reporting
from .errors import UsageError
from .view_arguments import MODEL

ENDING = 10.0  # seconds for the thread that draws, inside of another program


def run(args: argparse.Namespace) -> int:
    """Serve the page as the arguments of ``liif-fast view`` say, until Ctrl-C; returns the exit code."""
    _check(args)
    if args.debug:
        logging.getLogger("liif_fast.viewing").addHandler(_Traces())
    with _listening(args.port) as listening:
        desk = _desk(args)
        work = Work()
        try:
            work.put(lambda pause: desk.begin()).add_done_callback(_begun)
            _serve(args, desk, work, listening)
        except KeyboardInterrupt:
            interruption.over()
            reporting.say("stopped")
        except SystemExit as stop:  # other signals
            _end(work, stop.code if isinstance(stop.code, int) else 1)
            raise
        except Exception:
            work.close(ENDING)
            raise
        _end(work, 0)
    return 0


def _serve(args: argparse.Namespace, desk: Desk, work: Work, listening: socket.socket) -> None:
    from ..viewing import protocol, server  # with what they need, while the photo is being encoded

    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    reporting.result(address)
    reporting.say("Ctrl-C ends it")
    if args.browser and _has_screen():
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
    protocol.Server(server.Site(desk, work)).listen(listening)


class _Traces(logging.Handler):
    """What went wrong in the midst of an answer, beside the line that is said of it."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            reporting.trace(record.exc_info[1])


def _begun(future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, Dropped):
        reporting.say(f"error: {' '.join(str(error).split()) or type(error).__name__}")


def _end(work: Work, code: int) -> None:
    """End the thread that draws, and the process where it is the command's own: that thread may be in a long call of
    torch, which Python's own end would wait for, or crash."""
    interruption.over()
    if interruption.guard():
        os._exit(reporting.finish(code))
    work.close(ENDING)


def _has_screen() -> bool:
    """Without one a browser for terminals would be opened, over what the command says."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in screens)


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(f"--port {port}: {error.strerror or error}; leave it out for a free one") from error


def _check(args: argparse.Namespace) -> None:
    """What is wrong without reading a file; UsageError."""
    if distributed.world() > 1:
        raise UsageError("view: runs in one process; leave torchrun out")
    for name in (*args.inputs, *args.truth):
        if not name:
            raise UsageError("PHOTO and --truth: names of files are wanted, got an empty one")
        if os.path.isdir(name):
            raise UsageError(f"{name}: is a folder; name the files in it, e.g. {os.path.join(name, '*.jpg')}")
        if not os.path.lexists(name):
            raise UsageError(f"{name}: no such file; check the name")
    if args.truth and len(args.truth) != len(args.inputs):
        raise UsageError(f"--truth: one file for each PHOTO is wanted, got {len(args.truth)} for {len(args.inputs)}")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: 0 to 65535 is wanted, 0 for a free one")
    if args.memory is not None and args.memory < 1:
        raise UsageError(f"--memory {args.memory}: a number of MiB above 0 is wanted")
    if args.max_pixels < 1:
        raise UsageError(f"--max-pixels {args.max_pixels}: a number above 0 is wanted")
    if not all(map(importlib.util.find_spec, ("starlette", "uvicorn", "h11"))):
        raise UsageError("the page needs starlette and uvicorn: pip install 'starlette>=0.40' 'uvicorn>=0.30'")


def _desk(args: argparse.Namespace) -> Desk:
    """What draws, with all models and the first photo."""
    files = args.model or [MODEL]
    models = [_model(args, name, file) for name, file in zip(_names(files), files, strict=True)]
    room = {} if args.memory is None else {"memory": args.memory << 20, "tiles": args.memory << 18}
    photos, truths = map(Path, args.inputs), map(Path, args.truth)
    return Desk(list(photos), models, list(truths), max_pixels=args.max_pixels, **room)


def _model(args: argparse.Namespace, name: str, file: str) -> Shown:
    auto = "auto"
    if common.device(args.device).type == "cpu":
        auto = "int8" if ops.CPU_KERNELS else "float32"
    model, dtype = common.load(args, file, auto)
    if not isinstance(model, LIIF):
        kind = f"a {type(model).__name__}"
        if scale := getattr(model, "scale", None):
            kind += f", which is made for x{scale}"
        raise UsageError(f"--model {file}: is {kind}; a LIIF is wanted, which has pixels at any scale")
    kind = str(dtype).removeprefix("torch.")
    if args.dtype == "auto" and auto == "int8" and (why := model.why_not_int8()):
        reporting.say(f"note: {file}: {kind} instead of int8: {why}")
    return Shown(name, model, dtype, kind, _command(args, file, kind))


def _names(files: list[str]) -> list[str]:
    """What the page calls the models: each otherwise, and not as the page's own methods."""
    names: list[str] = []
    for file in files:
        known = file in pretrained.names() or hub.is_address(file)
        name = file.rpartition("/")[2] if known else Path(file).stem
        taken, alike = {"bicubic", "nearest", "truth", *names}, 1
        while (name if alike == 1 else f"{name} ({alike})") in taken:
            alike += 1
        names.append(name if alike == 1 else f"{name} ({alike})")
    return names


def _command(args: argparse.Namespace, file: str, dtype: str) -> list[str]:
    """The arguments of ``liif-fast upscale`` by which a model computes as the page does."""
    imports = [part for name in args.imports for part in ("--import", name)]
    device = [] if args.device == "auto" else ["--device", args.device]
    limit = [] if args.max_pixels == MAX_PIXELS else ["--max-pixels", str(args.max_pixels)]
    return ["-m", saving.word(file), *device, "--dtype", dtype, *limit, *imports]
