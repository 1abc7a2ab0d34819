"""What docs/gpu.md and benchmarks/GPU.md say of a GPU, from benchmarks/results/gpu.jsonl; see ``readme``."""

from __future__ import annotations

from heads import COMPILED, FOLD, OURS, REFERENCE
from tables import seconds, table

Rows = list[dict]
CARD = "head 480x270 -> 1920x1080"
NAMES = {
    REFERENCE: "official head",
    FOLD: "fold in plain PyTorch",
    OURS: "liif_fast",
    f"{OURS}, CUDA graph": "liif_fast, CUDA graph",
}


def _timed(rows: Rows) -> Rows:
    return [row for row in rows if "median" in row]


def _name(contender: str) -> str:
    base, _, form = contender.partition(", ")
    return f"{NAMES.get(base, base)}{', ' + form if form else ''}"


def conditions(rows: Rows) -> str:
    timed = _timed(rows)

    def unique(name: str) -> str:
        return ", ".join(sorted({str(row[name]) for row in timed if row.get(name)}))

    rounds: dict[str, set[int]] = {}
    for row in timed:
        rounds.setdefault(row["case"].split()[0], set()).add(row["rounds"])
    several = ", ".join(f"{name} {'/'.join(map(str, sorted(n)))}" for name, n in rounds.items() if name != "video")
    ceiling = {row["dtype"]: row["ceiling"] for row in timed if row.get("ceiling")}
    parts = [f"{ceiling[kind] / 1e12:.3g} in {kind}" for kind in ("bfloat16", "float16", "int8", "float32")]
    return (
        f"{unique('gpu')}, torch {unique('torch')}, triton {unique('triton')}, commits {unique('commit')}. Ceilings, "
        f"measured in the same runs\nas the matrix library's product of square matrices, 10^12 operations a second: "
        f"{', '.join(parts)}.\nTimes are medians of rounds in turns ({several})."
    )


def head(rows: Rows) -> str:
    lines = []
    for row in _timed(rows):
        if row["case"] != CARD:
            continue
        quality = row.get("set5_x4_db")
        lines.append(
            [
                f"{_name(row['contender'])}, {row['dtype']}",
                seconds([row]),
                f"{row['ratio']:.3g}",
                f"{row['error']:.1e}" if row["contender"] != REFERENCE else "",
                f"{row['share']:.0%}" if row["share"] else "",
                f"{row['peak'] / 2**20:.0f} MiB",
                f"{quality:.3f} dB" if quality else "",
            ]
        )
    titles = ["head, 480x270 -> 1920x1080", "time", "x official", "largest error", "share of the ceiling", "memory"]
    return table([*titles, "Set5 x4"], lines)


def frames(rows: Rows) -> str:
    """Images a second of the renderer: single ones between other work, and for seconds on end."""
    lines = {}
    for row in _timed(rows):
        kind, _, size = row["case"].partition(" ")
        if kind in ("frames", "video") and row["contender"].startswith(f"{OURS}, renderer"):
            rate = f"{1 / row['median']:.1f}"
            card = f" ({row['watts']:.0f} W, {row['sm_mhz']:.0f} MHz)" if kind == "video" and row.get("watts") else ""
            lines.setdefault((size, row["contender"].endswith(COMPILED)), {})[kind] = rate + card
    titles = ["encoder and head, bfloat16, `model.renderer`", "images a second, one at a time", "for seconds on end"]
    return table(
        titles,
        [
            [size + (", compiled encoder" if compiled else ""), found.get("frames", ""), found.get("video", "")]
            for (size, compiled), found in lines.items()
        ],
    )


def others(rows: Rows) -> str:
    """A line for each row of the cases that docs/gpu.md does not show."""
    lines = []
    for row in _timed(rows):
        if row["case"] == CARD or row["case"].startswith(("frames", "video")):
            continue
        cells = [row["case"], f"{_name(row['contender'])}, {row['dtype']}", seconds([row]), f"{row['ratio']:.3g}"]
        cells += [f"{row['share']:.0%}" if row.get("share") else "", f"{row['peak'] / 2**20:.0f} MiB"]
        lines.append(cells)
    return table(["case", "", "time", "x first", "share of the ceiling", "memory"], lines)


def bars(rows: Rows) -> str:
    lines = []
    for row in rows:
        if "bar" in row and row["met"] is not None:
            lines.append([row["case"], row["bar"], f"{row['value']:.3g}", "met" if row["met"] else "**not met**"])
    return table(["case", "bar", "value", ""], lines)


BLOCKS = {"gpu_conditions": conditions, "gpu_head": head, "gpu_frames": frames, "gpu_others": others, "gpu_bars": bars}
