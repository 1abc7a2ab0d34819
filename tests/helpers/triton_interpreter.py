"""Runs the fused kernel in triton's interpreter, on the CPU; a script, since the interpreter is chosen at import.

python tests/helpers/triton_interpreter.py   # one JSON object for each case: name, error, error of plain PyTorch, scale
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

os.environ["TRITON_INTERPRET"] = "1"

import gluon_checks
import gluon_on_cpu
import numpy as np
import torch
import triton
import triton.language as tl
import triton_waves
from cpu_paths import Sample, exact, sample
from triton.runtime import interpreter

from liif_fast import reference
from liif_fast.head import int8, ops, plain
from liif_fast.head.triton import render, waves
from liif_fast.head.triton.configs import Config, candidates

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
STRUCTURES = {"pairs": Config("pairs", 64, 32, 32, 4), "chain": Config("chain", 32, 64, 64, 4)}
GLUON = Config("gluon", 32, 32, 16, 4, stages=3, tma=True)  # half precision only


def repair_interpreter() -> None:
    """bfloat16, which the interpreter keeps as its bits: tl.dot multiplies these as integers, conversions truncate."""
    builder = interpreter.InterpreterBuilder
    handle = interpreter.TensorHandle
    dot, trunc = builder.create_dot, builder.create_fp_trunc

    def widened(t):
        if t.dtype.scalar != tl.bfloat16:
            return t.data.astype(np.float32)
        return (t.data.astype(np.uint32) << 16).view(np.float32)

    def create_dot(self, a, b, d, *rest):
        if a.dtype.scalar != tl.bfloat16:
            return dot(self, a, b, d, *rest)
        return handle(widened(a) @ widened(b) + d.data, d.dtype.scalar)

    def create_fp_trunc(self, source, to):
        if to.scalar != tl.bfloat16 or source.dtype.scalar != tl.float32:
            return trunc(self, source, to)
        x = torch.from_numpy(np.ascontiguousarray(source.data)).to(torch.bfloat16)
        return handle(x.view(torch.int16).numpy().view(np.uint16), tl.bfloat16)

    builder.create_dot, builder.create_fp_trunc = create_dot, create_fp_trunc


def float_cases() -> Iterator[tuple[str, Sample, Config]]:
    """Dtypes x structures x flags, sizes off the tile (32 or 64 rows) everywhere."""
    flags = [
        {},
        {"cell": False},
        {"ensemble": False},
        {"cell": False, "ensemble": False, "out": 1},
        {"L": 1, "Q": 1, "h": 1, "w": 1},
        {"L": 2, "Q": 16, "out": 8},
        {"L": 4, "Q": 17, "out": 9},
        {"L": 5, "Q": 33, "B": 1, "out": 16},
    ]
    for dtype in DTYPES:
        structures = STRUCTURES if dtype == torch.float32 else {**STRUCTURES, "gluon": GLUON}
        for structure, config in structures.items():
            for changed in flags:
                torch.manual_seed(0)
                words = " ".join(f"{k}={v}" for k, v in changed.items())
                yield f"{str(dtype)[6:]} {structure} {words}", sample(dtype, **{"D": 64, **changed}), config
    for D in (128, 256):
        torch.manual_seed(0)
        yield f"width {D}", sample(torch.bfloat16, D=D, Q=19, B=1), Config("pairs", 64, 64, 64, 8)
    for dtype in DTYPES[1:]:
        yield f"{str(dtype)[6:]} gluon part of a map", part_of_a_map(dtype), GLUON
    for dtype in DTYPES[1:]:
        for D in (128, 256):  # as shipped; three tiles
            config = next(c for c in candidates(90, "half", D) if c.structure == "gluon")
            yield f"{str(dtype)[6:]} width {D} gluon", sample(dtype, D=D, Q=37, B=1), config
    yield "descriptors", sample(torch.bfloat16, D=64), STRUCTURES["pairs"]._replace(tma=True)
    yield "descriptors chain", sample(torch.bfloat16, D=64), STRUCTURES["chain"]._replace(tma=True)


def part_of_a_map(dtype=torch.float32) -> Sample:
    """A piece of a map at an origin, strided coordinates, one cell for all queries."""
    s = sample(dtype, D=64, h=9, w=11)
    y, x = 2, 3
    coord = torch.rand(2, 37, 4)[..., 1:3]
    coord = torch.stack([(coord[..., 0] * 4 + 3.5) / 9, (coord[..., 1] * 4 + 4.5) / 11], 0).permute(1, 2, 0) * 2 - 1
    cell = torch.tensor([0.1, 0.07]).expand(2, 37, 2)
    return s._replace(hidden=s.hidden[:, y:8, x:10], coord=coord, cell=cell, origin=(y, x))


def edges() -> Sample:
    """Coordinates on pixel centres, borders, beyond them."""
    s = sample(D=64, B=1, h=4, w=6)
    e = torch.tensor([-1.5, -1, -1 + 1e-6, -0.75, 0, 0.25, 0.5, 1 - 1e-6, 1, 3])
    coord = torch.cartesian_prod(e, e)[None]
    return s._replace(coord=coord, cell=torch.full_like(coord, 0.1))


def nan() -> Sample:
    s = sample(D=64, B=1, ensemble=False)
    s.coord[0, 5, 1] = torch.nan
    return s


def infinite() -> Sample:
    """An activation that overflows: what is not finite must not vanish."""
    s = sample(D=64, B=1, Q=5)
    s.hidden[:] = torch.inf
    return s


def all_shapes_without_values() -> None:
    for changed in ({"B": 0}, {"Q": 0}, {"out": 0}):
        s = sample(D=64, **changed)
        for ours in (render.render(*s), render.render_int8(*quantized(s))):
            assert ours.shape == (*s.coord.shape[:2], len(s.b_out)), changed


def not_finite_behind_integers() -> None:
    """What is not finite spoils at least what the definition says, and nothing of another image."""
    for at, value in ((0, torch.nan), (0, -torch.inf), (3, torch.nan), (5, torch.inf), (6, torch.nan), (2, torch.nan)):
        arguments = list(quantized(sample(D=64)))
        arguments[at] = arguments[at].clone()
        arguments[at].view(-1)[1] = value  # of the first image
        ours, want = render.render_int8(*arguments, config=STRUCTURES["pairs"]), int8.render_int8(*arguments)
        assert want.isnan().any(), at
        assert ours[want.isnan()].isnan().all(), at
        assert ours[1].isfinite().all() == (at in (0, 2)), at


def rows_that_are_missing(name: str) -> None:
    """Queries that need a pixel which the part at hand does not hold give NaN, the others what the whole map gives."""
    s = part_of_a_map()
    index, _, _ = reference.corners(s.coord, s.size)
    missing = ((index[..., 0] < 4) | (index[..., 0] > 5) | (index[..., 1] < 5) | (index[..., 1] > 7)).any(-1)
    assert missing.any()
    assert not missing.all()
    part = s._replace(hidden=s.hidden[:, 2:4, 2:5], origin=(4, 5))
    for function, change in ((render.render, tuple), (render.render_int8, quantized)):
        config = STRUCTURES["pairs"]
        ours, whole = function(*change(part), config=config), function(*change(s), config=config)
        assert ours[missing].isnan().all()
        row(f"{name} {function.__name__}", ours[~missing], whole[~missing], whole[~missing])


def offsets_of_64_bits(name: str, operator: str, s: Sample, right: torch.Tensor) -> None:
    """As if 32 bits ended at 160: offsets in the hidden map are wide, and a launch takes 10 queries."""
    want = ops.PLAIN[operator](*s)
    limit, render._INT32 = render._INT32, 160
    try:
        for structure, config in STRUCTURES.items():
            row(f"{name} {structure}", getattr(render, operator)(*s, config=config), right, want)
    finally:
        render._INT32 = limit


def quantized(s: Sample) -> tuple:
    """Arguments of render_int8 for those of render."""
    w_q, w_scale = int8.quantize_weights(s.w_mlp)
    return *s[:4], w_q, w_scale, s.b_mlp, torch.full((len(w_q),), 3 / 255), *s[6:]


@triton.jit
def waves_of(angle, cosine, sine, count, FINE: tl.constexpr):
    k = tl.arange(0, 4096)
    found = waves.waves(tl.load(angle + k, mask=k < count, other=0.0), FINE)
    tl.store(cosine + k, found[0], mask=k < count)
    tl.store(sine + k, found[1], mask=k < count)


def fourier() -> None:
    """``render_fourier``."""
    from liif_fast.head.triton import gather_waves  # not before Gluon's stand-in is there

    for name, s, config in triton_waves.cases(STRUCTURES, GLUON):
        ours = render.render_fourier(*s, config=config)
        row(name, ours, triton_waves.exact(s), ops.PLAIN["render_fourier"](*s))
    for fine in (True, False):
        for name, ours, want in triton_waves.table(waves_of, fine):
            row(f"table {name} {'fine' if fine else 'coarse'}", ours, want, want)
    triton_waves.of_no_size()
    triton_waves.not_finite(STRUCTURES["pairs"])
    s = triton_waves.part_of_a_map()
    offsets_of_64_bits("waves-64-bits", "render_fourier", s, triton_waves.exact(s))
    gluon_checks.waves_faults_are_seen(gather_waves, GLUON)


def row(name: str, ours: torch.Tensor, want: torch.Tensor, plain: torch.Tensor) -> None:
    want = want.double()
    same_finite = bool((ours.isfinite() == plain.isfinite()).all())
    error, plain_error = ((t.double() - want).nan_to_num(posinf=0, neginf=0).abs().max().item() for t in (ours, plain))
    scale = want.nan_to_num(posinf=0, neginf=0).abs().max().item()
    facts = {"name": name, "error": error, "plain": plain_error, "scale": scale, "finite": same_finite}
    print(json.dumps(facts), flush=True)


def main() -> None:
    repair_interpreter()
    specialised, partitions = gluon_on_cpu.install()
    plain.matmul_dtype = lambda dtype, device: dtype  # plain PyTorch in half precision also where CPUs avoid it
    for name, s, config in float_cases():
        row(name, render.render(*s, config=config), exact(s), ops.PLAIN["render"](*s))
    for name, s in (("part of a map", part_of_a_map()), ("edges", edges()), ("nan", nan()), ("infinite", infinite())):
        ours = render.render(*s, config=STRUCTURES["pairs"])
        row(name, ours, exact(s), ops.PLAIN["render"](*s))
    all_shapes_without_values()
    not_finite_behind_integers()
    gluon_checks.faults_are_seen(specialised, partitions, GLUON)
    for name, s, ours in gluon_checks.every_tile(partitions, GLUON):
        row(name, ours, exact(s), ops.PLAIN["render"](*s))
    fourier()
    rows_that_are_missing("missing")
    s = part_of_a_map()
    offsets_of_64_bits("64 bits", "render", s, exact(s))
    for structure, config in STRUCTURES.items():
        few = {"dtype": torch.bfloat16, "L": 4, "Q": 17}
        for changed in ({}, {"cell": False}, {"ensemble": False}, {"L": 1}, {"L": 2, "out": 9}, few):
            torch.manual_seed(0)
            words = " ".join(f"{k}={v}" for k, v in changed.items())
            arguments = quantized(sample(**{"D": 64, **changed}))
            want = int8.render_int8(*arguments)
            row(f"int8 {structure} {words}", render.render_int8(*arguments, config=config), want, want)
    for name, s in (("part of a map", part_of_a_map()), ("edges", edges()), ("nan", nan())):
        arguments = quantized(s)
        want = int8.render_int8(*arguments)
        row(f"int8 {name}", render.render_int8(*arguments, config=STRUCTURES["pairs"]), want, want)
    arguments = list(quantized(sample(D=64)))
    want = int8.render_int8(*arguments)
    arguments[4] = arguments[4].clone()
    arguments[4][1, 0, 0] += 1  # of a weight: moves some activations by a step
    row("one integer", int8.render_int8(*arguments), want, want)
    arguments = quantized(sample(D=256, B=1, Q=19))
    want = int8.render_int8(*arguments)
    row("int8 width 256", render.render_int8(*arguments, config=Config("pairs", 64, 64, 64, 8)), want, want)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
