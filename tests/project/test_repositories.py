"""The lines of README and docs/repositories.md that put liif_fast into the official repository's and LTE's programs, in
files with Windows' line ends. tools/check_repositories.sh runs the programs themselves."""

from __future__ import annotations

import os
import subprocess
import sys

import doc_blocks
import pytest

ROOT = doc_blocks.ROOT
# as their packages of models are used: a table of names, to which a decorator adds
INIT = "from .table import register, make\nfrom . import own\n"
TABLE = """
known = {}

def register(name):
    def add(made):
        known[name] = made
        return made
    return add

def make(spec, args=None, load_sd=False):
    return known[spec['name']](**{**spec['args'], **(args or {})})
"""
OWN = """
from .table import register
for name in ('liif', 'lte', 'lte-fast'):
    register(name)(dict)
"""
ENCODER = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
MLP = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}}
ARGUMENTS = {"liif": {"imnet_spec": MLP}, "lte": {"imnet_spec": MLP, "hidden_dim": 16}, "lte-fast": {"hidden_dim": 16}}
SCRIPT = """
import models
for name, args in {arguments}.items():
    spec = {{'name': name, 'args': {{'encoder_spec': {encoder}, **args}}}}
    print(name, type(models.make(spec)).__module__)
"""


@pytest.fixture(params=["\n", "\r\n"], ids=["LF", "CRLF"])
def clone(tmp_path, request):
    (tmp_path / "models").mkdir()
    script = SCRIPT.format(arguments=ARGUMENTS, encoder=ENCODER)
    for name, text in {"models/__init__": INIT, "models/table": TABLE, "models/own": OWN, "train_liif": script}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8", newline=request.param)
    return tmp_path


def run(folder, *command, **options) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines() -> list[str]:
    blocks = doc_blocks.blocks(ROOT / "docs" / "repositories.md", "sh")
    return [block.code.strip() for block in blocks if block.code.startswith("python -c")]


def test_the_page_has_a_line_for_each_repository():
    assert len(lines()) == 2


@pytest.mark.parametrize(("which", "names"), [(0, {"liif"}), (1, {"liif", "lte", "lte-fast"})], ids=["official", "LTE"])
def test_one_line_replaces_the_models(clone, which, names):
    before = run(clone, sys.executable, "train_liif.py")
    assert "liif_fast" not in before
    run(clone, "bash", "-c", lines()[which].replace("python", f"'{sys.executable}'", 1))
    made = dict(line.split() for line in run(clone, sys.executable, "train_liif.py").splitlines())
    assert {name for name, module in made.items() if module.startswith("liif_fast.models.")} == names


def test_at_the_top_of_the_training_script(clone):
    (block,) = (b for b in doc_blocks.blocks(ROOT / "README.md", "python") if "models.register" in b.code)
    path = clone / "train_liif.py"
    path.write_bytes(block.code.encode() + path.read_bytes())
    assert "liif liif_fast.models.liif" in run(clone, sys.executable, "train_liif.py").splitlines()
