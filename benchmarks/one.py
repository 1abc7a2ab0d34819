"""One configuration of the fused kernel a few times, at width 256: for a profiler.

    ncu --kernel-name regex:fused --launch-skip 2 --launch-count 1 python benchmarks/one.py half best

KIND: half, float32 or int8. WHICH: a number in the card's table (liif_fast/head/triton/configs.py); "best": what
liif-fast tune has kept, else the table's first; "other": the table's first of another structure than that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from liif_fast.head.triton import choices, configs
from liif_fast.head.triton.configs import Config


def pick(which: str, table: Sequence[Config], best: Config) -> Config:
    """ValueError: there is no such configuration."""
    if which == "best":
        return best
    if which == "other":
        found = [config for config in table if config.structure != best.structure]
        return found[0] if found else next((config for config in table if config != best), best)
    if not which.isdigit() or int(which) >= len(table):
        raise ValueError(f"{which}: best, other or a number below {len(table)} is wanted")
    return table[int(which)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=configs.KINDS)
    parser.add_argument("which")
    args = parser.parse_args()
    from liif_fast.head.triton import tune  # imports triton, which is there only beside CUDA

    device = torch.device("cuda", torch.cuda.current_device())
    table = configs.candidates(configs.family(torch.cuda.get_device_capability(device)), args.kind, 256)
    config = pick(args.which, table, choices.choose(args.kind, 256, device) or table[0])
    print(f"{args.kind}: {config}", flush=True)
    function, _, arguments = tune._problem(args.kind, 256, 1 << 21, device)
    for _ in range(3):
        function(*arguments, config=config)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
