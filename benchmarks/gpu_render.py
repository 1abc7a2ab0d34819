"""Rendering on a CUDA card: each contender is checked first, then timed in turns by the card's own clock.

    python benchmarks/gpu_render.py            # all cases, official weights
    python benchmarks/gpu_render.py head --json >> benchmarks/results/gpu.jsonl

head: 480x270 feature pixels -> 1920x1080. The reference is the official computation in float32 (unfolded features, four
grid_samples, chunks of 30,000). frames: 960x540 -> 3840x2160 with the encoder, in bfloat16, also as a CUDA graph. The
share of the ceiling compares with torch's fastest product of square matrices in the same run.

To be reached on an H100: the head in bfloat16 at 60 % of the ceiling, 25 x the reference and 3 x the compiled fold in
bfloat16, with at most twice plain PyTorch's error in bfloat16; int8 at 1.5 x bfloat16's speed; 30 frames a second; no
memory beside the result.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
from collections.abc import Callable

import cases
import torch
import torch.nn.functional as F
from speed import about, report
from torch import Tensor

import liif_fast
from liif_fast import functional, int8, ops, reference
from liif_fast.triton import available
from liif_fast.triton.tune import in_turns

LOW, HIGH = (270, 480), (1080, 1920)
FRAME, LARGE = (540, 960), (2160, 3840)


def photo(height: int, width: int) -> Tensor:
    """[1, 3, height, width] in [-1, 1], the photo of the CPU's benchmark."""
    return F.interpolate(cases._photo(256), (height, width), mode="bilinear").cuda() * 2 - 1


def ceilings() -> dict[str, float]:
    """Operations per second of torch's products of square matrices, the best of three sizes."""

    def rate(multiply: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> float:
        best = 0.0
        for n in (4096, 8192, 16384):
            a, b = (torch.randint(-8, 8, (n, n), device="cuda", dtype=torch.int8).to(dtype) for _ in range(2))
            multiply(a, b.t())
            (times,) = in_turns([lambda a=a, b=b: multiply(a, b.t())], 7)
            best = max(best, 2 * n**3 / statistics.median(times))
        return best

    found = {str(d)[6:]: rate(torch.mm, d) for d in (torch.bfloat16, torch.float16, torch.float32)}
    return {**found, "int8": rate(torch._int_mm, torch.int8)}


def fold(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size) -> Tensor:
    """The folded head as one would write it for torch.compile: one image, gather, MLP and blend of all its queries."""
    index, rel, weight = reference.corners(coord[0], size)
    pos = torch.cat([rel, (cell[0] * cell.new_tensor(size)).unsqueeze(-2).expand_as(rel)], -1)
    x = (hidden[0, index[..., 0], index[..., 1]] + pos @ w_pos.t()).relu().to(hidden.dtype)
    for w, b in zip(w_mlp, b_mlp, strict=True):
        x = F.linear(x, w, b).relu()
    return ((F.linear(x, w_out, b_out) * weight.unsqueeze(-1)).sum(-2))[None]


def in_chunks(function: Callable[..., Tensor], chunk: int = 1 << 18) -> Callable[..., Tensor]:
    """Over the queries, so that all of the rows' activations need not exist at once."""

    def run(hidden, coord, cell, *rest) -> Tensor:
        parts = zip(coord.split(chunk, 1), cell.split(chunk, 1), strict=True)
        return torch.cat([function(hidden, c.contiguous(), s.contiguous(), *rest) for c, s in parts], 1)

    return run


def head(model: liif_fast.LIIF) -> list[cases.Contender]:
    """Feature map (hidden map for ``render``) to colours, on the card."""
    feat = model.encoder(photo(*LOW))
    coord = functional.make_coord(HIGH, device="cuda")[None]
    cell = torch.tensor([2 / n for n in HIGH], device="cuda").expand_as(coord)
    work = 2.0 * 4 * coord.shape[1] * 3 * 256 * 256
    found = [cases.Contender("reference", "float32", lambda: cases._reference(model, feat, coord, cell))]
    compiled = in_chunks(torch.compile(fold, dynamic=False))
    hidden = functional.hidden_map(feat, functional.Head(*model.head()))
    # bfloat16 is also to stay within twice the error of plain PyTorch in bfloat16, the next row
    for kind, tolerance in (("float32", 1e-5), ("bfloat16", 1e-2), ("float16", 2e-3)):  # as on the CPU
        dtype = getattr(torch, kind)
        parts = functional.Head(*cases._cast(model.head(), dtype))
        given = cases._render_arguments(hidden.to(dtype), parts, coord, cell)
        found.append(cases._contender("render", kind, torch.ops.liif_fast.render, given, work, tolerance))
        found.append(cases._contender("fold in plain PyTorch", kind, ops.PLAIN["render"], given, work, tolerance))
        found.append(cases._contender("fold, torch.compile", kind, compiled, given[:9], work, tolerance))
    quantized = model.quantize(photo(*LOW)[..., :192, :192] * 0.5 + 0.5)
    parts = functional.Head(*quantized.head())
    hidden, w_pos, w_mlp, b_mlp, w_out = functional.uniform(functional.hidden_map(feat, parts), parts)
    given = (hidden, coord, cell, w_pos, *int8.quantize_weights(w_mlp), b_mlp, quantized.act_scale)
    given = (*given, w_out, parts.b_out, hidden.shape[1:3], (0, 0), True)
    found.append(cases._contender("render", "int8", torch.ops.liif_fast.render_int8, given, work, 5e-2))
    return found


def frames(model: liif_fast.LIIF) -> list[cases.Contender]:
    """Frame to frame with the encoder; float32 is what bfloat16 is compared with."""
    frame = photo(*FRAME)
    renderer = model.renderer(LARGE, dtype=torch.bfloat16)
    return [  # bfloat16: encoder and head each rounded to 8 bits
        cases.Contender("render", "float32", lambda: model.render(frame, LARGE)),
        cases.Contender("render", "bfloat16", lambda: model.render(frame, LARGE, torch.bfloat16), 0, 3e-2),
        cases.Contender("renderer (graph)", "bfloat16", lambda: renderer(frame), 0, 3e-2),
    ]


CASES = {"head": head, "frames": frames}


def measure(contenders: list[cases.Contender], rounds: int) -> list[dict]:
    """Check every contender against the first, then time them in turns; memory beside the arguments and the result."""
    want = contenders[0].run()
    rows, runs = [], []
    for c in contenders:
        c.run()  # compiled, chosen
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        out = c.run()
        memory = torch.cuda.max_memory_allocated() - before - out.nbytes
        difference = (out - want).abs()
        error = difference.max().item()
        decibels = -10 * difference.square().mean().clamp(min=1e-20).log10().item()
        ok = error <= c.tolerance
        rows.append({"contender": c.name, "dtype": c.kind, "error": error, "ok": ok, "ops": c.ops})
        rows[-1] |= {"decibels": decibels, "memory": memory}
        runs.append(c.run if ok else None)
        del out, difference
    times = iter(in_turns([run for run in runs if run], rounds))
    for row, run in zip(rows, runs, strict=True):
        if run:
            taken = sorted(next(times))
            row["median"] = statistics.median(taken)
            row["q20"], row["q80"] = (taken[round(q * (len(taken) - 1))] for q in (0.2, 0.8))
            row["ratio"] = rows[0]["median"] / row["median"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"any of {', '.join(CASES)} (default: all)")
    parser.add_argument("--model", default="edsr-baseline-liif")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one row for each contender")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    ok, why = available()
    if not ok or not torch.cuda.is_available():
        parser.exit(1, f"gpu_render.py: nothing to measure: {why or 'torch finds no CUDA device'}\n")
    torch.backends.cudnn.allow_tf32 = False  # the encoder's float32 is what the errors are measured against
    model = liif_fast.load(args.model, device="cuda")
    machine = {**about(), "gpu": torch.cuda.get_device_name(), "triton": importlib.metadata.version("triton")}
    with torch.no_grad():
        ceiling = ceilings()
        if not args.json:
            print(", ".join(f"{k} {v}" for k, v in machine.items()))
            print("ceilings, Tflop/s: " + ", ".join(f"{k} {v / 1e12:.0f}" for k, v in ceiling.items()))
        for name in args.cases:
            torch.manual_seed(0)
            for row in measure(CASES[name](model), args.rounds):
                report(name, row, machine, ceiling, args.json)


if __name__ == "__main__":
    main()
