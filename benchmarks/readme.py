"""The figures of README and the documentation are the rows': this writes their tables and pictures from cpu.jsonl,
gpu.jsonl, family.jsonl and the folder small in benchmarks/results, and those of benchmarks/GPU.md.

    python benchmarks/readme.py          # between the marks <!-- rows: NAME --> and <!-- end of rows -->
    python benchmarks/readme.py --check  # exit code 1 where a page or a picture is not what the rows say

Where a row was measured in several runs, its figures are the range of the runs' medians. Each processor has tables of
its own; the pictures are those of the first.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import processor
import readme_gpu
import readme_machines
import readme_trained
from corner_cases import GRID_SAMPLES
from heads import COMPILED, FOLD, OURS, REFERENCE
from PIL import Image
from plots import plot
from rows import grouped, load, slopes
from tables import of, seconds, span, table

from liif_fast.quality import charts

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
HEAD = "head 64x64 -> 256x256"
KINDS = ("float32", "bfloat16", "int8")
NAMES = {REFERENCE: "reference", FOLD: "fold in plain PyTorch", OURS: "liif_fast"}
Timed = dict[tuple[str, str, str], list[dict]]
NOT_MEASURED = (
    "With AMX (the matrix unit of Intel's server processors since Sapphire Rapids): not measured yet.\n"
    "`python benchmarks/speed.py --suite --json benchmarks/results/cpu.jsonl` on one adds its rows."
)


@dataclass
class Machine:
    """A processor, of one of ``processor.KINDS``, and the timed rows from it."""

    kind: str
    name: str
    rows: list[dict]

    @property
    def title(self) -> str:
        return f"{self.kind}: {self.name}"


def machines(rows: Iterable[dict]) -> list[Machine]:
    """In the order of their kinds, those of one kind as they come in the rows."""
    found: dict[tuple[str, str], list[dict]] = {}
    for row in (row for several in grouped(rows).values() for row in several):
        found.setdefault((processor.kind(row), f"{row['cpu']}, {row['threads']} cores"), []).append(row)
    return [Machine(*at, found[at]) for at in sorted(found, key=lambda at: processor.KINDS.index(at[0]))]


def claim(machines: Sequence[Machine]) -> str:
    """The head's ratios, in a sentence; those with AMX in one of their own."""
    found: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    for machine in machines:
        timed = grouped(machine.rows)
        for kind in KINDS:
            ratios = of(timed.get((HEAD, OURS, kind), []), "ratio")
            found[machine.kind == processor.WITH_AMX].setdefault(kind, []).extend(ratios)
    text, amx = ({k: span(v, floor=True) for k, v in found[with_amx].items() if v} for with_amx in (False, True))
    said = (
        f"The head, from features to colours, runs {text['float32']} times as fast as the official one on a CPU in "
        f"float32,\n{text['bfloat16']} times in bfloat16 and {text['int8']} times in int8 "
        "([conditions](docs/speed.md); every result is checked before it is timed)."
    )
    ratios = ", ".join(f"{ratio} times in {kind}" for kind, ratio in amx.items())
    return f"{said}\nOn a CPU with AMX: {ratios}." if amx else said


def conditions(machines: Sequence[Machine]) -> str:
    """A paragraph for each machine; where there is none with AMX, that."""
    said = []
    for machine in machines:
        rows, ceilings = machine.rows, dict[str, list[float]]()
        for row in rows:
            if row["ceiling"]:
                ceilings.setdefault(row.get("unit", row["dtype"]), []).append(row["ceiling"] / 1e9)
        units = [*KINDS, *(f"amx {kind}" for kind in KINDS)]
        parts = [f"{span(ceilings[unit], 3)} in {unit}" for unit in units if unit in ceilings]
        torch, commit = (", ".join(sorted({str(row[name]) for row in rows})) for name in ("torch", "commit"))
        runs = len({row["run"] for row in rows})
        said.append(
            f"{machine.title}, torch {torch}, {runs} run{'s' * (runs > 1)}, commit {commit}. "
            f"Ceilings, 10^9 operations a second: {', '.join(parts)}."
        )
    if all(machine.kind != processor.WITH_AMX for machine in machines):
        said.append(NOT_MEASURED)
    return "\n\n".join(said)


def paths(rows: Sequence[dict]) -> str:
    """The instruction sets that our kernels used, where the rows say."""
    found = sorted({row["path"] for row in rows if row.get("path")})
    return f" ({', '.join(found)})" if found else ""


def head(timed: Timed) -> str:
    columns = ["head, 64x64 features, x4", "time", "x reference", "largest error", "share of the ceiling", "memory"]
    lines = []
    for (case, contender, kind), rows in timed.items():
        if case != HEAD:
            continue
        base, _, form = contender.partition(", ")
        name = f"{NAMES[base]}{', ' + form if form else ''}, {kind}{paths(rows)}"
        share, peak, quality = of(rows, "share"), of(rows, "peak"), of(rows, "set5_x4_db")
        cells = [
            name,
            seconds(rows),
            span(of(rows, "ratio"), 3),
            f"{max(of(rows, 'error')):.1e}" if contender != REFERENCE else "",
            f"{span([100 * s for s in share], 3)} %" if share else "",
            f"{span([p / 2**20 for p in peak], 3)} MiB" if peak else "",
            f"{span(quality, 5)} dB" if quality else "",
        ]
        lines.append(cells)
    return table([*columns, "Set5 x4"], lines)


def others(timed: Timed) -> str:
    """A line for each case beside the head's first."""
    columns = [(FOLD, "float32"), (FOLD + COMPILED, "float32"), (OURS, "float32"), (OURS, "bfloat16"), (OURS, "int8")]
    titles = ["case", "reference", *(f"{NAMES.get(n, 'fold, torch.compile')}, {k}" for n, k in columns)]
    lines = []
    cases = dict.fromkeys(case for case, _, _ in timed)
    for case in cases:
        if case == HEAD or case.startswith(("queries", "scale", "tiles")):
            continue
        reference = timed.get((case, REFERENCE, "float32"))
        if reference is None:
            continue
        cells = [case, seconds(reference)]
        for key in columns:
            rows = timed.get((case, *key))
            cells.append(f"{seconds(rows)}, {span(of(rows, 'ratio'), 3)} x{paths(rows)}" if rows else "")
        peaks = [of(timed.get((case, name, "float32"), []), "peak") for name in (REFERENCE, OURS)]
        cells.append(" / ".join(span([p / 2**20 for p in peak], 3) for peak in peaks) + " MiB" if all(peaks) else "")
        lines.append(cells)
    return table([*titles, "memory, reference and float32"], lines)


def sizes(timed: Timed) -> str:
    """Queries a second against their number, and the slope."""
    found = sorted({int(case[11:]) for case, _, _ in timed if case.startswith("queries 10^")})
    columns = [(REFERENCE, "float32"), (OURS, "float32"), (OURS, "bfloat16")]
    lines = []
    slope = slopes(row for several in timed.values() for row in several)
    for name, kind in columns:
        cells, measured = [], []
        for power in found:
            several = timed.get((f"queries 10^{power}", name, kind), [])
            cells.append(span([10**power / row["median"] for row in several], 3) if several else "")
            measured += several
        grows = slope.get(f"{name} {kind}")
        label = f"{NAMES[name]}, {kind}{paths(measured)}"
        lines.append([label, *cells, "" if grows is None else f"queries^{grows:.2f}"])
    return table(["queries a second, of", *(f"10^{p}" for p in found), "time grows as"], lines if found else [])


def tiles(timed: Timed) -> str:
    lines = []
    for (case, contender, kind), rows in timed.items():
        if case.startswith("tiles"):
            peak = span([p / 2**20 for p in of(rows, "peak")], 3)
            name = f"{case.removeprefix('tiles ')}, {contender}, {kind}{paths(rows)}"
            lines.append([name, seconds(rows), f"{peak} MiB"])
    return table(["large image", "time", "memory"], lines)


def family(timed: Timed) -> str:
    """LTE's head and the raw gather."""
    lines = []
    for case in dict.fromkeys(case for case, _, _ in timed):
        official = next(
            timed[case, name, "float32"] for name in (REFERENCE, GRID_SAMPLES) if (case, name, "float32") in timed
        )
        cells = [case, seconds(official)]
        for kind in ("float32", "bfloat16"):
            rows = timed.get((case, OURS, kind))
            cells.append(f"{seconds(rows)}, {span(of(rows, 'ratio'), 3)} x{paths(rows)}" if rows else "")
        peaks = [span([p / 2**20 for p in of(rows, "peak")], 3) for rows in (official, timed[case, OURS, "float32"])]
        lines.append([*cells, " / ".join(peaks) + " MiB"])
    return table(
        ["case", "official computation", "liif_fast, float32", "liif_fast, bfloat16", "memory, float32"], lines
    )


def each(of_timed: Callable[[Timed], str]) -> Callable[[Sequence[Machine]], str]:
    """The table of each machine that has rows for it, under its name."""

    def made(machines: Sequence[Machine]) -> str:
        tables = ((machine.title, of_timed(grouped(machine.rows))) for machine in machines)
        return "\n\n".join(f"{title}\n\n{text}" for title, text in tables if text)

    return made


BLOCKS: dict[str, Callable[[Sequence[Machine]], str]] = {
    "claim": claim,
    "conditions": conditions,
    **{block.__name__: each(block) for block in (head, others, sizes, tiles)},
    "family": lambda _: each(family)(machines(load(RESULTS / "family.jsonl"))),
    **{name: lambda _, made=made: made() for name, made in readme_trained.BLOCKS.items()},
}


FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "GPU.md")


def filled(text: str, cpu: Sequence[Machine], gpu: list[dict]) -> str:
    """The text with every block made anew. KeyError: a mark with an unknown name, or rows that a block needs."""

    def block(match: re.Match) -> str:
        name = match[1]
        if name == readme_machines.NAME:
            made = readme_machines.made([(m.kind, m.title, m.rows) for m in cpu], gpu)
        else:
            made = readme_gpu.BLOCKS[name](gpu) if name in readme_gpu.BLOCKS else BLOCKS[name](cpu)
        return f"<!-- rows: {name} -->\n{made}\n<!-- end of rows -->"

    return re.sub(r"<!-- rows: (\w+) -->\n.*?<!-- end of rows -->", block, text, flags=re.DOTALL)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stale(results: Path = RESULTS, files: Sequence[Path] = FILES) -> list[str]:
    """What does not say what the rows say."""
    path = results / "cpu.jsonl"
    rows, found = (machines(load(path)), load(results / "gpu.jsonl")), []
    for file in files:
        text = file.read_text(encoding="utf-8")
        found += [] if filled(text, *rows) == text else [str(file)]
        for name in re.findall(r"\((?:\.\./)?benchmarks/results/(speed-\w+\.png)\)", text):
            with Image.open(results / name) as image:
                found += [] if image.info.get("rows") == digest(path) else [str(results / name)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        wrong = stale()
        sys.exit(f"not what the rows say: {', '.join(wrong)}; run python benchmarks/readme.py" if wrong else 0)
    path = RESULTS / "cpu.jsonl"
    cpu, gpu = machines(load(path)), load(RESULTS / "gpu.jsonl")
    for file in FILES:
        file.write_text(filled(file.read_text(encoding="utf-8"), cpu, gpu))
    try:
        plot(cpu[0].rows, RESULTS, prefix="speed-", note=digest(path))
    except charts.ChartError as error:
        sys.exit(f"The texts are written, the pictures are not: {error}")


if __name__ == "__main__":
    main()
