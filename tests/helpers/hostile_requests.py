"""Random requests of clients that know no rules, and some of those that do."""

from __future__ import annotations

import random
import string
from typing import NamedTuple
from urllib.parse import quote

from served import VIEW, address, head

PATHS = ("/", "/view.js", "/view.css", "/icon.svg", "/state", "/photo", "/tile", "/psnr", "/save", "/command")
NUMBERS = ("-1", "-0", "+1", "1.5", "1e3", "NaN", "nan", "Infinity", "-inf", "1e309", "1e-400", "9" * 12, "9" * 13,
           "9" * 400, "2147483648", "18446744073709551616", "0x10", "1_0", "", " ", "%31", "%00", "²", "a", "1,5",
           "1;2", "null", "[]", "../1", "0", "1", "2", "512", "513", "1024", "1024.1", "0.0001", "1e-7")  # fmt: skip
METHODS = ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PROPFIND", "get", "G", "X" * 500)
HOSTS = ("evil.example", "127.0.0.1.evil.example", "localhost.example", "", "0.0.0.0", "2130706433", "127.1",
         "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:999999", "[::1", "[::ffff:1]", "a@127.0.0.1", "x" * 300)  # fmt: skip


class Request(NamedTuple):
    """What is sent, and how.

    Attributes:
        fine: there is nothing wrong with it: it is answered by 200, or 503 where there are too many.
        leaves: the client goes without reading: "close", or "reset" as a process that is killed.
        pieces: how many it is sent in, a moment between them.
    """

    data: bytes
    fine: bool = False
    leaves: str = ""
    pieces: int = 1


def requests(seed: int, count: int, secrets: list[str]) -> list[Request]:
    """Of all kinds, in an order of their own; ``secrets`` are paths of files that must not be read."""
    rng = random.Random(seed)
    kinds = [
        _path,
        _method,
        _number,
        _parameters,
        _host,
        _garbage,
        _head,
        _pipelined,
        _body,
        _large,
        _slow,
        _gone,
        _fine,
    ]
    return [rng.choice(kinds)(rng, secrets) for _ in range(count)]


def _get(target: str, *more: str, host: str | None = "127.0.0.1") -> bytes:
    return head(f"GET {target} HTTP/1.1", "Connection: close", *more, host=host)


def _view(rng: random.Random, path: str | None = None, **changes: object) -> str:
    path = path or rng.choice(PATHS[5:])
    if path == "/photo":
        return address(path, **{"photo": 0, **changes})
    size = {} if path in ("/tile", "/psnr") else {"columns": 6, "rows": 4}
    return address(path, **{**VIEW, **size, **changes})


def _path(rng: random.Random, secrets: list[str]) -> Request:
    up = rng.choice(
        ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "%252e%252e%252f", "..\\", "..%5c", "....//", "..;/", "./")
    )
    file = rng.choice([*secrets, "/etc/passwd", "secret.txt", "photo.png", "view.py", "desk.py"])
    for change in rng.sample((quote, str.upper, lambda name: quote(quote(name, "")), lambda name: name + "%00.js"), 1):
        if rng.random() < 0.5:
            file = change(file)
    start = rng.choice(("/", "//", "", "/page/", "/view.js/", "file://", "http://127.0.0.1/", "/photo?photo=", "/%2f"))
    return Request(_get(start + up * rng.randrange(9) + file))


def _method(rng: random.Random, secrets: list[str]) -> Request:
    method = rng.choice((*METHODS, "".join(rng.choices(string.printable, k=rng.randrange(9)))))
    return Request(head(f"{method} {rng.choice(PATHS)} HTTP/1.1", "Connection: close"))


def _number(rng: random.Random, secrets: list[str]) -> Request:
    names = rng.sample((*VIEW, "columns", "rows"), rng.choice((1, 1, 1, 2, 9)))
    target = _view(rng, **{name: rng.choice(NUMBERS) for name in names})
    return Request(_get(target.replace(" ", "%20")))


def _parameters(rng: random.Random, secrets: list[str]) -> Request:
    path, _, query = _view(rng).partition("?")
    parts = query.split("&")
    for _ in range(rng.randrange(1, 4)):
        k = rng.randrange(len(parts) + 1)
        parts[k : k + rng.randrange(2)] = rng.choice(([], [rng.choice(parts or ["x=1"])], ["a=b"], ["="], [""], ["x"]))
    return Request(
        _get(f"{rng.choice((path, *PATHS))}?{'&'.join(parts)}{rng.choice(('', '?', '&&&', '#x', 'x' * 2000))}")
    )


def _host(rng: random.Random, secrets: list[str]) -> Request:
    if rng.random() < 0.3:
        return Request(_get("/state", *rng.choice(([], ["Host: localhost"], ["host: evil.example"])), host=None))
    return Request(_get(rng.choice(PATHS[:5]), *rng.choice(([], ["Host: localhost"])), host=rng.choice(HOSTS)))


def _garbage(rng: random.Random, secrets: list[str]) -> Request:
    data = rng.randbytes(rng.choice((1, 10, 300, 5000, 70000)))
    start = rng.choice((b"", b"GET ", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
    return Request(start + data + b"\r\n\r\n", leaves="close" if rng.random() < 0.5 else "")


def _head(rng: random.Random, secrets: list[str]) -> Request:
    """A request that was right, with a few bytes of its head changed."""
    data = bytearray(_get(_view(rng), "Accept: */*", "Sec-Fetch-Site: same-origin"))
    for _ in range(rng.randrange(1, 5)):
        k = rng.randrange(len(data))
        data[k : k + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return Request(bytes(data) + b"\r\n\r\n")


def _pipelined(rng: random.Random, secrets: list[str]) -> Request:
    several = [head(f"GET {rng.choice((_view(rng), '/state', '/x'))} HTTP/1.1") for _ in range(rng.randrange(1, 20))]
    return Request(b"".join(several) + _get("/state"), pieces=rng.choice((1, 3)))


def _body(rng: random.Random, secrets: list[str]) -> Request:
    size = rng.choice((0, 1, 5, 10**6, 10**18, -1))
    heads = (
        [f"Content-Length: {size}"], ["Content-Length: 1", "Content-Length: 2"], ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"], ["Transfer-Encoding: gzip"], ["Content-Length: 0x5"],
        ["Content-Length: 5", "Expect: 100-continue"],
    )  # fmt: skip
    bodies = (b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffff\r\n", b"x" * 300_000, _get("/state"))
    method = rng.choice(("GET", "POST"))
    request = head(f"{method} {rng.choice(PATHS)} HTTP/1.1", "Connection: close", *rng.choice(heads))
    return Request(request + rng.choice(bodies))


def _large(rng: random.Random, secrets: list[str]) -> Request:
    size = rng.choice((2000, 17_000, 70_000, 600_000))
    kinds = (
        lambda: _get("/" + "x" * size),
        lambda: _get("/state?" + "&" * size),
        lambda: _get("/state", f"X: {'x' * size}"),
        lambda: _get("/state", *(f"X{k}: x" for k in range(size // 10))),
        lambda: b"x" * size,
        lambda: b"GET / HTTP/1.1\r\nX: " + b"\r\n " * (size // 3),
    )
    return Request(rng.choice(kinds)(), leaves=rng.choice(("", "close")))


def _slow(rng: random.Random, secrets: list[str]) -> Request:
    data = _get(_view(rng))
    if rng.random() < 0.5:
        return Request(_fine(rng, secrets).data, fine=True, pieces=rng.randrange(2, 9))
    return Request(data[: rng.randrange(len(data))], leaves="close", pieces=rng.randrange(1, 9))


def _gone(rng: random.Random, secrets: list[str]) -> Request:
    several = [_get(_view(rng, x=rng.randrange(100))) for _ in range(rng.choice((1, 1, 5)))]
    return Request(b"".join(several), leaves=rng.choice(("close", "reset")))


def _fine(rng: random.Random, secrets: list[str]) -> Request:
    path = rng.choice(PATHS)
    more = {} if path == "/photo" else {"method": 2, "x": rng.randrange(20)}
    target = path if path in PATHS[:5] else _view(rng, path, **more)
    return Request(_get(target), fine=True)
