"""The architecture, read from the source: what may import what, and how long a file may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "liif_fast"
# from the highest down; a room imports itself and those after it
ROOMS = (
    "cli",
    "integrations",
    "export",
    "video",
    "viewing",
    "upscaling",
    "training",
    "quality",
    "data",
    "models",
    "head",
    "weights",
    "images",
    "base",
)
# modules beside the rooms: entrances, which are as high as the command, and what is for all rooms above base
ENTRANCES = {"__main__", "train"}
FOR_ALL = {"registry", "sizes", "distributed"}
LONG: dict[str, str] = {}  # files of more than LINES, and why
LINES = 300


class Import(NamedTuple):
    target: str  # a module, without "liif_fast."; "" is the package itself
    line: int
    typing: bool  # for type checkers only


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str, source: str, package: bool, modules: dict[str, Path]) -> list[Import]:
    """What a module imports of liif_fast."""
    found = []

    def visit(node: ast.AST, typing: bool) -> None:
        found.extend(Import(target, node.lineno, typing) for target in targets(node))
        if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING":
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, typing)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, typing)

    def targets(node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.partition(".")[0] == "liif_fast"]
            return [n.partition(".")[2] for n in names]
        if not isinstance(node, ast.ImportFrom):
            return []
        if node.level:
            here = (name.split(".") if name else [])[: None if package else -1]
            assert node.level <= len(here) + 1, f"{name}:{node.lineno}: imports from outside of the package"
            base = ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])
        elif (node.module or "").partition(".")[0] == "liif_fast":
            base = node.module.partition(".")[2]
        else:
            return []
        parts = [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
        return [part if part in modules else base for part in parts]

    visit(ast.parse(source), False)
    return found


def height(name: str) -> int:
    """Modules import what is at most as high."""
    first = name.partition(".")[0]
    if not name or first in ENTRANCES:
        return len(ROOMS) + 1
    if first in FOR_ALL:
        return 1  # just above base
    assert first in ROOMS, f"{name}: in none of the rooms; give it a place, or make it one of them"
    position = len(ROOMS) - ROOMS.index(first)
    return 0 if first == "base" else position


def upward(modules: dict[str, list[Import]]) -> list[str]:
    return [
        f"{name}:{i.line} imports {i.target or 'liif_fast'}"
        for name, found in modules.items()
        for i in found
        if height(i.target) > height(name)
    ]


def circles(modules: dict[str, list[Import]]) -> list[str]:
    """Modules that import themselves by way of others; those of type checkers are not imports when a program runs."""
    graph = {name: {i.target for i in found if not i.typing} for name, found in modules.items()}
    done: set[str] = set()
    found = []

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append(" -> ".join([*way[way.index(name) :], name]))
        elif name not in done:
            for target in sorted(graph.get(name, ())):
                walk(target, [*way, name])
            done.add(name)

    for name in sorted(graph):
        walk(name, [])
    return found


@pytest.fixture(scope="module")
def ours() -> dict[str, list[Import]]:
    return {n: imports(n, p.read_text(), p.name == "__init__.py", MODULES) for n, p in MODULES.items()}


def test_no_import_points_up(ours):
    assert upward(ours) == []


def test_no_circle(ours):
    assert circles(ours) == []


def test_every_room_says_what_lives_there_and_what_it_may_import():
    rooms = [name for name in ROOMS if (PACKAGE / name).is_dir()]
    assert set(rooms) == {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    for name in rooms:
        text = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text())) or ""
        assert 2 <= len(text.splitlines()) <= 24, name


def test_rooms_import_what_they_say(ours):
    for room in filter(lambda name: (PACKAGE / name).is_dir(), ROOMS):
        text = " ".join((ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or "").split())
        said = re.search(r"May import:? ([\w, ]+)", text)
        allowed = set() if room == "base" else set(said[1].split(", ")) if said[1] != "everything" else set(ROOMS)
        used = {i.target.partition(".")[0] for n, found in ours.items() if n.partition(".")[0] == room for i in found}
        assert used - FOR_ALL - {room} <= allowed, room


def test_no_file_is_long():
    folders = ("liif_fast", "tests", "csrc", "benchmarks", "tools", "examples", "integrations")
    suffixes = {".py", ".cpp", ".cu", ".h", ".sh"}
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in suffixes]
    assert len(files) > 250
    long = {str(p.relative_to(ROOT)) for p in files if len(p.read_text().splitlines()) > LINES}
    assert long == set(LONG)


@pytest.mark.parametrize(
    ("name", "source", "want"),
    [
        ("base.shown", "from ..images import files", ["base.shown:1 imports images.files"]),
        ("base.shown", "def f():\n    from .. import registry", ["base.shown:2 imports registry"]),
        ("head.ops", "if TYPE_CHECKING:\n    import liif_fast.models.liif", ["head.ops:2 imports models.liif"]),
        ("models.liif", "from .. import head\nfrom ..head.ops import NAMES\nfrom . import mlp", []),
        ("images.png", "import liif_fast", ["images.png:1 imports liif_fast"]),
        ("base.shown", "if TYPE_CHECKING:\n    pass\nelse:\n    from .. import sizes", ["base.shown:4 imports sizes"]),
    ],
)  # fmt: skip
def test_what_points_up_is_seen(name, source, want):
    assert upward({name: imports(name, source, False, MODULES)}) == want


@pytest.mark.parametrize("late", ["def f():\n    ", "if not TYPE_CHECKING:\n    ", "class A:\n    "])
def test_a_circle_is_seen(late):
    sources = {
        "head.ops": "from . import int8",
        "head.int8": f"{late}from . import kept",
        "head.kept": "from .ops import NAMES",
    }
    found = circles({name: imports(name, source, False, MODULES) for name, source in sources.items()})
    assert found == ["head.int8 -> head.kept -> head.ops -> head.int8"]
