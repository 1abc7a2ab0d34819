"""Which low-resolution image belongs to which high-resolution one, by the names of their files.

Names give a rule where those of all low-resolution images are those of the high-resolution ones with the same ending
added, or another one in its place: ``img_1`` and ``img_1x2``, ``img_001_SRF_4_HR`` and ``img_001_SRF_4_LR``, or equal
ones. Where they give none there is only the order, as in the official program.
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import DataError

_MARKED = re.compile(r"(.+[_-])(HR|LR\d*)", re.IGNORECASE)  # SelfExSR's and RealSR's names, both kinds in one folder
_SCALED = re.compile(r"(.+)x(\d+)")  # EDSR's names of low-resolution images
_SCALE = re.compile(r"(?:SRF_(\d{1,3})_LR|LR(\d{1,3})|x(\d{1,3}))$", re.IGNORECASE)


def endings(low: Sequence[str], high: Sequence[str]) -> tuple[str, str] | None:
    """What to take from the end of each of ``high`` (stems), and to add, to get those of ``low``; None: no rule.

    It is the same rule for all and leads to each of ``low`` once. There are never two that pair differently.
    """
    if len(low) != len(high) or len(set(high)) != len(high) or len(set(low)) != len(low) or not low:
        return None
    wanted, common = set(low), _beginning([stem[::-1] for stem in high])[::-1]
    longer = len(low[0]) + sum(map(len, low[1:])) - sum(map(len, high))  # over all names
    if longer % len(low):
        return None
    for cut in range(len(common) + 1):
        old = common[len(common) - cut :]
        n = cut + longer // len(low)
        if n < 0:
            continue
        base = high[0][: len(high[0]) - cut]
        candidates = (stem[len(base) :] for stem in low if stem.startswith(base) and len(stem) == len(base) + n)
        for new in dict.fromkeys(candidates):
            if {stem[: len(stem) - cut] + new for stem in high} == wanted:
                return old, new
    return None


def renamed(stem: str, rule: tuple[str, str]) -> str:
    """A low-resolution image's stem from that of its high-resolution one, by ``endings``."""
    return stem.removesuffix(rule[0]) + rule[1]


def paired(low: Sequence[Path], high: Sequence[Path], first_k: int | None = None) -> tuple[list[Path], list[Path], str]:
    """The files in the order of ``low``, each with its partner, and what is to be said of that ("" for nothing).

    Args:
        low, high: sorted, or in the order of a list. Where names give no rule this order decides.
        first_k: only the first so many, None: all.

    Raises:
        DataError: different numbers; or no rule, and the numbers in the names, read as numbers, order them otherwise.
    """
    lows, highs = ([file.stem for file in files] for files in (low, high))
    k = len(low) if first_k is None else first_k
    if (rule := endings(lows, highs)) is not None:
        partner = {renamed(file.stem, rule): file for file in high}
        return list(low[:k]), [partner[stem] for stem in lows[:k]], ""
    both = min(len(low), len(high))
    if (len(low) == len(high) or (first_k is not None and k <= both)) and _alike(lows[:both], highs[:both]):
        return list(low[:k]), list(high[:k]), ""
    if len(low) != len(high):
        raise DataError(f"{low[0].parent} has {len(low)} images, {high[0].parent} has {len(high)}: pairs are wanted")
    _check_order(low, high)
    _check_partners(low, high)
    return (
        list(low[:k]),
        list(high[:k]),
        f"the files' names do not say which belong together, so their order does: {low[0].name} with {high[0].name}, "
        f"..., {low[:k][-1].name} with {high[:k][-1].name}",
    )


def _beginning(names: Sequence[str]) -> str:
    """What all of them begin with."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same)


def _alike(low: list[str], high: list[str]) -> bool:
    """Whether each of ``low`` is the partner by name of the one of ``high`` at its place; names may be repeated."""
    if not low:
        return True
    same = len(_beginning([low[0], high[0]]))
    for base in range(same, 0, -1):
        new, old = low[0][base:], high[0][base:]
        if all(
            a.endswith(new) and b.endswith(old) and a[: len(a) - len(new)] == b[: len(b) - len(old)]
            for a, b in zip(low, high, strict=True)
        ):
            return True
    return False


def _check_order(low: Sequence[Path], high: Sequence[Path]) -> None:
    natural = [sorted(range(len(files)), key=lambda i: _numbers(files[i].stem)) for files in (low, high)]
    if natural[0] != natural[1]:
        at = next(i for i, (a, b) in enumerate(zip(*natural, strict=True)) if a != b)
        other = high[natural[1][at]]
        raise DataError(
            f"{low[natural[0][at]]}: its partner is {high[natural[0][at]].name} in the order of names, {other.name} in "
            "that of the numbers in them: rename the files, to NAME and NAMEx2 say, or to the same names"
        )


def _check_partners(low: Sequence[Path], high: Sequence[Path]) -> None:
    """DataError if some names have partners, by the ending that most of them have, at another place than the order's:
    a file is missing on one side, and another one on the other."""
    at = {file.stem: i for i, file in enumerate(high)}
    found = [
        (stem[n:], i, at[stem[:n]])
        for i, stem in enumerate(file.stem for file in low)
        for n in range(1, len(stem) + 1)
        if stem[:n] in at and not (stem[n - 1].isdecimal() and stem[n : n + 1].isdecimal())  # a number stays whole
    ]
    if not found:
        return
    ending = collections.Counter(end for end, _, _ in found).most_common(1)[0][0]
    for end, i, j in found:
        if end == ending and i != j:
            raise DataError(
                f"{low[i]}: its partner is {high[min(i, len(high) - 1)].name} in the order of names, but its name says "
                f"{high[j].name}: each folder seems to miss a file that the other has; leave out those without partner"
            )


def _numbers(stem: str) -> list[tuple[int, int, str]]:
    """To sort names with their numbers read as numbers: a2 before a10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", stem) if part]


def in_one_folder(
    files: Sequence[Path], reduced: Callable[[Path, Path, int], bool]
) -> tuple[list[Path], dict[Path, list[Path]]]:
    """The high-resolution images of a folder that may hold both kinds, and the low-resolution files of each.

    Low-resolution are ``NAME_LR`` and ``NAME_LR4``, and high-resolution then only ``NAME_HR``: SelfExSR has results of
    other programs beside them. So is ``NAMEx4`` where there is NAME. Both results are empty where there is
    no ``NAME_HR`` for them.

    Args:
        reduced: whether the sizes of files, high and low, fit a scale.
    """
    marks = {file: match for file in files if (match := _MARKED.fullmatch(file.stem))}
    if any(mark[2].upper() != "HR" for mark in marks.values()):
        high = {mark[1]: file for file, mark in marks.items() if mark[2].upper() == "HR"}
        found = {file: high.get(mark[1]) for file, mark in marks.items() if mark[2].upper() != "HR"}
        owners = list(high.values())
    else:
        stems = {file.stem: file for file in files}
        matches = {file: match for file in files if (match := _SCALED.fullmatch(file.stem)) and match[1] in stems}
        found = {f: stems[m[1]] for f, m in matches.items() if reduced(stems[m[1]], f, scale_in(f.stem) or 0)}
        owners = [file for file in files if file not in found]
    partners: dict[Path, list[Path]] = {file: [] for file in owners}
    for file, owner in found.items():
        if owner in partners:
            partners[owner].append(file)
    return owners, partners


def scale_in(stem: str) -> int | None:
    """The scale that a low-resolution image's name tells; None: it tells none."""
    match = _SCALE.search(stem)
    return None if match is None else int(next(group for group in match.groups() if group))
