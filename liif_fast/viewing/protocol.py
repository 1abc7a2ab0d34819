"""uvicorn for one page on one machine: no client can hold a connection, and without requests nothing runs at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 256  # at once; behind that the one that has been idle longest is closed, or else the new one
HEAD_SECONDS = 10.0  # from its first byte (the first of a connection: from its opening) to the end of a request's head
KEPT_SECONDS = 15  # an idle connection
TAKE_SECONDS = 30.0  # in which a client takes a piece of an answer, see ``server.PIECE``
HEAD_BYTES = 16384


class Protocol(H11Protocol):
    """One connection."""

    _head: asyncio.TimerHandle | None = None  # runs while a head is awaited
    _taking: asyncio.TimerHandle | None = None  # runs while the client has not taken what was written
    _since = 0.0  # when it became idle

    @property
    def answered(self) -> bool:
        """Whether all requests have been."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def idle(self) -> bool:
        """Whether the client has all answers, too."""
        return self.answered and not self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # pause_writing comes as soon as anything is left here
        self._since = self.loop.time()
        if len(self.connections) > CONNECTIONS:
            others = [each for each in self.connections if each is not self and isinstance(each, Protocol)]
            oldest = min((each for each in others if each.idle), key=lambda each: each._since, default=self)
            self.connections.discard(oldest)  # it goes a moment later
            oldest.transport.abort()
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._head is None and self.answered:
            self._await_head()
        try:
            super().data_received(data)
        except Exception as error:  # in h11's words: the client is at fault
            self.logger.debug("%s", error)
            self.transport.abort()
        if not self.answered:
            self._head = _stop(self._head)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()  # begins with the next request, if it has come
        if self._head is None and self.answered and self.conn.trailing_data[0]:
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        if not self.answered:  # it went wrong behind the head: nobody waits for another answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in _refusal(msg.encode())))
        except h11.LocalProtocolError:  # an answer has been begun
            self.transport.abort()
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        _stop(self._taking)
        self._taking = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking = _stop(self._taking)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._taking = _stop(self._head), _stop(self._taking)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)


class Server(uvicorn.Server):
    """Serves an application on a socket that listens, until ``end``, or an exception such as KeyboardInterrupt.

    What goes wrong with a connection is its client's matter: it goes to the logger ``uvicorn.error`` at most, and
    asyncio does not write of it to the terminal.
    """

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEPT_SECONDS,
                h11_max_incomplete_event_size=HEAD_BYTES,
            )
        )
        logger = logging.getLogger("uvicorn.error")
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()

    def listen(self, where: socket.socket) -> None:
        """Serve, in this thread."""
        try:
            asyncio.run(self.serve(sockets=[where]))
        finally:
            where.close()

    def end(self) -> None:
        """Make ``listen`` return; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is over already
                self._loop.call_soon_threadsafe(self._end.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_passed_over)
        await super().startup(sockets)

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it should end."""
        try:
            with _signals_between_steps(asyncio.get_running_loop()):
                await self._end.wait()
        finally:
            self._close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Nothing is waited for."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by ``base.interruption``."""
        yield

    def _close(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()


def _refusal(line: bytes) -> tuple[h11.Response, h11.Data, h11.EndOfMessage]:
    """Of what is no HTTP."""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(line)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    return h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), h11.Data(line), h11.EndOfMessage()


@contextlib.contextmanager
def _signals_between_steps(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Handlers of signals run as steps of the loop: what they raise ends it. Within an answer it would be taken for a
    fault of that (uvicorn catches all), and before the loop goes to sleep for nothing."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield  # Windows' loop cannot; in other threads Python handles none
        return
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler, number, None)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """None, for the timer's place."""
    if timer is not None:
        timer.cancel()
    return None


def _passed_over(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logging.getLogger("uvicorn.error").debug("%s: %s", context.get("message"), context.get("exception"))
