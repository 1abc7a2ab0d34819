"""One hostile run: the files it is given, its arguments, and what may become of them. All by seed and index."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import config_files
import model_files
import mutations
import picture_files
import picture_kinds

MODEL = "identity.pth"  # in the folder of all cases
IMAGES = "images"
LIMIT = 4_000_000  # --max-pixels: what is larger may need more than 1 GB


@dataclass
class Case:
    """``pairs``: input, output, whether they must show the same. ``then``: run where the first one ends with 0."""

    kind: str
    argv: list[str]
    files: int | None = None
    pairs: list[tuple[str, str, bool]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    encoding: str = "utf-8"
    then: list[str] | None = None


def make(seed: int, index: int, folder: Path, common: Path, canary: Path) -> Case:
    """The case of an index, its files written into a folder."""
    rng = random.Random(f"{seed} {index}")
    family = rng.choices((pictures, models, configurations, arguments), (55, 15, 15, 15))[0]
    return family(rng, folder, common, canary)


def pictures(rng: random.Random, folder: Path, common: Path, canary: Path) -> Case:
    """One to three picture files, or what stands in their place."""
    count = rng.choice((1, 1, 1, 2, 3))
    kinds, names = [], []
    for i in range(count):
        kind, name = _special(rng, folder, i) if rng.random() < 0.12 else _picture(rng, folder, i)
        kinds.append(kind)
        names.append(name)
    one = count == 1
    scale = "1" if rng.random() < 0.75 else rng.choice(("2", "1.5", "0.5", "3.3"))
    suffix = ".png" if scale == "1" else rng.choice((".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".jp2"))
    argv = ["upscale", *_shown(names), "-m", str(common / MODEL), "-s", scale, "--max-pixels", str(LIMIT)]
    if one:
        argv += ["-o", "out" + suffix]
        outputs = ["out" + suffix]
    else:
        argv += ["-o", "out", "--format", suffix[1:]]
        outputs = [f"out/{Path(name).stem}{suffix}" for name in names]
    argv += rng.choice(([], [], [], ["--json"], ["--tile", "8"], ["--tile", "0"]))
    pairs = [(n, o, scale == "1") for n, o in zip(names, outputs, strict=True)]
    encoding = rng.choice(("utf-8", "utf-8", "ascii"))
    return Case("+".join(kinds), argv, count, pairs, [outputs[0].split("/")[0]], encoding)


def _shown(names: list[str]) -> list[str]:
    return [f"./{n}" if n.startswith("-") else n for n in names]


def _picture(rng: random.Random, folder: Path, i: int) -> tuple[str, str]:
    kind = rng.choice(list(picture_kinds.KINDS))
    data, suffix = picture_kinds.KINDS[kind](rng)
    if rng.random() < 0.65:
        kind, data = f"{kind}-damaged", mutations.mutate(data, rng)
    if rng.random() < 0.1:
        suffix = rng.choice((".png", ".jpg", ".tif", ".gif", ".txt", "", ".eps", ".webp"))
    name = f"p{i}{suffix}"
    if rng.random() < 0.08:
        name = (
            rng.choice(("line\nbreak", "caf\udce9", "größe 図", "-x", "a" * 240, "%s{0}", " ", "\x1b[31m")) + f"{i}.png"
        )
    (folder / name).write_bytes(data)
    return kind, name


def _special(rng: random.Random, folder: Path, i: int) -> tuple[str, str]:
    """No picture at all."""
    kind = rng.choice(
        ("empty", "text", "random", "pipe", "folder", "loop", "dangling", "missing", "long", "zero", "null")
    )
    name = f"s{i}.png"
    path = folder / name
    if kind in ("empty", "text", "random"):
        path.write_bytes({"empty": b"", "text": b"hello\n" * 50, "random": rng.randbytes(3000)}[kind])
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(name)
    elif kind in ("dangling", "zero", "null"):
        path.symlink_to({"dangling": "nowhere", "zero": "/dev/zero", "null": "/dev/null"}[kind])
    elif kind == "long":
        name = "n" * rng.choice((256, 300, 4000)) + f"{i}.png"
    return kind, name


def models(rng: random.Random, folder: Path, common: Path, canary: Path) -> Case:
    """A checkpoint and a whole picture."""
    kind, data, same = model_files.make(rng, canary)
    suffix = rng.choice((".pth", ".pth", ".safetensors", ".pt", ".bin"))
    (folder / f"model{suffix}").write_bytes(data)
    picture, ending = picture_kinds.KINDS["png-rgb8"](rng)
    (folder / f"p{ending}").write_bytes(picture)
    argv = ["upscale", f"p{ending}", "-m", f"model{suffix}", "-s", "1", "-o", "out.png"]
    if rng.random() < 0.15:
        argv += ["--dtype", rng.choice(("bfloat16", "int8"))]
        same = False  # not exact
    return Case(f"model-{kind}", argv, 1, [(f"p{ending}", "out.png", same)], ["out.png"])


def configurations(rng: random.Random, folder: Path, common: Path, canary: Path) -> Case:
    """A configuration; what ``--dry-run`` says is in order must run."""
    command = rng.choice(("train", "train", "eval"))
    kind = config_files.make(rng, common / IMAGES, folder / "c.yaml", command)
    if command == "eval":
        return Case(f"eval-{kind}", ["eval", "--config", "c.yaml", "-m", str(common / MODEL)])
    then = ["train", "c.yaml", "--save", "run", "--minutes", "0.0001"]
    return Case(f"train-{kind}", ["train", "c.yaml", "--save", "run", "--dry-run"], then=then)


NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "-0",
    "1e308",
    "1e-308",
    "1e-5",
    "0.5",
    "1",
    "2",
    "x",
    "",
    "1_0",
    "٣",
    "0x2",
)
SIZES = ("200000000x1", "1x200000000", "99999x99999", "x", "44x", "x34", "0x5", "-3x3", "5x5x5", "٣x٣", "1e3x2", "")
TEXTS = (
    "",
    " ",
    "x",
    "/",
    "..",
    "a/b",
    "\n",
    "größe",
    "caf\udce9",
    "-",
    "--",
    "%s",
    "{}",
    "x" * 300,
    "\x1b[2J",
    "a\nb",
)


def arguments(rng: random.Random, folder: Path, common: Path, canary: Path) -> Case:
    """Words in any order."""
    (folder / "p.png").write_bytes(picture_kinds.KINDS["png-rgb8"](rng)[0])
    (folder / "d").mkdir()
    (folder / "d" / "a.png").write_bytes(picture_files.raw_png(8, 2)(rng)[0])
    command = rng.choice(
        ("upscale",) * 6 + ("eval", "eval", "compare", "train", "tune", "doctor", "", "x", "--version")
    )
    options = {
        "upscale": {
            "-s": NUMBERS,
            "--size": SIZES,
            "--tile": (*NUMBERS, "auto", "1", "5", "99999999999999999999"),
            "--format": ("png", "jpg", "PNG", ".tif", "gif", "eps", "ico", "pdf", *TEXTS),
            "--quality": ("0", "1", "100", "101", "-5", "x", "1e2"),
            "--suffix": TEXTS,
            "--max-pixels": ("0", "-1", "1", "100", "x", "9" * 30),
            "--device": ("cpu", "meta", "cuda:99", "xla", "mps", "cpu:7", *TEXTS),
            "--dtype": ("float32", "bfloat16", "float16", "int8", "float64", ""),
            "--overwrite": None,
            "--json": None,
            "-r": None,
            "--in-place": None,
        },
        "eval": {
            "--data": ("d", "p.png", "/nowhere", *TEXTS),
            "-s": NUMBERS,
            "--protocol": ("y", "div2k", "benchmark", "z"),
            "--lr": ("auto", "files", "matlab", "pil", "x"),
            "--json": None,
            "--niqe": None,
            "--config": ("p.png", "d", "/nowhere", ""),
        },
        "compare": {
            "--data": ("d", "/nowhere", *TEXTS),
            "-s": NUMBERS,
            "-o": ("out", "d", "p.png", "", "/dev/null/x"),
            "--crops": ("0", "-1", "3", "x", "99999999"),
            "--scales-plot": ("", "x", "nan", "2,inf", "-1"),
            "--niqe": None,
            "--overwrite": None,
        },
        "train": {"--dry-run": None, "--save": TEXTS, "--minutes": NUMBERS, "--resume": None, "--device": TEXTS},
        "tune": {"--device": TEXTS},
        "doctor": {"--json": None},
    }.get(command, {})
    argv = [command]
    if command == "upscale" and rng.random() < 0.9:
        argv += rng.choice((["p.png"], ["p.png"], ["d"], ["p.png", "d"], ["p.png", "p.png"], ["/nowhere"], [""]))
        argv += [
            "-o",
            rng.choice(("out.png", "out", "out/", "o/u/t.jpg", "d", "p.png", ".", "", " ", "x", "a/b", "\n", "größe")),
        ]
    if command == "train" and rng.random() < 0.9:
        argv += [rng.choice(("p.png", "d", "/nowhere", ""))]
    if command in ("upscale", "eval", "compare"):
        models = (str(common / MODEL),) * 4 + ("bicubic", "edsr-baseline-liif", "/nowhere", "d", "p.png", "a=b", "")
        argv += ["-m", rng.choice(models)]
    if command == "upscale" and rng.random() < 0.7:
        argv += ["-s", rng.choice(("1", "2", *NUMBERS))]
    names = list(options)
    for name in rng.sample(names, min(len(names), rng.choice((0, 1, 1, 2, 3)))):
        argv.append(name)
        if options[name] is not None:
            argv.append(rng.choice(options[name]))
    if rng.random() < 0.1:
        argv.insert(rng.randrange(1, len(argv) + 1), rng.choice(("--unknown", "--", "-h", *TEXTS)))
    made = [
        "out.png",
        "out",
        "o",
        "d",
        "x",
        "a",
        "a.png",
        "\n",
        "größe",
        "caf\udce9",
        "-",
        "--",
        "%s",
        " ",
        "run",
        "save",
    ]
    return Case(f"arguments-{command}", [a for a in argv if "\0" not in a], made=made)
