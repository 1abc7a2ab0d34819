"""What the viewer's page talks to, in a thread: pictures by Pillow instead of models."""

from __future__ import annotations

import contextlib
import io
import json
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

import liif_fast.viewing
from liif_fast.viewing.view import LARGEST_SCALE, LARGEST_TILE, View

PAGE = Path(liif_fast.viewing.__file__).parent / "page"
FILES = {
    "/": ("view.html", "text/html; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/view.css": ("view.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
METHODS = ["bicubic", "nearest", "red", "green", "truth"]


def paint(path: Path, size: tuple[int, int], blocks: int = 2, mode: str = "RGB") -> Path:
    """Write a picture with colours everywhere; returns its path."""
    width, height = (max(1, n // blocks) for n in size)
    noise = np.random.default_rng(size[0]).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    Image.fromarray(noise, mode).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


class PageServer:
    """``address``; ``asked`` and ``gone``: views of tiles that came, and those whose client left before its answer."""

    def __init__(self, photos: Sequence[Path], truths: Sequence[Path] = ()) -> None:
        self.names = [path.name for path in photos]
        self.photos = [Image.open(path).convert("RGBA") for path in photos]
        self.truths = [Image.open(path).convert("RGBA") for path in truths]
        self.asked: list[View] = []
        self.gone: list[View] = []
        self.refused: dict[int, int] = {}  # method -> status
        self.free = threading.Event()
        self.free.set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.free.set()
        self.server.shutdown()
        self.server.server_close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While it lasts no tile of a model is answered."""
        self.free.clear()
        try:
            yield
        finally:
            self.free.set()

    def state(self) -> dict:
        methods = [{"name": name, "kind": "model" if name in {"red", "green"} else name} for name in METHODS]
        methods[2]["note"] = "int8"
        shown = methods if self.truths else methods[:-1]
        photos = [{"name": name} for name in self.names]
        return {"photos": photos, "methods": shown, "tile": LARGEST_TILE, "scale": LARGEST_SCALE}

    def photo(self, photo: int) -> dict:
        width, height = self.photos[photo].size
        truth = dict(zip(("width", "height"), self.truths[photo].size, strict=True)) if self.truths else None
        return {"width": width, "height": height, "notes": ["a note"] if photo else [], "truth": truth}

    def render(self, view: View, size: tuple[int, int] | None = None) -> np.ndarray:
        """(height, width, 4) of a view, as the page should show it."""
        kind = METHODS[view.method]
        source = self.truths[view.photo] if kind == "truth" else self.photos[view.photo]
        top, left, height, width = view.window()
        zoom = source.width / self.photos[view.photo].width
        box = tuple(n * zoom for n in (left, top, left + width, top + height))
        rows, columns = size or (view.height, view.width)
        if kind == "nearest":
            y, x = (
                ((np.arange(n) + 0.5) * (b - a) / n + a).astype(int)
                for n, a, b in [(rows, box[1], box[3]), (columns, box[0], box[2])]
            )
            return np.asarray(source)[np.ix_(y.clip(0, source.height - 1), x.clip(0, source.width - 1))]
        box = (box[0], box[1], min(box[2], source.width), min(box[3], source.height))
        pixels = np.array(source.resize((columns, rows), Image.Resampling.BICUBIC, box))
        if kind in {"red", "green"}:  # by the pixel: tiles of any size agree
            pixels[..., METHODS.index(kind) - 2] = 255 - pixels[..., METHODS.index(kind) - 2]
        return pixels

    def psnr(self, view: View) -> float | None:
        ours, truth = (self.render(view._replace(method=m)).astype(float)[..., :3] for m in (view.method, 4))
        error = ((ours - truth) ** 2).mean()
        return 10 * np.log10(255**2 / error) if error else None

    def command(self, view: View, size: tuple[int, int]) -> str:
        window = ",".join(f"{n:g}" for n in view.window())
        return f"liif-fast upscale {self.names[view.photo]} --window {window} --size {size[1]}x{size[0]}"


class _Handler(BaseHTTPRequestHandler):
    owner: PageServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the browser leaves when it likes
            super().handle()

    def do_GET(self) -> None:
        path, owner = urlsplit(self.path), self.owner
        query = dict(parse_qsl(path.query))
        more = [int(query.pop(name)) for name in ("rows", "columns") if name in query]
        numbers = [float(n) if name == "scale" else int(n) for name, n in query.items()]
        if path.path in FILES:
            name, kind = FILES[path.path]
            self.answer((PAGE / name).read_bytes(), kind)
        elif path.path == "/state":
            self.answer(json.dumps(owner.state()).encode(), "application/json")
        elif path.path == "/photo":
            self.answer(json.dumps(owner.photo(*numbers)).encode(), "application/json")
        elif path.path == "/tile":
            self.tile(View(*numbers))
        elif path.path == "/psnr":
            self.answer(json.dumps({"psnr": owner.psnr(View(*numbers))}).encode(), "application/json")
        elif path.path == "/save":
            file = io.BytesIO()
            Image.fromarray(owner.render(View(*numbers), tuple(more))).save(file, "PNG")
            self.answer(file.getvalue(), "image/png", 'attachment; filename="photo_view.png"')
        elif path.path == "/command":
            self.answer(owner.command(View(*numbers), tuple(more)).encode(), "text/plain; charset=utf-8")
        else:
            self.answer(b"no such path\n", "text/plain", status=404)

    def tile(self, view: View) -> None:
        owner = self.owner
        owner.asked.append(view)
        if view.method in owner.refused:
            return self.answer(b"refused by the test\n", "text/plain", status=owner.refused[view.method])
        if METHODS[view.method] in {"red", "green"}:
            while not owner.free.wait(0.02):
                if self.left():
                    owner.gone.append(view)
                    self.close_connection = True
                    return None
        return self.answer(owner.render(view).tobytes(), "application/octet-stream")

    def left(self) -> bool:
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            return True

    def answer(self, body: bytes, kind: str, disposition: str = "", status: int = 200) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            policy = (
                "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'"
            )
            self.send_header("Content-Security-Policy", policy)
            if disposition:
                self.send_header("Content-Disposition", disposition)
            self.end_headers()
            self.wfile.write(body)
