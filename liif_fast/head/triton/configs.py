"""What the fused kernel is compiled for, and which configuration runs on which card.

The table holds, for each architecture, kind of numbers and width of the hidden layers, the configurations worth
measuring; the first one runs until ``liif-fast tune`` has measured them. test_triton_compile.py checks that all compile
without register spills and fit into shared memory; which is fastest, only a card can say.
"""

from __future__ import annotations

from typing import NamedTuple

WIDTHS = (64, 128, 256)
KINDS = ("half", "float32", "int8")  # half: bfloat16 and float16
# Bytes of shared memory that a block may use.
SHARED = {80: 166_912, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}


class Config(NamedTuple):
    """How the fused kernel runs."""

    structure: str  # "pairs" or "chain", see ``kernels``, or "gluon", see ``specialised``
    rows: int  # queries x corners in a tile
    chunk: int  # pairs: units between the two layers that are computed at a time
    piece: int  # units of the first layer that are gathered at a time; gluon: inputs in a block of weights
    warps: int  # gluon: of each consumer
    stages: int = 2  # pairs: chunks whose weights are on their way; gluon: blocks of weights in the ring at most
    tma: bool = False  # weights through tensor descriptors


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
    float32: bool
    interpreted: bool
    waves: bool = False  # the first layer is that of ``waves``


def family(capability: tuple[int, int]) -> int:
    """The architecture of the table for a CUDA capability of 8.0 or above: nearest below with the same resources."""
    major, minor = capability
    if major == 8:
        return 80 if minor in (0, 7) else 89
    return {9: 90, 10: 100, 11: 100}.get(major, 120)


def candidates(architecture: int, kind: str, D: int) -> tuple[Config, ...]:
    """The configurations that are worth measuring, the first of them the default.

    Args:
        architecture: a key of SHARED; kind: of KINDS; D: of WIDTHS.
    """
    return _TABLE[architecture][kind][D]


def _simple(*pairs: tuple[int, int]) -> tuple[Config, ...]:
    """Weights through pointers, products by mma.sync, 8 warps: (rows, chunk)."""
    return tuple(Config("pairs", rows, chunk, 64, 8) for rows, chunk in pairs)


def _tma(structure: str, rows: int, chunk: int, warps: int = 8, piece: int = 64) -> Config:
    return Config(structure, rows, chunk, piece, warps, tma=True)


def _gluon(stages: int) -> Config:
    return Config("gluon", 64, 64, 32, 4, stages, tma=True)


# float32 in three parts of tf32 fills the registers with fewer rows than the others: with more, it spills
_FLOAT32 = {256: (Config("pairs", 32, 16, 16, 8),), 128: _simple((32, 16)), 64: _simple((32, 32))}
_INT8 = {256: _simple((64, 64), (128, 32)), 128: _simple((64, 64)), 64: _simple((64, 32))}
_SMALL = {  # about 100 KB of shared memory
    "half": {256: _simple((64, 32)), 128: _simple((64, 32)), 64: _simple((64, 32))},
    "float32": _FLOAT32,
    "int8": _INT8,
}
_TABLE = {
    80: {**_SMALL, "half": {**_SMALL["half"], 256: _simple((64, 32), (64, 64), (128, 32))}},
    89: _SMALL,
    90: {
        "half": {
            256: (
                _gluon(5),
                _tma("pairs", 128, 64),
                _tma("chain", 128, 64, piece=128),
            ),
            128: (
                _gluon(8),
                _tma("pairs", 128, 64),
                _tma("pairs", 64, 32, warps=4),
                _tma("chain", 128, 64),
            ),
            64: (_tma("pairs", 128, 32), _tma("chain", 128, 64)),
        },
        "float32": _FLOAT32,
        "int8": {
            256: (_tma("pairs", 64, 64, warps=4), _tma("pairs", 128, 64)),
            128: (_tma("pairs", 128, 64), _tma("pairs", 64, 64, warps=4)),
            64: (_tma("pairs", 128, 32),),
        },
    },
    100: {
        "half": {
            256: (_tma("pairs", 128, 32), _tma("pairs", 128, 64, piece=128)),
            128: (_tma("pairs", 128, 32), _tma("chain", 128, 64)),
            64: (_tma("chain", 128, 64),),
        },
        "float32": _FLOAT32,
        "int8": {**_INT8, 256: _simple((64, 64))},
    },
    120: _SMALL,
}
