"""The command run many times in processes of its own, for the price of one import of torch.

A server has imported liif_fast and run it once; for each request it forks a child that has its own working folder,
streams, limits and process group, runs ``liif_fast.cli.main(argv)`` as ``liif-fast`` would and ends. What the child
needed and left behind is reported. One thread: OpenMP's pool does not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from process_facts import cpu_seconds, group_lives, memory

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MIB = 2**20
POLL = 0.005  # seconds between two looks at the child
IDLE = 0.05  # seconds of processor time that a process uses which only waits, a thread for its progress too
_peak = mmap.mmap(-1, 8)  # shared: a child's largest address space at its end, which no look from outside may meet


@dataclass
class Request:
    """One run. ``function``: "module:name" in place of the command, called with ``argument``, for checks.

    Streams: a file's name, or "closed", or None (/dev/null for input).
    """

    argv: list[str] = field(default_factory=list)
    cwd: str = "."
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    encoding: str = "utf-8"
    cpu: float = 10.0  # seconds of processor time, then it is killed
    wall: float = 15.0  # seconds without processor time, then it is killed: it waits for what does not come
    resident: int = 1024 * MIB  # bytes in memory, then it is killed
    address_space: int | None = None  # RLIMIT_AS beyond what the server has
    file_size: int | None = None  # RLIMIT_FSIZE
    plant: str | None = None  # "module:name" called in the child before the command
    env: dict[str, str] = field(default_factory=dict)
    function: str | None = None
    argument: Any = None


@dataclass
class Outcome:
    """What became of it: ``code`` as a shell shows it (128 + signal), ``killed`` for which limit, if any."""

    code: int
    killed: str | None
    cpu: float
    wall: float
    resident: int
    address_space: int  # growth of the address space over the server's, bytes
    survivors: bool  # processes that it started still ran


class Client:
    """A server process; ``run`` is one request."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **(environment or {})}
        env["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), str(HERE), str(HERE.parent / "helpers"), env.get("PYTHONPATH", "")]
        )
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "forkserver.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )
        self._answer()  # it is ready

    def start(self, request: Request) -> int:
        """Begin a run; its process id. ``finish`` must follow."""
        self.process.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()["pid"]

    def finish(self) -> Outcome:
        return Outcome(**self._answer())

    def run(self, request: Request) -> Outcome:
        self.start(request)
        return self.finish()

    def call(self, function: str, argument: Any, folder: Path, **limits: Any) -> Any:
        """A function's answer (JSON) from a child of its own; a text where the child died."""
        path = folder / "answer.json"
        request = Request(function=function, argument={"argument": argument, "answer": str(path)}, **limits)
        outcome = self.run(request)
        if outcome.code == 0 and path.exists():
            return json.loads(path.read_text())
        return f"{function} ended with {outcome.code}, killed: {outcome.killed}"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of hostile runs has ended with {self.process.wait()}")
        return json.loads(line)


def serve() -> None:
    _warm()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value).encode() + b"\n")
        answers.flush()

    base = memory(os.getpid())[1]
    answer({"ready": True})
    for line in iter(requests.readline, b""):
        request = Request(**json.loads(line))
        _peak[:] = bytes(8)
        pid = os.fork()
        if pid == 0:
            _child(request, base)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        answer({"pid": pid})
        answer(asdict(_watch(pid, request, base)))


def _warm() -> None:
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    for name in ("compare", "doctor", "evaluate", "train", "tune", "upscale"):
        importlib.import_module(f"liif_fast.cli.{name}")
    from PIL import Image

    import liif_fast

    Image.init()
    args = {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}
    spec = {"encoder_spec": {"name": "edsr-baseline", "args": args}}
    spec["imnet_spec"] = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}}
    model = liif_fast.make({"name": "liif", "args": spec})
    model.upscale(np.zeros((9, 9, 3), np.uint8), scale=2)


def _watch(pid: int, request: Request, base: int) -> Outcome:
    """Wait for a child, kill it at a limit, and whatever it has started afterwards."""
    start, killed, resident, address_space = time.monotonic(), None, 0, 0
    worked = (start, 0.0)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        rss, virtual = memory(pid)
        resident, address_space = max(resident, rss), max(address_space, virtual - base)
        now, cpu = time.monotonic(), cpu_seconds(pid)
        if cpu > worked[1] + IDLE:
            worked = (now, cpu)
        if killed is None:
            if rss > request.resident:
                killed = f"memory above {request.resident // MIB} MiB"
            elif cpu > request.cpu:
                killed = f"more than {request.cpu:g} s of processor time"
            elif now - worked[0] > request.wall:  # not the time alone: the machine may be busy
                killed = f"it waits, {request.wall:g} s already"
            if killed:
                os.killpg(pid, signal.SIGKILL)
        time.sleep(POLL)
    address_space = max(address_space, struct.unpack("Q", _peak[:])[0] - base)
    survivors = False
    with contextlib.suppress(ProcessLookupError):
        time.sleep(0.1 if group_lives(pid) else 0)
        survivors = group_lives(pid)
        os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    resident = max(resident, usage.ru_maxrss * 1024)
    if killed is None and resident > request.resident:
        killed = f"memory above {request.resident // MIB} MiB"
    cpu = usage.ru_utime + usage.ru_stime
    return Outcome(
        128 - code if code < 0 else code, killed, cpu, time.monotonic() - start, resident, address_space, survivors
    )


def _child(request: Request, base: int) -> None:
    code = 70
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.chdir(request.cwd)
        os.environ.update(request.env)
        _streams(request)
        if request.plant is not None:
            _named(request.plant)()
        if request.address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (base + request.address_space,) * 2)
        if request.file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request.file_size,) * 2)
        code = _run(request)
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
        code = 1
    finally:
        _peak[:] = struct.pack("Q", memory(os.getpid())[1])
        os._exit(code)


def _run(request: Request) -> int:
    """The command's exit code, as the interpreter would end with."""
    if request.function is not None:
        Path(request.argument["answer"]).write_text(
            json.dumps(_named(request.function)(request.argument["argument"])), encoding="utf-8"
        )
        return 0
    from liif_fast.cli import main as cli

    sys.argv = ["liif-fast", *request.argv]
    try:
        code = cli.main(request.argv)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except (OSError, ValueError):  # the interpreter's own way to say it
            code = 120
    return code or 0


def _named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _streams(request: Request) -> None:
    """Standard streams as a shell and the interpreter's start would set them up."""
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), None, None
    for number, name in enumerate((request.stdin, request.stdout, request.stderr)):
        if name == "closed":
            os.close(number)
            continue
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        opened = os.open(name or os.devnull, flags | os.O_NONBLOCK if number == 0 else flags, 0o644)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    if request.stdin != "closed":
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if request.stdout != "closed":
        sys.stdout = open(1, "w", encoding=request.encoding, errors="strict", closefd=False)  # noqa: SIM115
    if request.stderr != "closed":
        errors = {"errors": "backslashreplace", "buffering": 1}
        sys.stderr = open(2, "w", encoding=request.encoding, closefd=False, **errors)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


if __name__ == "__main__":
    serve()
