"""A thousand random and hostile requests: each gets a well-formed answer or a closed connection, none a file that was
not named, nothing stays, and then the page is answered as before."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import command
import pytest
import torch

pytest.importorskip("starlette", reason="the package starlette is not installed")
pytest.importorskip("uvicorn", reason="the package uvicorn is not installed")

from hostile_requests import Request, requests
from served import VIEW, Served, json_of, served, until

from liif_fast.viewing import protocol, server
from liif_fast.viewing.desk import Desk, Shown

SECRET = b"what nobody named"
COUNT, AT_ONCE = 1000, 200
MEMORY = 96 << 20  # more than that many answers at once take, and than an allocator keeps of them
_TOP = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z ]*\r\n((?:[a-z-]+: [ -~]*\r\n)*)\r\n", re.IGNORECASE)


@pytest.fixture
def site(tmp_path, tiny):
    (tmp_path / "secret.txt").write_bytes(SECRET)
    photo = command.photo(tmp_path / "photo.png", size=(140, 100))
    shown = Shown("tiny", tiny().eval(), torch.float32, "", ("-m", "tiny.safetensors"))
    with served([photo], desk=Desk([photo], [shown], [photo], memory=2 << 20, tiles=1 << 20)) as found:
        yield found


def test_hostile_requests(site, tmp_path, capfd, caplog, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 2.0)  # some of them never end theirs
    caplog.set_level(logging.ERROR)
    others = _quick()  # of other sites, which end some time
    assert site.get("/tile", **VIEW).status == 200
    until(lambda: site.connections() == 0)
    before, memory = _kept(), _memory()
    wanted = requests(0, COUNT - AT_ONCE, [str(tmp_path / "secret.txt"), "../secret.txt"])
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(lambda request: _sent(site, request), wanted))
    together = threading.Barrier(AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as clients:
        list(clients.map(lambda request: _sent(site, request, together), requests(1, AT_ONCE, ["/etc/passwd"])))
    assert json_of(site.get("/state"))["photos"] == [{"name": "photo.png"}]
    assert site.get("/tile", **VIEW).status == 200
    until(lambda: site.connections() == 0 and not site.server.server_state.tasks)
    until(lambda: _kept() == before)
    assert not site.work._by_key
    assert len(_quick() - others) <= server.QUICK
    assert _memory() - memory < MEMORY
    for room in (site.desk._features, site.desk._drawn):
        assert 0 < room.held <= room.size
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert [record.getMessage() for record in caplog.records] == []


def _kept() -> tuple[int, int]:
    """Threads, and open files where they can be counted."""
    files = Path("/proc/self/fd")
    return threading.active_count() - len(_quick()), len(os.listdir(files)) if files.is_dir() else 0


def _quick() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("liif_fast.viewing.quick")}


def _memory() -> int:
    """Of this process, where it can be read."""
    file = Path("/proc/self/statm")
    return int(file.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.is_file() else 0


def _sent(site: Served, request: Request, together: threading.Barrier | None = None) -> None:
    got, cut = b"", False
    with site.connect() as connection:
        if together is not None:
            together.wait(20)
        try:
            size = -(-len(request.data) // request.pieces) or 1
            for k in range(0, len(request.data), size):
                connection.sendall(request.data[k : k + size])
                if request.pieces > 1:
                    time.sleep(0.003)
            if request.leaves:
                if request.leaves == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            while data := connection.recv(1 << 16):
                got += data
        except ConnectionError:  # it had been answered before all of it was sent
            cut = True
            with contextlib.suppress(OSError):
                while data := connection.recv(1 << 16):
                    got += data
    assert SECRET not in got, request
    assert b"root:" not in got, request
    statuses, rest = _answers(got, request.data.startswith(b"HEAD"))
    assert cut or not rest, (request, rest[:200])
    assert statuses <= {200, 400, 404, 405, 503}, (request, got[:500])
    if request.fine:
        assert statuses <= {200, 503}, (request, got[:500])
        assert statuses, request


def _answers(got: bytes, without_body: bool) -> tuple[set[int], bytes]:
    """The statuses of all answers, and what follows the last whole one."""
    statuses: set[int] = set()
    while found := _TOP.match(got):
        status = int(found[1])
        length = re.search(rb"content-length: ([0-9]+)\r\n", found[2], re.IGNORECASE)
        assert length or status == 100, got[:500]
        end = found.end() + (int(length[1]) if length and not without_body else 0)
        if len(got) < end:
            break
        if status >= 400:
            assert len(got[found.end() : end].splitlines()) == (not without_body), got[:500]
        if status != 100:
            statuses.add(status)
        got = got[end:]
    return statuses, got
