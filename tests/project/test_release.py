"""What a release is made of: the description on an index, the sdist, the steps before the upload."""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TODAY = datetime.date(2026, 11, 28)
LIBRARY = ROOT / "liif_fast" / "_C.abi3.so"
GIT = (ROOT / ".git").exists() and shutil.which("git") is not None


@pytest.fixture
def tools(monkeypatch):
    """The modules of tools/building and tools/release."""
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "release"))
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import check
    import release
    from building import readme

    yield {"check": check, "release": release, "readme": readme}
    for name in ("check", "release"):  # names that others may have
        del sys.modules[name]


AT = ("https://example.org/us/liif_fast", "v1.2.3")


@pytest.mark.parametrize(
    ("text", "alone", "with_repository"),
    [
        ("a ![b](c.png) d", "a  d", "a ![b](https://example.org/us/liif_fast/raw/v1.2.3/c.png) d"),
        (
            "a [b `x`](docs/c.md#d) e",
            "a b `x` e",
            "a [b `x`](https://example.org/us/liif_fast/blob/v1.2.3/docs/c.md#d) e",
        ),
        ("[here](#there)", "here", "here"),
        ("[![b](./c.png)](d)", "", None),
        ('<img src="c.png" width="9">', "", '<img src="https://example.org/us/liif_fast/raw/v1.2.3/c.png" width="9">'),
        ('<a href="d.md">b</a>', "b", '<a href="https://example.org/us/liif_fast/blob/v1.2.3/d.md">b</a>'),
        ("one\n\n![b](c.png)\n\ntwo", "one\n\ntwo", None),
        ("[b](https://c.org/d) ![e](https://c.org/e.png)", None, None),
        ("`[b](c)` and\n```sh\n[b](c)\n\n\n\n![d](e)\n```\n", None, None),
        ("    `a` [b](c)", "    `a` b", None),
    ],
)
def test_no_relative_address_in_the_description(tools, text, alone, with_repository):
    """Pictures go and links are their text, or both are addresses; in code nothing is touched."""
    for_an_index = tools["readme"].for_an_index
    assert for_an_index(text, None) == (text if alone is None else alone)
    if with_repository is not None:
        assert for_an_index(text, AT) == with_repository


def test_an_address_apart_from_its_link_is_refused(tools):
    with pytest.raises(ValueError, match=r"\[b\]: c.md: write the address into the link"):
        tools["readme"].for_an_index("[a][b]\n\n[b]: c.md\n", None)


def test_our_description(tools):
    text = tools["readme"].long_description(ROOT)
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", text, flags=re.M | re.S)
    assert re.findall(r"\]\((?!https?://)[^)]*\)|(?:src|href)=\"(?!https?://)[^\"]*\"", prose) == []
    assert text.count("```") == (ROOT / "README.md").read_text(encoding="utf-8").count("```")


def test_version_and_changelog_agree(tools):
    version, noted, date = tools["release"].versions(ROOT)
    assert version == noted
    assert datetime.date.fromisoformat(date)


@pytest.mark.skipif(not LIBRARY.exists() or not shutil.which("nm"), reason="no library, or no nm")
def test_what_is_too_new_of_libstdcpp_is_given_to_a_release():
    """What this library takes of a libstdc++ after GCC 8's, a released one has of its own: see link.py."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", LIBRARY], capture_output=True, text=True, check=True)
    symbols = re.findall(r"(\w+)@(GLIBCXX|CXXABI)_([\d.]+)$", listed.stdout, re.M)
    newest = {"GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11)}  # of manylinux_2_28
    new = {name for name, of, version in symbols if tuple(map(int, version.split("."))) > newest[of]}
    given = re.findall(r'HERE\("(\w+)"\)', (ROOT / "tools/release/old_symbols.cpp").read_text(encoding="utf-8"))
    assert new <= set(given)


@pytest.mark.skipif(not GIT, reason="no clone: what belongs into the sdist is not known")
def test_the_sdist_has_all_that_a_clone_has(tmp_path):
    """So that it builds with kernels and passes its own tests."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "setup.py", "-q", "sdist"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (made,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(made) as archive:
        assert files - {name.partition("/")[2] for name in archive.getnames()} == set()


@pytest.fixture
def clone(tmp_path):
    """A small repository that can be released; git(*words) works in it."""

    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *names, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    tmp_path.joinpath("pyproject.toml").write_text('version = "1.2.3"\n')
    tmp_path.joinpath("CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-11-28)\n\n## 1.2.2 (2026-01-01)\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    return tmp_path, git


@pytest.mark.skipif(not shutil.which("git"), reason="there is no git")
def test_what_stands_in_the_way_of_a_release(tools, clone):
    root, git = clone
    problems = tools["release"].problems
    assert problems(root, TODAY) == []
    git("tag", "v1.2.3")
    assert problems(root, TODAY) == []  # begun again after the tag
    (root / "more.txt").touch()
    assert problems(root, TODAY) == ["the tree has changes that are not committed, ?? more.txt first: commit them"]
    git("add", ".")
    git("commit", "-q", "-m", "two")
    taken = "the tag v1.2.3 is another commit: a version is released once, take the next number"
    assert problems(root, TODAY) == [taken]
    git("tag", "-d", "v1.2.3")
    (early,) = problems(root, datetime.date(2026, 11, 27))
    assert "1.2.3 is of 2026-11-28, which is to come" in early
    for text, said in (
        ("## 1.2.2 (2026-11-28)", "CHANGELOG.md begins with 1.2.2, pyproject.toml has 1.2.3: make them one"),
        ("## 1.2.3 (unreleased)", "1.2.3: (YYYY-MM-DD) is wanted after it, not '(unreleased)'"),
        ("nothing", "CHANGELOG.md begins with no version"),
    ):
        (root / "CHANGELOG.md").write_text(text)
        git("commit", "-q", "-a", "-m", text)
        assert said in problems(root, TODAY)[0]


def test_what_is_left_to_a_person(tools, tmp_path):
    (tmp_path / "dist").mkdir()
    project = tmp_path / "pyproject.toml"
    project.write_text("[project.urls]\n")
    left = tools["release"].left
    assert 'Repository = "https://..." is missing' in left(tmp_path, "1.2.3")[0]
    project.write_text('[project.urls]\nRepository = "https://example.org"\n')
    tag, upload = left(tmp_path, "1.2.3")
    assert tag == "git tag -a v1.2.3 -m 'liif_fast 1.2.3' && git push origin v1.2.3"
    assert upload == "python -m twine upload dist/liif_fast-1.2.3.tar.gz dist/liif_fast-1.2.3-*.whl"
    (tmp_path / "dist" / "liif_fast-1.2.3+cu130-cp310-abi3-manylinux_2_28_x86_64.whl").touch()
    assert "pip install 'liif-fast==1.2.3+cu130' --find-links ADDRESS" in left(tmp_path, "1.2.3")[2]


def test_a_release_that_fails_its_checks(tools, tmp_path, monkeypatch):
    check = tools["check"]
    monkeypatch.setattr(check, "ROOT", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-11-28)\n")

    def wheel(name, *files):
        with zipfile.ZipFile(tmp_path / name, "w") as made:
            for file in files:
                made.writestr(file, "")
        return tmp_path / name

    check.check_wheel(wheel("liif_fast-1.2.3-py3-none-any.whl", "liif_fast/__init__.py"))
    for name, file, said in (
        ("liif_fast-1.2.4-py3-none-any.whl", "a.py", "CHANGELOG.md has no 1.2.4"),
        ("liif_fast-1.2.3-py3-none-any.whl", "liif_fast/_C.abi3.so", "has .*_C.abi3.so"),
        ("liif_fast-1.2.3-cp310-abi3-linux_x86_64.whl", "liif_fast/_C.abi3.so", "is not manylinux_2_28"),
        ("liif_fast-1.2.3-cp311-cp311-manylinux_2_28_x86_64.whl", "a.py", "not for every Python"),
        ("liif_fast-1.2.3-cp310-abi3-manylinux_2_28_x86_64.whl", "liif_fast/other.so.1", "has .*other.so.1"),
    ):
        with pytest.raises(SystemExit, match=said):
            check.check_wheel(wheel(name, file))
    with tarfile.open(tmp_path / "liif_fast-1.2.3.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "CHANGELOG.md", "liif_fast-1.2.3/CHANGELOG.md")
    with pytest.raises(SystemExit, match=r"is without \['Makefile', 'README.md', "):
        check.check_sdist(tmp_path / "liif_fast-1.2.3.tar.gz")
