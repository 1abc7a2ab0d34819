"""Configurations for ``train --dry-run`` and ``eval --config``: whole ones with something wrong in them."""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from typing import Any

import mutations
import training_files
import yaml

VALUES = (
    None,
    True,
    0,
    -1,
    1,
    1.5,
    10**12,
    10**30,
    -(10**400),
    float("nan"),
    float("inf"),
    1e308,
    "",
    "x",
    "1e-3",
    "a\nb",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "/",
    "/dev/null",
    "x" * 70000,
    [],
    [1],
    [[1]],
    [-1, "a", None],
    {},
    {"name": "liif"},
    {"name": "os.system", "args": {"command": "touch canary"}},
    {1: 2, None: 3},
    list(range(5000)),
)

# texts that say something else than they seem to, or that a reader of YAML trips over
TEXTS = (
    "",
    "---\n---\n",
    "%YAML 9.9\n---\na: 1\n",
    "a: !!bool maybe\n",
    "a: !!int x\n",
    "a: !!float ''\n",
    "a: !!timestamp 99\n",
    "a: 2001-99-99\n",
    "a: 2001-12-14t25:59:43.1Z\n",
    "a: !!binary '='\n",
    "a: !!python/object/apply:os.system ['touch canary']\n",
    "!!python/object/new:os.system ['touch canary']\n",
    "a: !!set {x, y}\n",
    "a: !!omap [x]\n",
    "a: !!pairs 3\n",
    "? [1, 2]\n: 3\n",
    "? {a: 1}\n: 3\n",
    "<<: 3\n",
    "<<: *x\n",
    "a: &a [*a]\n",
    "a: &a {b: *a}\n",
    "a: &a\n  <<: *a\n",
    "a: *missing\n",
    "a: " + "9" * 6000 + "\n",
    "a: 0x" + "f" * 6000 + "\n",
    "a: " + "1:" * 3000 + "1\n",
    "a: 0b2\n",
    "a: 08\n",
    "a: 190:20:30.15\n",
    "[" * 3000,
    "{" * 3000,
    "- " * 3000,
    "a: |\n",
    "\t- x\n",
    "\0",
    "a: \x07\n",
    "\ufeffa: 1\n",
    "train_dataset: [\n",
    "a" * 2_000_000 + ": 1\n",
    "null\n",
    "3\n",
    "- a\n",
    "=: 1\n",
    "a: =\n",
)


def aliases(rng: random.Random, whole: dict[str, Any]) -> str:
    """A list of lists of lists ..., 9 to the n-th in all: small on disk."""
    lists = ["&x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    n = rng.choice((3, 6, 9, 30))
    lists += [f"&x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, n)]
    name = rng.choice(ALIASED)
    whole = {key: value for key, value in whole.items() if key != name}
    return yaml.safe_dump(whole, sort_keys=False) + f"{name}:\n" + "\n".join(f"- {line}" for line in lists)


ALIASED = ("model", "train_dataset", "test_dataset", "data_norm", "epoch_max", "seed", "amp", "loss", "eval_type")


def training(rng: random.Random, images: Path) -> dict[str, Any]:
    config = training_files.configuration(images)
    if rng.random() < 0.3:
        config["gan"] = {
            "discriminator": {"name": "srgan-discriminator", "args": {}},
            "optimizer": {"name": "adam", "args": {"lr": 1e-4}},
        }
    return config


def test(rng: random.Random, images: Path) -> dict[str, Any]:
    return {
        "test_dataset": {
            "dataset": {"name": "image-folder", "args": {"root_path": str(images), "first_k": 1}},
            "wrapper": {"name": "sr-implicit-downsampled", "args": {"scale_min": 2}},
            "batch_size": 1,
        },
        "eval_type": "benchmark-2",
        "eval_bsize": 3000,
        "data_norm": {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")},
    }


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in pairs for place in [(*path, key), *_places(below, (*path, key))]]


def change(config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One or two values replaced, left out, renamed or added."""
    config = copy.deepcopy(config)
    for _ in range(rng.choice((1, 1, 2))):
        places = _places(config)
        *path, last = rng.choice(places)
        at = config
        for key in path:
            at = at[key]
        what = rng.randrange(5)
        if what == 0:
            del at[last]
        elif what == 1 and isinstance(at, dict):
            at[rng.choice((str(last) + "x", "", 3, None, "size", "cache"))] = rng.choice(VALUES)
        else:
            at[last] = rng.choice(VALUES)
    return config


EXTRAS = {
    "amp": VALUES,
    "ema": VALUES,
    "grad_clip": VALUES,
    "compile": (0, "x"),
    "channels_last": VALUES,
    "cuda_graph": VALUES,
    "head_parts": VALUES,
    "loss": VALUES,
    "gan": VALUES,
    "init": VALUES,
    "resume": VALUES,
    "num_workers": (-1, 1.5, "x", 10**12),
    "save_steps": VALUES,
    "nan_limit": VALUES,
    "monitor": VALUES,
    "eval_type": ("benchmark-0", "div2k-4", "benchmark-" + "9" * 5000, "x"),
    "eval_bsize": VALUES,
}


def make(rng: random.Random, images: Path, path: Path, kind: str) -> str:
    """Write a configuration (or make something else under its name); what it is."""
    whole = training(rng, images) if kind == "train" else test(rng, images)
    style = rng.choice(("change", "change", "change", "change", "extra", "text", "text", "aliases", "bytes", "file"))
    if style == "extra":
        key = rng.choice(list(EXTRAS))
        whole[key] = rng.choice(EXTRAS[key])
    if style in ("change", "extra"):
        config = change(whole, rng) if style == "change" else whole
        path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf-8", "surrogatepass")
    elif style == "text":
        path.write_text(rng.choice(TEXTS), "utf-8")
    elif style == "aliases":
        path.write_text(aliases(rng, whole), encoding="utf-8")
    elif style == "bytes":
        path.write_bytes(mutations.mutate(yaml.safe_dump(whole).encode(), rng))
    else:
        style = rng.choice(("pipe", "zero", "folder", "missing", "loop", "binary", "null"))
        if style == "pipe":
            os.mkfifo(path)
        elif style == "zero":
            path.symlink_to("/dev/zero")
        elif style == "null":
            path.symlink_to("/dev/null")
        elif style == "folder":
            path.mkdir()
        elif style == "loop":
            path.symlink_to(path.name)
        elif style == "binary":
            path.write_bytes(rng.randbytes(5000))
    return style
