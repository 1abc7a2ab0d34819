"""Tables for people."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table, columns as wide as their widest cell: readable as it is."""
    cells = [[text.replace("|", "\\|") for text in line] for line in (head, *rows)]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(head))]
    lines = [[text.ljust(n) if i == 0 else text.rjust(n) for i, (text, n) in enumerate(zip(line, widths, strict=True))]
             for line in cells]  # fmt: skip
    lines.insert(1, ["-" * widths[0], *("-" * (n - 1) + ":" for n in widths[1:])])
    return [f"| {' | '.join(line)} |" for line in lines]
