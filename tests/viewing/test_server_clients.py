"""Clients that ask for too much, that go, and that take their time."""

from __future__ import annotations

import resource
import socket
import threading
import time

import command
import pytest

pytest.importorskip("starlette", reason="the package starlette is not installed")
pytest.importorskip("uvicorn", reason="the package uvicorn is not installed")

from served import VIEW, Served, address, answer, head, json_of, served, until

from liif_fast.viewing import protocol, server

SIZE = {"columns": 6, "rows": 4}


@pytest.fixture
def site(tmp_path):
    photo = command.photo(tmp_path / "photo.png", size=(140, 100))
    with served([photo], [photo], most=4) as found:
        yield found


# --- the queue ---


def ask(site: Served, path: str, **query) -> socket.socket:
    connection = site.connect()
    connection.sendall(head(f"GET {address(path, **query)} HTTP/1.1"))
    return connection


def test_the_oldest_tile_of_too_many_is_dropped(site):
    site.desk.hold.clear()
    first = ask(site, "/tile", **VIEW)
    assert site.desk.begun.wait(20)
    others = []
    for x in range(5):
        others.append(ask(site, "/tile", **{**VIEW, "x": x + 10}))
        until(lambda x=x: len(site.work._waiting[1]) == min(x + 1, 4))
    found = answer(others[0])
    assert (found.status, found.line) == (503, "dropped: newer requests came; ask again")
    site.desk.hold.set()
    assert [answer(each).status for each in (first, *others[1:])] == [200] * 5
    assert [view.x for view in site.desk.drawn] == [4, 14, 13, 12, 11]
    for each in (first, *others):
        each.close()


def test_a_client_that_goes_cancels_what_it_asked_for(site):
    site.desk.hold.clear()
    with ask(site, "/tile", **VIEW) as first:
        assert site.desk.begun.wait(20)
        gone = ask(site, "/tile", **{**VIEW, "x": 9})
        shared = [ask(site, "/tile", **{**VIEW, "x": 8}) for _ in range(2)]
        until(lambda: len(site.work._waiting[1]) == 2 and site.connections() == 4)
        gone.close()
        shared[0].close()
        until(lambda: len(site.work._waiting[1]) == 1)
        site.desk.hold.set()
        assert answer(first).status == answer(shared[1]).status == 200
    shared[1].close()
    assert [view.x for view in site.desk.drawn] == [4, 8]


@pytest.mark.parametrize(("path", "query"), [("/psnr", VIEW), ("/save", {**VIEW, **SIZE})])
def test_long_work_lets_tiles_through_and_ends_with_its_client(site, path, query):
    site.desk.hold.clear()
    long = ask(site, path, **query)
    assert site.desk.begun.wait(20)
    assert site.get("/state").status == 200
    threading.Timer(0.1, long.close).start()
    until(lambda: site.desk.gone == 1)
    site.desk.hold.set()
    assert site.get("/tile", **VIEW).status == 200
    site.desk.hold.clear()
    with ask(site, path, **query) as long:
        until(lambda: len(site.desk.drawn) == 3)
        site.desk.hold.set()
        assert site.get("/tile", **{**VIEW, "x": 0}).status == answer(long).status == 200


def test_one_file_is_saved_at_a_time_and_few_wait(site):
    site.desk.hold.clear()
    asked = [ask(site, "/save", **{**VIEW, "x": x}, **SIZE) for x in range(server.SAVES)]
    until(lambda: site.desk.begun.is_set() and site.connections() == server.SAVES)
    until(lambda: len(site.server.server_state.tasks) == server.SAVES)
    time.sleep(0.05)
    found = site.get("/save", **VIEW, **SIZE)
    assert (found.status, found.line) == (503, "5 files are being saved; ask again when one is there")
    assert site.desk.drawn == ["save"]
    asked.pop().close()  # gives up its place
    site.desk.hold.set()
    assert [answer(each).status for each in asked] == [200] * (server.SAVES - 1)
    for each in asked:
        each.close()
    assert site.get("/save", **VIEW, **SIZE).status == 200


# --- clients that take their time ---


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_head_that_does_not_come_or_end(site, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    for begin in (b"", b"GET / HT", head("GET /state HTTP/1.1") * 2 + b"GET"):
        with site.connect() as connection:
            connection.sendall(begin)
            for _ in range(begin.count(b"\r\n\r\n")):
                assert json_of(answer(connection))
            began = time.monotonic()
            for _ in range(100):
                try:
                    connection.sendall(b"x" if begin else b"")
                except ConnectionError:
                    break
                connection.settimeout(0.02)
                try:
                    if closed(connection):
                        break
                except TimeoutError:
                    continue
            assert time.monotonic() - began < 1.5
    until(lambda: site.connections() == 0)


def test_an_idle_connection_is_kept_for_a_while(site, monkeypatch):
    monkeypatch.setattr(site.server.config, "timeout_keep_alive", 0.3)
    with site.connect() as connection:
        for _ in range(3):
            connection.sendall(head("GET /state HTTP/1.1"))
            assert json_of(answer(connection))
            time.sleep(0.1)
        assert closed(connection)


def test_an_answer_that_is_not_taken(site, monkeypatch):
    """No thread, no file and no memory stays with a client that does not read."""
    monkeypatch.setattr(protocol, "TAKE_SECONDS", 0.3)
    big = {**VIEW, "columns": 3000, "rows": 1000}  # 12 MB, more than the sockets hold
    slow, other = ask(site, "/save", **big), ask(site, "/save", **VIEW, **SIZE)
    assert answer(other).status == 200  # when the first has been given up
    other.close()
    until(lambda: site.connections() == 0)
    slow.close()
    with ask(site, "/save", **big) as fast:
        assert answer(fast).status == 200


def test_too_many_connections_close_the_one_idle_longest_or_else_the_new_one(site, monkeypatch):
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    site.desk.hold.clear()
    busy = ask(site, "/tile", **VIEW)
    assert site.desk.begun.wait(20)
    idle = []
    for k in range(2):
        idle.append(site.connect())
        until(lambda k=k: site.connections() == k + 2)
    assert site.get("/state").status == 200
    assert closed(idle[0])
    busies = [ask(site, "/tile", **{**VIEW, "x": x}) for x in (6, 7)]
    assert closed(idle[1])
    until(lambda: site.connections() == 3)
    with site.connect() as new:
        assert closed(new)
    site.desk.hold.set()
    assert [answer(each).status for each in (busy, *busies)] == [200] * 3
    for each in (busy, *busies, *idle):
        each.close()


def test_idle_it_does_nothing(site):
    assert site.get("/tile", **VIEW).status == 200
    until(lambda: site.connections() == 0)
    # of the whole process, in which others may be at work: what looked ten times a second would wake it five times
    assert min(_woken(0.5) for _ in range(3)) <= 3


def _woken(seconds: float) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(seconds)
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before.ru_nvcsw
