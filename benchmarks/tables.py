"""Numbers and tables as README and docs/ have them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Markdown; "" without lines."""
    lines = list(lines)
    if not lines:
        return ""
    head = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    return "\n".join([*head, *(f"| {' | '.join(cells)} |" for cells in lines)])


def span(values: Sequence[float], digits: int = 2, floor: bool = False) -> str:
    """The least and the largest of the values, with so many significant digits; ``floor``: whole numbers, rounded
    down."""
    text = [str(math.floor(v)) if floor else significant(v, digits) for v in (min(values), max(values))]
    return text[0] if text[0] == text[1] else f"{text[0]} to {text[1]}"


def significant(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def seconds(rows: Sequence[dict]) -> str:
    medians = [row["median"] for row in rows]
    return f"{span(medians, 3)} s" if max(medians) >= 1 else f"{span([1e3 * m for m in medians], 3)} ms"


def of(rows: Sequence[dict], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]
