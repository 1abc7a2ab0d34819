"""A release from the first step to the last but one: nothing is uploaded, the commands that are left are printed.

    python tools/release/release.py --look                     # what stands in the way, in a second
    python tools/release/release.py --pythons python3.10 python3.13
    python tools/release/release.py --ci-passed                # .ci/run has passed for this very commit

In order: the tree is clean; the version is one and the same in pyproject.toml, CHANGELOG.md and the tag to come;
.ci/run; wheels (tools/release/wheels.sh, with CUDA too where nvcc is); their checks (tools/release/check.py).
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--look", action="store_true", help="only what is seen at once: tree, version, changelog, tag")
    parser.add_argument("--ci-passed", action="store_true", help="do not run .ci/run again")
    parser.add_argument(
        "--pythons", nargs="+", default=[sys.executable], help="interpreters; each wheel is installed for each of them"
    )
    parser.add_argument("--torch", nargs="+", default=["torch==2.13.0"], help="what is installed there before")
    args = parser.parse_args()

    found = problems(ROOT, datetime.date.today())
    for problem in found:
        print(f"release: {problem}", file=sys.stderr)
    if found:
        return 1
    version = versions(ROOT)[0]
    print(f"release: {version}: the tree is clean, versions and changelog agree")
    if not args.look:
        python = ROOT / "build/release/venv/bin/python"
        if not args.ci_passed:
            step("bash", ".ci/run")
        step("tools/release/wheels.sh")
        if os.environ.get("CUDA_HOME") or shutil.which("nvcc"):
            step("tools/release/wheels.sh", "cuda")
        step(python, "tools/release/check.py", "dist", "--pythons", *args.pythons, "--torch", *args.torch)
    print("release: left to do, by a person:")
    for line in left(ROOT, version):
        print(f"  {line}")
    return 0


def step(*command: object) -> None:
    words = [str(word) for word in command]
    print(f"release: {' '.join(words)}", flush=True)
    done = subprocess.run(words, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"release: {' '.join(words)} ended with {done.returncode}: nothing is released")


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"release: git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def versions(root: Path) -> tuple[str, str, str]:
    """In pyproject.toml, and in the changelog's first heading with its date; "" for what is not there."""
    project = re.search(r'^version = "([^"]+)"', (root / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    heading = re.search(r"^## (\S+)(?: \(([^)]*)\))?", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    return (project[1] if project else "", *((heading[1], heading[2] or "") if heading else ("", "")))


def problems(root: Path, today: datetime.date) -> list[str]:
    """What stands in the way of a release of this tree, each with what to do."""
    found = []
    changed = git(root, "status", "--porcelain").splitlines()
    if changed:
        found.append(f"the tree has changes that are not committed, {changed[0].strip()} first: commit them")
    version, noted, date = versions(root)
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        found.append(f"pyproject.toml: version: 1.2.3 or 1.2.3rc1 is wanted, not '{version}'")
    if noted != version:
        found.append(f"CHANGELOG.md begins with {noted or 'no version'}, pyproject.toml has {version}: make them one")
    try:
        early = datetime.date.fromisoformat(date) > today
    except ValueError:
        found.append(f"CHANGELOG.md: {noted}: (YYYY-MM-DD) is wanted after it, not '({date})'")
    else:
        if early:
            found.append(f"CHANGELOG.md: {noted} is of {date}, which is to come: date it")
    tagged = git(root, "tag", "--list", f"v{version}")
    if tagged and git(root, "rev-list", "-n", "1", tagged) != git(root, "rev-parse", "HEAD"):
        found.append(f"the tag {tagged} is another commit: a version is released once, take the next number")
    return found


def left(root: Path, version: str) -> list[str]:
    """What only a person can do, in order."""
    lines = []
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    if not re.search(r'^Repository = "', project, re.M):
        lines.append(
            'pyproject.toml, [project.urls]: Repository = "https://..." is missing; write it, commit, and begin again: '
            "until then the long description has no pictures"
        )
    lines += [
        f"git tag -a v{version} -m 'liif_fast {version}' && git push origin v{version}",
        f"python -m twine upload dist/liif_fast-{version}.tar.gz dist/liif_fast-{version}-*.whl",
    ]
    for wheel in sorted((root / "dist").glob(f"liif_fast-{version}+cu*.whl")):
        lines.append(
            f"dist/{wheel.name}: to a page or folder of your own, as indexes for all take no +cu; people install it by "
            f"pip install 'liif-fast=={wheel.name.split('-')[1]}' --find-links ADDRESS"
        )
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
