"""Encoders by name, and arguments that make them tiny."""

from __future__ import annotations

import liif_fast

# blocks, convolutions in each, growth: A and B as in the RDN paper, tiny for what does not depend on the size
RDN = {"A": (20, 6, 32), "B": (16, 8, 64), "tiny": (2, 3, 4)}
TINY = {
    "edsr-baseline": {"n_resblocks": 3, "n_feats": 8, "res_scale": 0.3},
    "rdn": {"G0": 8, "RDNconfig": "tiny", "RDNkSize": 5},
    "rcan": {"n_resgroups": 2, "n_resblocks": 2, "n_feats": 8, "reduction": 4},
}
STEPS = {1: [], 2: [2], 3: [3], 4: [2, 2]}  # the PixelShuffles that make a scale


def make(name, **args):
    return liif_fast.make({"name": name, "args": args})
