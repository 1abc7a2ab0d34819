"""A page's server in a thread of the test's process, and raw requests to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fake_desk

from liif_fast.viewing import protocol, server, work
from liif_fast.viewing.desk import Shown

FILES = {"view.html": "<!doctype html>", "view.js": "let x", "view.css": "a {}", "icon.svg": "<svg/>"}
VIEW = {"photo": 0, "method": 0, "scale": 2, "x": 4, "y": 2, "width": 12, "height": 8}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        """Of an error: it is one line of plain text."""
        text = self.body.decode()
        assert self.headers["content-type"] == "text/plain; charset=utf-8"
        assert len(text.splitlines()) == 1
        return text


class Served(NamedTuple):
    port: int
    desk: Any
    work: work.Work
    server: protocol.Server

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, *lines: str, host: str | None = "127.0.0.1") -> Answer:
        """The answer to the head of a request, on a connection of its own."""
        with self.connect() as connection:
            connection.sendall(head(*lines, host=host))
            return answer(connection)

    def get(self, path: str, *more: str, **query) -> Answer:
        return self.send(f"GET {address(path, **query)} HTTP/1.1", *more)

    def connections(self) -> int:
        return len(self.server.server_state.connections)


def address(path: str, **query) -> str:
    return path + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")


def head(*lines: str, host: str | None = "127.0.0.1") -> bytes:
    hosts = [] if host is None else [f"Host: {host}"]
    return "".join(line + "\r\n" for line in (*lines, *hosts, "")).encode("latin-1")


def answer(connection: socket.socket) -> Answer:
    """The next answer on a connection; ConnectionError if it is closed before the answer is whole."""
    top, body = b"", b""
    while not top.endswith(b"\r\n\r\n"):
        top += _more(connection, 1)  # what follows is the next one's
    status, *lines = top.decode("latin-1").strip().split("\r\n")
    assert status.startswith("HTTP/1.1 ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while "content-length" in headers and len(body) < int(headers["content-length"]):
        body += _more(connection, int(headers["content-length"]) - len(body))
    return Answer(int(status.split(" ")[1]), headers, body)


def _more(connection: socket.socket, most: int) -> bytes:
    data = connection.recv(min(most, 1 << 16))
    if not data:
        raise ConnectionError("closed")
    return data


@contextlib.contextmanager
def served(
    photos: list[Path],
    truths: list[Path] | None = None,
    most: int = work.WAITING,
    desk: Any = None,
    page: Path | None = None,
) -> Iterator[Served]:
    """desk: None: a fake one. page: folder of its files; None: short ones."""
    if page is None:
        page = photos[0].parent / "page"
        page.mkdir(exist_ok=True)
        for name, text in FILES.items():
            (page / name).write_text(text)
    desk = desk or fake_desk.Desk(photos, [Shown("tiny", None, None)], truths or ())
    jobs = work.Work(most)
    where = socket.create_server(("127.0.0.1", 0))
    http = protocol.Server(server.Site(desk, jobs, page))
    port, thread = where.getsockname()[1], threading.Thread(target=http.listen, args=[where], daemon=True)
    thread.start()
    until(lambda: http.started)
    try:
        yield Served(port, desk, jobs, http)
    finally:
        if isinstance(desk, fake_desk.Desk):
            desk.hold.set()
        http.end()
        assert jobs.close(20)
        thread.join(20)
        assert not thread.is_alive()


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.005)


def json_of(found: Answer):
    assert found.status == 200, found.body
    return json.loads(found.body)
