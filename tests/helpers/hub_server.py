"""A hub of one process: what the Hugging Face Hub's client asks of it to read repositories, from folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """``folder/user/name`` is a repository with a branch main and a tag v1; others as what is asked for is called."""

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0].removeprefix("/api/models").strip("/")
        name = "/".join(path.split("/")[:2])
        files = self.folder / name
        if name == "user/gated" and "/resolve/" in path:
            return self._say(403, error="GatedRepo")
        if not files.is_dir():
            return self._say(404, error="RepoNotFound")
        if not re.search(rf"/(main|v1|{COMMIT})(/|$)", path):
            return self._say(404, error="RevisionNotFound")
        there = sorted(p for p in files.iterdir() if p.is_file())
        if "/revision/" in path:
            siblings = [{"rfilename": p.name} for p in there]
            return self._say(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
        if "/tree/" in path:
            sizes = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": _hash(p)} for p in there]
            return self._say(200, json.dumps(sizes).encode())
        file = files / path.rpartition("/")[2]
        return (
            self._say(200, file.read_bytes(), _hash(file)) if file.is_file() else self._say(404, error="EntryNotFound")
        )

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self._say(401)

    def _say(self, status: int, body: bytes = b"", etag: str = "", error: str = "") -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, "ETag": etag, "X-Error-Code": error}
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _hash(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what has been asked of it so far."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"folder": folder, "asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
