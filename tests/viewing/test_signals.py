"""A signal ends the server, whatever it is doing."""

from __future__ import annotations

import signal
import socket
import sys
import threading

import pytest

pytest.importorskip("uvicorn")

from liif_fast.viewing import protocol


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_in_the_midst_of_an_answer():
    """uvicorn takes what an application raises for that application's fault, even a KeyboardInterrupt."""

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
    before = signal.getsignal(signal.SIGINT)
    asking.start()
    with pytest.raises(KeyboardInterrupt):
        protocol.Server(app).listen(where)
    asking.join(20)
    assert not asking.is_alive()
    assert signal.getsignal(signal.SIGINT) is before
