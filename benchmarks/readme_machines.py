"""README's table of speed by kind of machine, from the rows of CPUs and of a GPU; see ``readme``."""

from __future__ import annotations

from collections.abc import Iterable

import processor
import readme_gpu
from heads import OURS
from rows import grouped
from tables import of, seconds, span, table

NAME = "machines"
HEAD = "head 64x64 -> 256x256"
WHOLE = "upscale 256x256 -> 1024x1024"
FRAMES = "frames 960x540 -> 3840x2160"
KINDS = ("float32", "bfloat16", "int8")


def made(cpu: Iterable[tuple[str, str, list[dict]]], gpu: list[dict]) -> str:
    """Of each CPU its kind, its title and its rows. A kind that nobody measured has a line that says so."""
    lines, kinds = [], set()
    for kind, title, rows in cpu:
        kinds.add(kind)
        timed = grouped(rows)
        ratios = [of(timed.get((HEAD, OURS, dtype), []), "ratio") for dtype in KINDS]
        whole = timed.get((WHOLE, OURS, "float32"), [])
        picture = f"256x256 to 1024x1024 in {seconds(whole)}, float32" if whole else ""
        lines.append([title, *(f"{span(r, 3)} x" if r else "" for r in ratios), picture])
    if processor.WITH_AMX not in kinds:
        lines.append([f"CPU {processor.WITH_AMX}: not measured yet", "", "", "", ""])
    timed = [row for row in gpu if "median" in row]
    heads = {row["dtype"]: row for row in timed if row["case"] == readme_gpu.CARD and row["contender"] == OURS}
    frames = [row for row in timed if row["case"] == FRAMES and row["contender"] == f"{OURS}, renderer"]
    cards = ", ".join(sorted({str(row["gpu"]) for row in timed if row.get("gpu")}))
    each = f"960x540 to 3840x2160 in {seconds(frames)}, bfloat16" if frames else ""
    lines.append([cards, *(f"{heads[k]['ratio']:.3g} x" if k in heads else "" for k in KINDS), each])
    titles = ["machine", *(f"head in {kind}" for kind in KINDS), "a whole picture"]
    return table(titles, lines)
