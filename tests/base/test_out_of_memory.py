"""What memory running out looks like: to the package, and in the command's words."""

from __future__ import annotations

import pytest
import torch
from command import photo

from liif_fast.base.out_of_memory import out_of_memory
from liif_fast.cli import main as cli
from liif_fast.weights import checkpoints


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("DefaultCPUAllocator: not enough memory"), False),
    ],
)
def test_out_of_memory(error, wanted):
    assert out_of_memory(error) is wanted


def test_the_allocators_own_words():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert out_of_memory(caught.value)


def test_the_command_says_it(monkeypatch, capsys, tmp_path):
    """Python's MemoryError has no words of its own."""

    def load(*args, **options):
        raise MemoryError

    for name in ("load", "load_with_notes"):
        monkeypatch.setattr(checkpoints, name, load, raising=False)
    photo(tmp_path / "p.png")
    assert cli.main(["upscale", str(tmp_path / "p.png"), "-o", str(tmp_path / "o.png"), "-s", "2"]) == 1
    assert "liif-fast: error: out of memory (MemoryError): " in capsys.readouterr().err
