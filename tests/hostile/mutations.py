"""Damage to bytes, of the kinds that files come to harm by, or are harmed on purpose."""

from __future__ import annotations

import random
import struct


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three kinds of damage, one after the other."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(KINDS)(bytearray(data), rng)
    return bytes(data)


def _at(data: bytearray, rng: random.Random) -> int:
    """A position, more often in the first 200 bytes, where headers are."""
    return rng.randrange(min(len(data), 200) if rng.random() < 0.6 else len(data))


def cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: int(len(data) * rng.choice((rng.random(), 0.5, 2 / 3, 0.99)))]


def flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 10)) if data else 0):
        data[_at(data, rng)] ^= 1 << rng.randrange(8)
    return data


def extreme_bytes(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 4)) if data else 0):
        data[_at(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    return data


def extreme_number(data: bytearray, rng: random.Random) -> bytearray:
    """A length, a count or an offset that is far too large, or 0."""
    kind = rng.choice(("<I", ">I", "<H", ">H", "<Q"))
    size = struct.calcsize(kind)
    if len(data) > size:
        at = min(_at(data, rng), len(data) - size)
        most = 256**size - 1
        struct.pack_into(kind, data, at, rng.choice((0, 1, most, most // 2, most // 2 + 1, len(data), most - 8)))
    return data


def insert(data: bytearray, rng: random.Random) -> bytearray:
    at = _at(data, rng) if data else 0
    return data[:at] + rng.randbytes(rng.choice((1, 2, 16, 300))) + data[at:]


def remove(data: bytearray, rng: random.Random) -> bytearray:
    at = _at(data, rng) if data else 0
    return data[:at] + data[at + rng.choice((1, 2, 16, 300)) :]


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    at = _at(data, rng) if data else 0
    size = rng.choice((4, 32, 400))
    return data[: at + size] * 1 + data[at:]


def swap(data: bytearray, rng: random.Random) -> bytearray:
    size = rng.choice((4, 16, 64))
    if len(data) > 2 * size:
        a, b = sorted(rng.randrange(len(data) - size) for _ in range(2))
        if b >= a + size:
            data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return data


def zeros(data: bytearray, rng: random.Random) -> bytearray:
    """A block that was never written, as after a crash."""
    at = _at(data, rng) if data else 0
    end = min(len(data), at + rng.choice((16, 512, 4096)))
    data[at:end] = bytes(end - at)
    return data


def append(data: bytearray, rng: random.Random) -> bytearray:
    return data + rng.choice((b"\0" * 4096, rng.randbytes(100), data, b"<html>"))


KINDS = (cut, cut, flip_bits, flip_bits, extreme_bytes, extreme_number, insert, remove, repeat, swap, zeros, append)
