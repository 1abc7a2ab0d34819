"""README.md as the long description of a package: an index shows it apart from the repository, where a relative picture
or link leads nowhere. With ``Repository`` in pyproject.toml's [project.urls] they become addresses there, at the tag of
the version; without it pictures are left out and links are their text."""

from __future__ import annotations

import re
from pathlib import Path

FENCE = re.compile(r"(^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?^ {0,3}\2[`~]* *$|(?<!`)(`+)(?!`).+?(?<!`)\3(?!`))", re.M | re.S)
PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<to>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<to>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
HTML_PICTURE = re.compile(r"<(?:img|source)\b[^>]*?\b(?:src|srcset)=\"(?P<to>[^\"]+)\"[^>]*>")
HTML_LINK = re.compile(r"<a\b[^>]*?\bhref=\"(?P<to>[^\"]+)\"[^>]*>(?P<text>.*?)</a>", re.S)
DEFINITION = re.compile(r"^ {0,3}\[[^\]]+\]:\s*(?P<to>\S+)", re.M)


def long_description(root: Path) -> str:
    """README.md of a source tree, for an index."""
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', project, re.M)
    repository = re.search(r'^Repository = "(.+)"', project, re.M)
    at = (repository[1].rstrip("/"), f"v{version[1]}") if repository and version else None
    return for_an_index((root / "README.md").read_text(encoding="utf-8"), at)


def for_an_index(text: str, at: tuple[str, str] | None) -> str:
    """The text with no relative address left. ``at``: the repository's address and a tag in it."""
    pieces = FENCE.split(text)
    # every piece of prose is followed by a piece of code and that piece's two marks; addresses in code stay. A link's
    # text may be code, so prose is put together around marks for it
    prose = "\0".join(pieces[::4])
    for pattern, kind in ((HTML_PICTURE, "raw"), (PICTURE, "raw"), (HTML_LINK, "blob"), (LINK, "blob")):
        prose = pattern.sub(lambda match, kind=kind: replaced(match, kind, at), prose)
    for match in DEFINITION.finditer(prose):
        if relative(match["to"]):
            raise ValueError(f"README.md: {match[0]}: write the address into the link, [text](address)")
    prose = re.sub(r"\n(?:[ \t]*\n){2,}", "\n\n", prose)  # where pictures stood
    code = iter(pieces[1::4])
    return re.sub("\0", lambda _: next(code), prose)


def relative(address: str) -> bool:
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", address)


def replaced(match: re.Match[str], kind: str, at: tuple[str, str] | None) -> str:
    to = match["to"]
    if not relative(to):
        return match[0]
    if at is None or (kind == "blob" and to.startswith("#")):
        return match["text"] if kind == "blob" else ""  # an index gives headings no anchors
    start, end = match.start("to") - match.start(), match.end("to") - match.start()
    return match[0][:start] + f"{at[0]}/{kind}/{at[1]}/{to.removeprefix('./')}" + match[0][end:]
