"""What the server answers, to whom, and for how long it waits for a client."""

from __future__ import annotations

import io
import logging

import command
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the package starlette is not installed")
pytest.importorskip("uvicorn", reason="the package uvicorn is not installed")

from PIL import Image
from served import FILES, VIEW, answer, head, json_of, served

from liif_fast.viewing import server

SIZE = {"columns": 6, "rows": 4}


@pytest.fixture
def photos(tmp_path):
    names = ("photo.png", 'ö"\n\udcff.png')
    return [command.photo(tmp_path / name, seed, (140, 100)) for seed, name in enumerate(names)]


@pytest.fixture
def site(photos):
    with served(photos, photos, most=4) as found:
        yield found


def pixels(found, view) -> np.ndarray:
    assert (found.status, found.headers["content-type"]) == (200, "application/octet-stream")
    return np.frombuffer(found.body, np.uint8).reshape(view["height"], view["width"], 4)


# --- what is answered ---


def test_the_page_and_what_it_knows(site):
    types = {
        "/": "text/html; charset=utf-8",
        "/view.js": "text/javascript; charset=utf-8",
        "/view.css": "text/css; charset=utf-8",
        "/icon.svg": "image/svg+xml",
    }
    for (path, kind), text in zip(types.items(), FILES.values(), strict=True):
        found = site.get(path)
        assert (found.status, found.headers["content-type"], found.body.decode()) == (200, kind, text)
    assert json_of(site.get("/state")) == site.desk.state()
    assert json_of(site.get("/photo", photo=1)) == {"width": 140, "height": 100, "notes": [], "truth": None}


def test_a_tile_has_the_pixels_of_its_view(site, photos):
    view = {**VIEW, "x": 30, "y": 20, "width": 200, "height": 150}
    with Image.open(photos[0]) as image:
        whole = np.asarray(image.convert("RGBA").resize((280, 200), Image.Resampling.BICUBIC, box=(0, 0, 140, 100)))
    found = pixels(site.get("/tile", **view), view)
    assert np.abs(found[4:-4, 4:-4].astype(int) - whole[24:166, 34:226]).max() <= 1


def test_psnr_and_the_command(site):
    assert json_of(site.get("/psnr", **{**VIEW, "method": 2})) == {"psnr": 31.5}
    assert json_of(site.get("/psnr", **VIEW)) == {"psnr": None}
    assert site.get("/command", **{**VIEW, "method": 2}, **SIZE).line == "liif-fast upscale photo.png --size 6x4"
    assert site.get("/command", **VIEW, **SIZE).status == 400


def test_a_saved_file_is_sent_whole_under_a_name_that_cannot_break_the_head(site):
    size = {"columns": 900, "rows": 700}
    found = site.get("/save", **VIEW, **size)
    assert found.status == 200
    assert len(found.body) > 4 * server.PIECE
    with Image.open(io.BytesIO(found.body)) as image:
        assert image.size == (900, 700)
    assert found.headers["content-disposition"].startswith('attachment; filename="photo_view.png"; ')
    found = site.get("/save", **{**VIEW, "photo": 1}, **SIZE)
    name = "attachment; filename=\"_____view.png\"; filename*=UTF-8''%C3%B6%22%0A%3F_view.png"
    assert (found.status, found.headers["content-disposition"]) == (200, name)


def test_every_answer_forbids_what_the_page_does_not_need(site):
    for found in (site.get("/"), site.get("/nothing"), site.get("/tile", **VIEW), site.send("PUT / HTTP/1.1")):
        assert {name: found.headers[name.lower()] for name in server.HEADERS} == server.HEADERS
        assert not {"server", "date"} & found.headers.keys()
    assert "default-src 'self';" in found.headers["content-security-policy"]


# --- what is refused ---


def test_no_head_either(site):
    with site.connect() as connection:
        connection.sendall(head("HEAD /state HTTP/1.1"))
        with pytest.raises(ConnectionError, match="closed"):  # an answer to HEAD has no body
            answer(connection)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "X"])
def test_only_get(site, method):
    found = site.send(f"{method} /state HTTP/1.1")
    assert (found.status, found.headers["allow"]) == (405, "GET")
    assert found.line == f"GET is wanted, got {method}"


@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "//",
        "/../state",
        "/%73tate",
        "/state%0A",
        "/state/",
        "/view.html",
        "state",
        "http://127.0.0.1/state",
        "*",
        "/photo.png",
        "/..%2fphoto.png",
        "/view.js%00",
    ],
)
def test_only_its_own_paths(site, path):
    found = site.send(f"GET {path} HTTP/1.1")
    assert (found.status, found.line) == (404, f"{path}: there is nothing of this name")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost:8000", "LOCALHOST", "[::1]:99999"])
def test_names_of_this_machine(site, host):
    assert site.send("GET /state HTTP/1.1", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "localhost.",
        "",
        "[::1",
        "::1",
        "127.0.0.1:",
        "127.0.0.1:123456",
        "user@127.0.0.1",
        "0x7f.1",
        "127.0.0.1, x",
    ],
)
def test_other_hosts(site, host):
    found = site.send("GET / HTTP/1.1", host=host)
    assert (found.status, found.line.split(" is wanted")[0]) == (400, "Host: 127.0.0.1, localhost or [::1]")


def test_no_host_and_two(site):
    assert site.send("GET / HTTP/1.1", host=None).status == 400
    assert site.send("GET / HTTP/1.0", host=None).line.endswith("is wanted, got none")
    assert site.send("GET / HTTP/1.1", "Host: localhost").status == 400


def test_requests_of_other_sites(site):
    for where in ("cross-site", "same-site"):
        for mode, path in (("no-cors", "/"), ("cors", "/state"), ("navigate", "/save")):
            found = site.send(f"GET {path} HTTP/1.1", f"Sec-Fetch-Site: {where}", f"Sec-Fetch-Mode: {mode}")
            assert (found.status, found.line[:15]) == (400, "Sec-Fetch-Site:")
        assert site.send("GET / HTTP/1.1", f"Sec-Fetch-Site: {where}", "Sec-Fetch-Mode: navigate").status == 200
    for where in ("same-origin", "none"):
        assert site.send("GET /state HTTP/1.1", f"Sec-Fetch-Site: {where}", "Sec-Fetch-Mode: cors").status == 200


@pytest.mark.parametrize("more", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_no_bodies(site, more):
    found = site.send("GET /state HTTP/1.1", more)
    assert (found.status, found.line) == (400, "a request without a body is wanted")
    assert found.headers["connection"] == "close"
    assert site.send("GET /state HTTP/1.1", "Content-Length: 0").status == 200


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("/tile", {**VIEW, "width": 513}, "width=513: a whole number from 1 to 512 is wanted"),
        ("/tile", {**VIEW, "x": 279}, "x=279, y=2: the photo ends at 280 x 200"),
        ("/tile", {**VIEW, "photo": 2}, "photo=2: there are 2"),
        ("/tile", {**VIEW, "scale": 0.001}, "scale=0.001: is too small"),
        ("/tile", {}, "photo: is missing; wanted: photo, method, scale, x, y, width, height"),
        ("/save", VIEW, "columns: is missing"),
        ("/state", {"x": 1}, "x: no such parameter; none is wanted"),
        ("/", {"x": 1}, "x: no such parameter"),
        ("/photo", {"photo": "x" * 1100}, "query: at most 1024 characters are wanted, got 1106"),
    ],
)
def test_wrong_queries_are_answered_in_a_line(site, path, query, words):
    found = site.get(path, **query)
    assert found.status == 400
    assert found.line.startswith(words)


def test_what_goes_wrong_inside_is_a_line_too(site, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("a line\nand another " + "x" * 500)

    monkeypatch.setattr(site.desk, "tile", fails)
    caplog.set_level(logging.ERROR, "liif_fast.viewing")
    found = site.get("/tile", **VIEW)
    assert (found.status, found.line[:22], len(found.line)) == (500, "a line and another xxx", 200)
    (record,) = caplog.records
    assert record.exc_info[0] is RuntimeError
    monkeypatch.undo()
    assert site.get("/tile", **VIEW).status == 200
