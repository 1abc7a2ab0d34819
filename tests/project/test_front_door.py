"""README is a front door: short, and what a newcomer looks for is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
LINES = 150
LOOKED_FOR = {
    "what it is": r"^Upscale an image to any size",
    "what it looks like": r"^!\[.*\]\(docs/pictures/.*\)",
    "how to try it": r"^make demo",
    "how to enlarge a photo": r"^liif-fast photo\.jpg -s",
    "Windows and macOS": r"Windows.*\n.*py -m pip install",
    "without network": r"-m small-liif` needs no network",
    "how to enlarge a video": r"^liif-fast video",
    "in the official training script": r"^models\.register\(\"liif\"\)",
    "from Python": r"^model = liif_fast\.load",
    "how fast on which machine": r"^\| machine \|",
    "what it cannot do": r"^## Limits",
    "the licence": r"BSD-3-Clause",
}


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("what", LOOKED_FOR)
def test_what_a_newcomer_looks_for(what):
    assert re.search(LOOKED_FOR[what], README.read_text(encoding="utf-8"), re.M)
