"""What is answered on which path: the page's files, and views that the worker draws. GET only, own paths only, for
pages of this machine only; every error is one line of plain text.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..base.shown import named
from ..images.photo import ImageError
from . import queries
from .view import View, ViewError
from .work import Cancelled, Dropped, Pause, Urgency, Work

if TYPE_CHECKING:
    from .desk import Desk

PAGE = Path(__file__).parent / "page"
PIECE = 1 << 17  # bytes of an answer that are written at once, and that a slow client must take in a time
QUICK = 2  # threads for what takes milliseconds
SAVES = 5  # files that are computed, sent or waited for at once; the next one is refused
# whatever gets into the page cannot load or send anything elsewhere, and no other page can show or read ours
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
# A name of another machine that leads here would let its pages read ours (DNS rebinding). Any port: a forwarded one is
# another.
_HOST = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)

log = logging.getLogger(__name__)
Answer = Callable[[bytes], Awaitable[Response]]
Turn = Callable[[], AbstractAsyncContextManager[None]]


class Site:
    """The ASGI application.

    Args:
        desk: draws, in the thread of ``work`` only.
        page: folder of view.html, view.js, view.css and icon.svg.
    """

    def __init__(self, desk: Desk, work: Work, page: Path = PAGE) -> None:
        self.desk, self.work = desk, work
        self._saving, self._saves = asyncio.Lock(), 0
        self._quick = ThreadPoolExecutor(QUICK, "liif_fast.viewing.quick")
        answers = {
            "/": _Path(_file(page / "view.html", "text/html")),
            "/view.js": _Path(_file(page / "view.js", "text/javascript")),
            "/view.css": _Path(_file(page / "view.css", "text/css")),
            "/icon.svg": _Path(_file(page / "icon.svg", "image/svg+xml")),
            "/state": _Path(self._state),
            "/photo": _Worked(self._photo),
            "/tile": _Worked(self._tile),
            "/psnr": _Worked(self._psnr),
            "/save": _Worked(self._save, self._turn),
            "/command": _Worked(self._command),
        }
        self._paths = {path.encode() for path in answers}
        self._app = Starlette(routes=[Route(path, answer) for path, answer in answers.items()])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(scope)
        app: ASGIApp = self._app if refused is None else refused
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Of what no path answers."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            came = ", ".join(named(host.decode("latin-1"), 60) for host in hosts[:2]) or "none"
            return _text(400, f"Host: 127.0.0.1, localhost or [::1] is wanted, got {came}")
        if scope["method"] != "GET":
            allowed = {"Allow": "GET", "Connection": "close"}  # a body may come behind it
            return _text(405, f"GET is wanted, got {named(scope['method'], 40)}", allowed)
        if headers.get(b"transfer-encoding") or any(int(n) for n in headers.get(b"content-length", ())):
            return _text(400, "a request without a body is wanted", {"Connection": "close"})
        if scope["raw_path"] not in self._paths:
            return _text(404, f"{named(scope['raw_path'].decode('latin-1'), 60)}: there is nothing of this name")
        site, mode = (headers.get(name, [b""])[0] for name in (b"sec-fetch-site", b"sec-fetch-mode"))
        to_page = scope["raw_path"] == b"/" and mode == b"navigate"
        if site in (b"cross-site", b"same-site") and not to_page:
            return _text(400, "Sec-Fetch-Site: other pages get nothing here; open the address itself")
        return None

    async def _state(self, query: bytes) -> Response:
        queries.nothing(query)
        return _json(self.desk.state())

    async def _photo(self, query: bytes) -> Response:
        photo = queries.photo(query)
        if (facts := self.desk.photo_at_once(photo)) is not None:
            return _json(facts)
        return _json(await self._done(lambda pause: self.desk.photo(photo), Urgency.NOW, ("photo", photo)))

    async def _tile(self, query: bytes) -> Response:
        view = queries.tile(query)
        loop = asyncio.get_running_loop()  # the worker may be busy for long
        pixels = await loop.run_in_executor(self._quick, self.desk.tile_at_once, view)
        if pixels is None:
            pixels = await self._drawn(lambda pause: self.desk.tile(view), Urgency.TILE, view)
        return _Pieces(pixels, media_type="application/octet-stream", headers=HEADERS)

    async def _psnr(self, query: bytes) -> Response:
        view = queries.view(query)
        psnr = await self._drawn(lambda pause: self.desk.psnr(view, pause), Urgency.PSNR, view)
        return _json({"psnr": psnr if math.isfinite(psnr) else None})

    async def _command(self, query: bytes) -> Response:
        view, size = queries.file(query)
        return _text(200, await self._drawn(lambda pause: self.desk.command(view, size), Urgency.NOW, view, size))

    async def _save(self, query: bytes) -> Response:
        view, size = queries.file(query)
        png = await self._drawn(lambda pause: self.desk.save(view, size, pause), Urgency.SAVE, view, size)
        stem = Path(self.desk.state()["photos"][view.photo]["name"]).stem
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", stem)
        whole = quote(f"{stem}_view.png", safe="", errors="replace")
        name = f"attachment; filename=\"{plain}_view.png\"; filename*=UTF-8''{whole}"
        return _Pieces(png, media_type="image/png", headers={**HEADERS, "Content-Disposition": name})

    async def _drawn(
        self, do: Callable[[Pause], Any], urgency: Urgency, view: View, size: tuple[int, int] | None = None
    ) -> Any:
        """What the worker makes of a view that there is."""

        def checked(pause: Pause) -> Any:
            self.desk.check(view, size)
            return do(pause)

        return await self._done(checked, urgency, (urgency, view, size))

    async def _done(self, do: Callable[[Pause], Any], urgency: Urgency, key: Hashable) -> Any:
        """What the worker makes; who stops waiting cancels it."""
        return await asyncio.wrap_future(self.work.put(do, urgency, key))

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One file is in memory at a time: the next is begun when it has been sent."""
        if self._saves >= SAVES:
            raise Dropped(f"{SAVES} files are being saved; ask again when one is there")
        self._saves += 1
        try:
            async with self._saving:
                yield
        finally:
            self._saves -= 1


class _Path:
    """The ASGI application of one path.

    Args:
        answer: makes the answer to a query.
        turn: held while the answer is made and sent.
    """

    def __init__(self, answer: Answer, turn: Turn = contextlib.nullcontext) -> None:
        self._answer, self._turn = answer, turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._turn():
                await (await self._made(scope))(scope, receive, send)
        except Dropped as error:  # by turn
            await _text(503, str(error))(scope, receive, send)

    async def _made(self, scope: Scope) -> Response:
        try:
            return await self._answer(scope["query_string"])
        except (ViewError, ImageError) as error:
            return _text(400, str(error))
        except (Dropped, Cancelled) as error:
            return _text(503, str(error) or "cancelled; ask again")
        except Exception as error:
            text = named(str(error), 200) or type(error).__name__
            log.error("%s: %s", scope["path"], text, exc_info=error)
            return _text(500, text)


class _Worked(_Path):
    """One that takes time: it ends when its client has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.ensure_future(super().__call__(scope, receive, send)), asyncio.ensure_future(_gone(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Pieces(Response):
    """A large answer: the next piece is written when the client has taken the one before."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = memoryview(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for k in range(0, len(body), PIECE):
            piece = bytes(body[k : k + PIECE])
            await send({"type": "http.response.body", "body": piece, "more_body": k + PIECE < len(body)})


def _file(path: Path, kind: str) -> Answer:
    """Of the page: read when it is first asked for."""
    read = functools.cache(path.read_bytes)

    async def answer(query: bytes) -> Response:
        queries.nothing(query)
        return Response(read(), media_type=kind, headers=HEADERS)

    return answer


def _json(value: Any) -> Response:
    # in ASCII: names of files need not be Unicode
    return Response(json.dumps(value, allow_nan=False), media_type="application/json", headers=HEADERS)


def _text(status: int, text: str, more: Mapping[str, str] = MappingProxyType({})) -> Response:
    line = " ".join(text.splitlines()).encode(errors="backslashreplace")
    return Response(line, status, media_type="text/plain", headers={**HEADERS, **more})
