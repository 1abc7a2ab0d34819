"""Time of LIIF's head, each contender checked against the float32 reference first, then timed in turns.

    python benchmarks/speed.py                    # 64x64 features, x4, official weights
    python benchmarks/speed.py --features 48 --scale 3 --json

The reference is LIIF as the official code runs it: unfolded features, four grid_samples, a 580-wide MLP, chunks of
30,000 queries.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import liif_fast
from liif_fast import functional, reference

CHUNK = 30_000
# largest allowed difference from the float32 reference, whose colours span about 2: float32 differs by the order of
# sums, bfloat16 by its 8 bits through four layers
TOLERANCE = {"float32": 1e-5, "bfloat16": 4e-2, "float16": 5e-3}


def contenders(model: liif_fast.LIIF, feat: Tensor, size: tuple[int, int]) -> dict[str, Callable[[], Tensor]]:
    """Name -> a function that returns the colours [B, Q, 3] of the whole grid."""
    coord = functional.make_coord(size)[None]
    cell = torch.tensor([2 / size[0], 2 / size[1]]).expand_as(coord)

    def by_reference() -> Tensor:
        pieces = zip(coord.split(CHUNK, 1), cell.split(CHUNK, 1), strict=True)
        return torch.cat([reference.liif(feat, c, s, model.imnet) for c, s in pieces], 1)

    def by_fold(dtype: torch.dtype) -> Callable[[], Tensor]:
        head = functional.Head(*_cast(model.head(), dtype))
        x = feat.to(dtype)
        return lambda: functional.render(functional.hidden_map(x, head), head, coord, cell)

    folds = {f"liif_fast {name}": by_fold(getattr(torch, name)) for name in TOLERANCE}
    return {"reference float32": by_reference, **folds}


def _cast(value, dtype: torch.dtype):
    return value.to(dtype) if isinstance(value, Tensor) else tuple(_cast(v, dtype) for v in value)


def measure(functions: dict[str, Callable[[], Tensor]], rounds: int) -> list[dict]:
    """Check every function, then time them in turns: A B C A B C ..."""
    names = list(functions)
    want = functions[names[0]]()
    rows = []
    for name in names:
        error = (functions[name]() - want).abs().max().item()
        ok = error <= TOLERANCE[name.split()[-1]]
        rows.append({"contender": name, "error": error, "ok": ok, "seconds": []})
    for _ in range(rounds):
        for row in rows:
            if row["ok"]:
                start = time.perf_counter()
                functions[row["contender"]]()
                row["seconds"].append(time.perf_counter() - start)
    for row in rows:
        times = row.pop("seconds")
        row["median"] = statistics.median(times) if times else None
    for row in rows:
        row["ratio"] = rows[0]["median"] / row["median"] if row["ok"] else None
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="edsr-baseline-liif")
    parser.add_argument("--features", type=int, default=64, help="side of the feature map")
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    model = liif_fast.load(args.model)
    torch.manual_seed(0)
    size = (round(args.features * args.scale),) * 2
    with torch.inference_mode():
        feat = model.encoder(torch.rand(1, 3, args.features, args.features) * 2 - 1)
        rows = measure(contenders(model, feat, size), args.rounds)
    case = {
        "case": f"head {args.features}x{args.features} x{args.scale:g}",
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "liif_fast": liif_fast.__version__,
    }
    if args.json:
        for row in rows:
            print(json.dumps({**case, **row}))
        return
    print(", ".join(f"{k} {v}" for k, v in case.items()))
    for row in rows:
        shown = f"{row['median']:.3f} s, {row['ratio']:.2f} x" if row["ok"] else "wrong: not timed"
        print(f"{row['contender']:<22} max error {row['error']:.1e}  {shown}")


if __name__ == "__main__":
    main()
