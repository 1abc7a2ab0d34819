"""Every code block of README and the documentation runs, in a folder with small pictures; what cannot run there names
the test or the script that runs the same."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import doc_blocks
import doc_folder
import pytest

from liif_fast.cli import arguments
from liif_fast.cli import main as cli

ROOT = doc_blocks.ROOT
PAGES = [page for page in doc_blocks.pages() if doc_blocks.blocks(page)]
NAMES = {str(page.relative_to(ROOT)): page for page in PAGES}
SMALLER = {"1080p": "32p", "4k": "40x"}  # screens, for pictures of a few pixels
CHECKED, NOT_RUN = re.compile(r"checked by (\S+)"), re.compile(r"not run: (.+)")


@pytest.fixture
def folder(tmp_path, monkeypatch, request) -> Path:
    """What the page's reader has; the official weights if they are here."""
    data = os.environ.get("LIIF_FAST_DATA")
    weights = Path(data) / "weights" / "edsr-baseline-liif.pth" if data else None
    made = doc_folder.build(tmp_path, weights)
    monkeypatch.chdir(made)
    monkeypatch.setenv("LIIF_FAST_CACHE", str(made / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return made


def runs(block: doc_blocks.Block) -> bool:
    """Whether a block is to be run here; else it must say what runs it, or why nothing can."""
    if not block.note:
        return True
    if found := CHECKED.fullmatch(block.note):
        assert (ROOT / found[1]).is_file(), f"{block.page.name}:{block.line}: there is no {found[1]}"
        return False
    assert NOT_RUN.fullmatch(block.note), f"{block.page.name}:{block.line}: block: {block.note}"
    return False


def commands(code: str) -> list[tuple[str, str]]:
    """The commands of a shell block and their comments; lines that end in a backslash go on."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        command, _, comment = line.partition(" # ")
        if command.strip() and not command.startswith("#"):
            found.append((command.strip(), comment.strip()))
    return found


def run_command(command: str, comment: str) -> None:
    expected = 1 if "exit code 1" in comment else 0
    words = [SMALLER.get(word, word) for word in shlex.split(command)]
    if words[0] == "liif-fast" and not set(words) & {"<", ">", "|", "&&"}:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = cli.main(words[1:])
            except SystemExit as stop:
                code = stop.code or 0
        assert code == expected, f"{command}: exit code {code}\n{said.getvalue()}"
    elif words[0] == "liif-fast":
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
        assert done.returncode == expected, f"{command}: exit code {done.returncode}\n{done.stderr}"
    else:
        checked(words, command)


def checked(words: list[str], command: str) -> None:
    """What sets up a machine is not done again here: make and pip, whose targets and extras must be there."""
    known = metadata.metadata("liif-fast").get_all("Provides-Extra") or []
    while words and re.fullmatch(r"\w+=\S*", words[0]):
        words = words[1:]
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1]}:", makefile, re.M), command
    elif words[:2] == ["pip", "install"]:
        for word in words[2:]:
            if extras := re.search(r"\.\[([\w,]+)\]$", word):
                assert set(extras[1].split(",")) <= set(known), command
            else:
                assert word in (".", "torch", "wheel", "--no-build-isolation") or word.startswith("setuptools"), command
    elif words[0] in ("python", "python3"):
        assert (ROOT / words[1]).exists(), command
    else:
        pytest.fail(f"{command}: what runs this? <!-- block: checked by PATH --> above the block says so")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_a_page_runs(name, folder, monkeypatch, data_dir):
    """In their order: what a page's commands write its later ones read."""
    page, namespace = NAMES[name], {"__name__": "page", "frames": doc_folder.frames()}
    for block in doc_blocks.blocks(page):
        if block.language in ("yaml", "text", "toml", "json"):
            named = doc_folder.file_named(block.before)
            if named and block.language == "yaml":
                Path(named).write_text(doc_folder.smaller(block.code), encoding="utf-8")
        elif not runs(block):
            continue
        elif block.language == "python":
            # beginning at its own line, which a traceback then shows
            source = "\n" * (block.line - 1) + block.code
            exec(compile(source, str(page), "exec"), namespace)
        else:
            assert block.language == "sh", f"{name}:{block.line}: a block of '{block.language}': what is it?"
            if "clip.mp4" in block.code and not Path("clip.mp4").exists():
                doc_folder.clip(Path("clip.mp4"))
            for command, comment in commands(block.code):
                run_command(command, comment)


def options(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    """The options of every command."""
    (sub,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: set(p._option_string_actions) for name, p in sub.choices.items()}


@pytest.mark.parametrize("name", {str(p.relative_to(ROOT)): p for p in doc_blocks.pages()})
def test_commands_and_files_in_the_text_are_there(name):
    """Of ``liif-fast COMMAND --option`` in a sentence, and of paths of this repository, spelling is looked at."""
    text = (ROOT / name).read_text(encoding="utf-8")
    known = options(arguments.parser())
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
        words = code.split()
        if words[0] == "liif-fast":
            command = words[1] if len(words) > 1 and words[1] in known else "upscale"
            wrong = {word for word in words[1:] if word.startswith("--")} - known[command] - {"--version"}
            assert not wrong, f"{name}: {code}: {wrong}"
        for word in words:
            if re.fullmatch(r"(liif_fast|benchmarks|tools|tests|examples|configs|csrc|integrations)/[\w/.-]+\w", word):
                assert list(ROOT.glob(word)) or list(ROOT.glob(word + "*")), f"{name}: there is no {word}"


def test_links_between_pages_lead_somewhere():
    """README's, which Sphinx does not see; those of the documentation it checks itself."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
