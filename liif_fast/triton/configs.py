"""What the fused kernel is compiled for, and which configuration runs on which card.

The table holds, for each architecture, kind of numbers and width of the hidden layers, the configurations worth
measuring; the first one runs until ``liif-fast tune`` has measured them. All of them compile without register spills
and fit into shared memory (tests/test_triton_compile.py); which is fastest, only a card can say.
"""

from __future__ import annotations

from typing import NamedTuple

WIDTHS = (64, 128, 256)
KINDS = ("half", "float32", "int8")  # half: bfloat16 and float16
# Bytes of shared memory that a block may use.
SHARED = {80: 166_912, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}


class Config(NamedTuple):
    """How the fused kernel runs; ``kernels`` describes the structures."""

    structure: str  # "pairs" or "chain"
    rows: int  # queries x corners in a tile
    chunk: int  # pairs: units between the two layers that are computed at a time
    piece: int  # units of the first layer that are gathered at a time
    warps: int
    stages: int = 2  # chunks whose weights are on their way, pairs
    tma: bool = False  # weights through tensor descriptors
    resident: int = 0  # blocks for each multiprocessor that take one tile after the other; 0: a block for each tile


class Constants(NamedTuple):
    """What the kernel is compiled for: configuration and problem."""

    kind: str  # "float" or "int8"
    precision: str  # of products of float32, as tl.dot takes it
    L: int  # hidden layers
    D: int  # their width
    O: int  # channels of the output  # noqa: E741
    out: int  # rows of w_out: O padded, twice if split
    split: bool  # w_out in two parts, the rounded and the rest
    K: int  # corners
    cell: bool
    wide: bool  # offsets in the hidden map need 64 bits
    pairs: bool
    rows: int
    chunk: int
    piece: int
    stages: int
    tma: bool
    persistent: bool


def family(capability: tuple[int, int]) -> int:
    """The architecture of the table for a CUDA capability of 8.0 or above: nearest below with the same resources."""
    major, minor = capability
    if major == 8:
        return 80 if minor in (0, 7) else 89
    return {9: 90, 10: 100, 11: 100}.get(major, 120)


def candidates(architecture, kind, D):
    return (Config("pairs", 64, 32, 64, 4),)
