"""What docs/repositories.md tells people to type works in a repository of the official one's form, CR LF included. The
stand-in is our own; tools/check_repositories.sh does it in the real ones."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import doc_blocks
import pytest

PAGE = doc_blocks.ROOT / "docs" / "repositories.md"
REGISTRY = """
models = {}

def register(name):
    def decorator(cls):
        models[name] = cls
        return cls
    return decorator

def make(spec):
    return models[spec["name"]](**spec["args"])
"""
# no line end at the end, as some of theirs
PACKAGE = """from .models import register, make
from . import plain"""
PLAIN = """import torch
from .models import register

@register("my-encoder")
class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out_dim = 3

    def forward(self, x):
        return x

for name in ("liif", "lte", "lte-fast"):
    register(name)(type("Plain", (), {}))
"""
# their programs have helpers in modules that are called as ones of Python itself
HELPERS = """def said(model):
    print(model, "made by", __name__)
"""
PROGRAM = """import argparse

import models
from test import said

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder")
    args = parser.parse_args()
    said(models.models.models["liif"].__module__)
    if args.encoder:
        spec = {"encoder_spec": {"name": args.encoder, "args": {}}, "imnet_spec": None}
        said(type(models.make({"name": "liif", "args": spec}).encoder).__module__)"""
FILES = {
    "models/__init__.py": PACKAGE,
    "models/models.py": REGISTRY,
    "models/plain.py": PLAIN,
    "test.py": HELPERS,
    "train_liif.py": PROGRAM,
}
FAST = "liif_fast.models.liif made by test"


@pytest.fixture
def repository(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode())
    return tmp_path


def run(repository: Path, *words: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(doc_blocks.ROOT)}
    done = subprocess.run([sys.executable, *words], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def block(language: str, sign: str) -> str:
    """The page's one block with ``sign`` in it."""
    (found,) = (b for b in doc_blocks.blocks(PAGE, language) if sign in b.code)
    return found.code


def test_a_program_beside_theirs_changes_no_file(repository):
    before = {name: (repository / name).read_bytes() for name in FILES}
    (repository / "fast.py").write_text(block("python", "runpy"), encoding="utf-8")

    said = run(repository, "fast.py", "train_liif.py", "--encoder", "my-encoder")

    assert said == [FAST, "models.plain made by test"]  # the encoder is the repository's own
    assert before == {name: (repository / name).read_bytes() for name in FILES}


def test_the_command_adds_to_a_file_with_cr_lf(repository):
    assert run(repository, "train_liif.py") == ["models.plain made by test"]  # the stand-in's own model
    python, *words = shlex.split(block("sh", "models/__init__.py"))
    assert python == "python"

    run(repository, *words)

    assert run(repository, "train_liif.py") == [FAST]


def test_a_line_at_the_top_of_a_file_with_cr_lf(repository):
    line = 'import models, liif_fast; models.register("liif")(liif_fast.LIIF)'
    assert f"`{line}`" in PAGE.read_text(encoding="utf-8")
    program = repository / "train_liif.py"
    program.write_bytes(line.encode() + b"\n" + program.read_bytes())

    assert run(repository, "train_liif.py") == [FAST]


def test_readmes_lines_at_the_top(repository):
    (found,) = (b for b in doc_blocks.blocks(doc_blocks.ROOT / "README.md", "python") if "models.register" in b.code)
    program = repository / "train_liif.py"
    program.write_bytes(found.code.encode() + program.read_bytes())

    assert run(repository, "train_liif.py") == [FAST]


def test_a_name_of_both_is_this_packages(repository):
    """The page warns of it: a changed encoder of theirs wants another name."""
    plain = repository / "models" / "plain.py"
    plain.write_bytes(plain.read_bytes().replace(b'"my-encoder"', b'"edsr-baseline"'))
    (repository / "fast.py").write_text(block("python", "runpy"), encoding="utf-8")

    said = run(repository, "fast.py", "train_liif.py", "--encoder", "edsr-baseline")

    assert said == [FAST, "liif_fast.models.encoders.edsr made by test"]
