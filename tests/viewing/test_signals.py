"""A signal ends the server, whatever it is doing."""

from __future__ import annotations

import signal
import socket
import sys
import threading

import pytest

pytest.importorskip("uvicorn")

from liif_fast.base import interruption
from liif_fast.viewing import protocol


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_in_the_midst_of_an_answer(monkeypatch):
    """uvicorn takes what an application raises for that application's fault, even a KeyboardInterrupt."""

    monkeypatch.setattr(interruption, "_came", None)  # and is so again for the tests behind this one

    async def app(scope, receive, send):
        signal.raise_signal(signal.SIGINT)
        await receive()

    where = socket.create_server(("127.0.0.1", 0))

    def ask() -> None:
        with socket.create_connection(where_to, timeout=20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.recv(100)

    where_to = where.getsockname()
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    server = protocol.Server(app)
    lost = threading.Timer(20, server.end)  # then it fails, and does not wait for ever
    lost.start()
    with interruption.handled():  # asyncio has a handler of its own in the place of Python's, but not of the command's
        handler = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            server.listen(where)
        assert signal.getsignal(signal.SIGINT) is handler
    lost.cancel()
    asking.join(20)
    assert not asking.is_alive()
