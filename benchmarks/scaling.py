"""Two things that times of one size do not show.

python benchmarks/scaling.py queries   # render's throughput from 10^4 to 10^7 queries
python benchmarks/scaling.py memory    # peak memory that a training step of the head adds, reference and liif_fast
"""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
import time

import cases
import torch

import liif_fast
from liif_fast import functional


def queries(model: liif_fast.LIIF, rounds: int = 3) -> None:
    """One row for each number of queries: the best rate of rounds in turns, each of enough runs for three seconds."""
    sizes = (10**4, 10**5, 10**6, 10**7)
    best = dict.fromkeys(sizes, 0.0)
    with torch.no_grad():
        head = functional.Head(*model.head())
        hidden = functional.hidden_map(model.encoder(torch.rand(1, 3, 64, 64) * 2 - 1), head)
        for _, n in itertools.product(range(rounds), sizes):
            coord = torch.rand(1, n, 2) * 2 - 1
            cell = torch.full_like(coord, 2 / 256)
            times = []
            while sum(times) < 3:
                start = time.perf_counter()
                functional.render(hidden, head, coord, cell)
                times.append(time.perf_counter() - start)
            best[n] = max(best[n], n * len(times) / sum(times))
    for n, rate in best.items():
        share = rate / max(best.values())
        print(json.dumps({"case": "queries", "queries": n, "per_second": round(rate), "of_best": round(share, 3)}))


def memory(model_name: str) -> None:
    """Each contender in a process of its own, because a process's peak never goes down."""
    for index in range(len(cases.train(liif_fast.load(model_name)))):
        subprocess.run([sys.executable, __file__, "one", str(index), model_name], check=True)


def one(index: int, model_name: str) -> None:
    contender = cases.train(liif_fast.load(model_name))[index]
    torch.zeros(64, 64) @ torch.zeros(64, 64)  # what the libraries need once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    contender.run()
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    row = {"case": "train memory", "contender": contender.name, "dtype": contender.kind, "added_MiB": round(added)}
    print(json.dumps(row), flush=True)


def main() -> None:
    what, *rest = sys.argv[1:] or ["queries"]
    if what == "one":
        one(int(rest[0]), rest[1])
    elif what == "memory":
        memory(rest[0] if rest else "edsr-baseline-liif")
    elif what == "queries":
        queries(liif_fast.load(rest[0] if rest else "edsr-baseline-liif"))
    else:
        sys.exit(f"{what}: queries or memory is wanted")


if __name__ == "__main__":
    main()
