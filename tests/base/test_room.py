"""What is kept by size, and what goes first."""

from __future__ import annotations

from liif_fast.base.room import Room


def test_those_not_used_for_longest_go_first():
    room = Room(10)
    for name, size in (("a", 4), ("b", 4)):
        room.put(name, name.upper(), size)
    assert room.get("a") == "A"
    room.put("c", "C", 3)
    assert [room.get(name) for name in "abc"] == ["A", None, "C"]
    assert room.held == 7


def test_the_size_is_never_passed():
    room = Room(10)
    for i in range(20):
        room.put(i % 7, i, i % 4 + 1)
        assert room.held <= 10
        assert room.get(i % 7) == i
    room.put("large", 0, 11)
    assert room.get("large") is None
    assert room.get(19 % 7) == 19, "what does not fit drives nothing out"


def test_put_again_and_dropped():
    room = Room(10)
    room.put("a", 1, 6)
    room.put("a", 2, 8)
    assert (room.get("a"), room.held) == (2, 8)
    room.put("b", 3, 2)
    room.drop(lambda name: name == "a")
    assert (room.get("a"), room.get("b"), room.held) == (None, 3, 2)
