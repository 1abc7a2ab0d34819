"""What requests may ask for, and what is said of the rest."""

from __future__ import annotations

import json

import pytest

from liif_fast.viewing import queries
from liif_fast.viewing.view import View, ViewError

GOOD = {"photo": "0", "method": "2", "scale": "2.5", "x": "10", "y": "0", "width": "256", "height": "1"}


def query(**changes: str | None) -> bytes:
    return "&".join(f"{n}={v}" for n, v in {**GOOD, **changes}.items() if v is not None).encode("latin-1")


def test_a_view():
    want = View(photo=0, method=2, scale=2.5, x=10, y=0, width=256, height=1)
    assert queries.tile(query()) == queries.view(query()) == want
    assert queries.tile(b"&".join(reversed(query().split(b"&")))) == want
    assert queries.file(query(columns="30", rows="20")) == (want, (20, 30))
    assert queries.photo(b"photo=7") == 7
    queries.nothing(b"")


# as String() of JavaScript writes them
@pytest.mark.parametrize(
    "text", ["1", "1024", "0.1", "0.30000000000000004", "1e-7", "1.2345678901234567e-10", "1023.9"]
)
def test_scales_come_back_as_the_same_number(text):
    assert queries.tile(query(scale=text)).scale == json.loads(text)


BAD = """
scale=0         | scale=0: a number above 0, at most 1024, is wanted, e.g. 2.5
scale=-1        | scale=-1: a number above 0
scale=1025      | scale=1025: a number above 0
scale=NaN       | scale=NaN: a number above 0
scale=Infinity  | scale=Infinity: a number above 0
scale=1e999     | scale=1e999: a number above 0
scale=1e-400    | scale=1e-400: a number above 0
scale=1e9999    | scale=1e9999: a number above 0
scale=1_0       | scale=1_0: a number above 0
scale=0x10      | scale=0x10: a number above 0
scale=1.        | scale=1.: a number above 0
scale=%32       | scale=%32: a number above 0
scale=          | scale=: a number above 0
scale=0.00000000000000000000000000000001 | scale=0.00000000000000000000000000000001: a number above 0
x=-1            | x=-1: a whole number from 0 on, of at most 12 digits, is wanted
x=+1            | x=+1: a whole number from 0 on
x=1.0           | x=1.0: a whole number
x=1e3           | x=1e3: a whole number
x=1234567890123 | x=1234567890123: a whole number
x=²             | x=²: a whole number
y=              | y=: a whole number
photo=-0        | photo=-0: a whole number
width=0         | width=0: a whole number from 1 to 512 is wanted
height=513      | height=513: a whole number from 1 to 512 is wanted
width=1&width=1 | width: is given twice, once is wanted
heigth=1        | heigth: no such parameter; wanted: photo, method, scale, x, y, width, height
%78=1           | %78: no such parameter
=1              | a part without a name: no such parameter
"""


@pytest.mark.parametrize("row", BAD.strip().splitlines())
def test_what_is_wrong_is_named_in_a_line(row):
    part, words = (cell.strip() for cell in row.split(" | "))
    name = part.partition("=")[0]
    with pytest.raises(ViewError) as raised:
        queries.tile(query(**{name: None} if name in GOOD else {}) + b"&" + part.encode("latin-1"))
    assert str(raised.value).startswith(words)
    assert len(str(raised.value)) < 160
    assert str(raised.value).isprintable()


def test_missing_and_much_too_long():
    for name in GOOD:
        with pytest.raises(ViewError, match=f"^{name}: is missing; wanted: photo, method"):
            queries.tile(query(**{name: None}))
    with pytest.raises(ViewError, match=r"^query: at most 1024 characters are wanted, got 1049$"):
        queries.nothing(b"x" * 1049)
    with pytest.raises(ViewError, match=r"^x=1{37}\.\.\.: a whole number"):
        queries.tile(query(x="1" * 900))
    with pytest.raises(ViewError, match=r"^x: no such parameter; none is wanted"):
        queries.nothing(b"x=1")
    with pytest.raises(ViewError, match=r"^y: no such parameter; wanted: photo$"):
        queries.photo(b"photo=1&y=1")


def test_sizes_of_files():
    assert queries.file(query(columns="8192", rows="8192"))[1] == (8192, 8192)
    assert queries.view(query(width="100000")).width == 100000
    with pytest.raises(ViewError, match=r"^columns=8193, rows=8192: at most 67108864 pixels are wanted"):
        queries.file(query(columns="8193", rows="8192"))
    # Pillow's tables for each column would be gigabytes
    with pytest.raises(ViewError, match=r"^columns=65537, rows=1: at most 65536 are wanted"):
        queries.file(query(columns="65537", rows="1"))
    with pytest.raises(ViewError, match=r"^rows=0: a whole number from 1 on"):
        queries.file(query(columns="1", rows="0"))
