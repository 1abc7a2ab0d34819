"""What tools/check_repositories.sh does once the packages are there: each program as it is and with the ``fast.py`` of
docs/repositories.md, the figures that it prints and the files that it writes compared.

The programs run unchanged, from files as they are (CR LF too). Python's own hook ``sitecustomize`` takes ``.cuda()``
away, starts random numbers from a seed, and loads data in one process or few, for both alike.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
FIRST = 1e-5  # relative, of the loss before any update: sums made in another order
STEPS = 1e-3  # relative, of losses after it: Adam makes a full step of a gradient near 0, also where that is rounding
PSNR = 5e-3  # dB, of two models trained so
PRINTED = 2.1e-4  # dB, of one model: two steps of the last of four decimals
LEVELS = 1  # of 255, in the demo's picture: a colour between two levels may go to either
HOOK = """
import random
try:
    import numpy, torch
except ImportError:
    pass
else:
    try:
        import torchvision
    except RuntimeError:  # a wheel for CUDA beside a torch for CPUs: its operators are not needed here
        import sys
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    import os
    from torch.utils import data
    workers = int(os.environ.get("CHECK_WORKERS", "0"))
    if workers:  # begun as on macOS and Windows
        torch.multiprocessing.set_start_method("spawn", force=True)
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *a, **k: self
    made = data.DataLoader.__init__
    ours = {"num_workers": workers, "pin_memory": False}
    data.DataLoader.__init__ = lambda self, *a, **k: made(self, *a, **{**k, **ours})
    loss = torch.nn.L1Loss.forward

    def said(self, *a):
        value = loss(self, *a)
        print(f"step {value.item():.9g}")
        return value

    torch.nn.L1Loss.forward = said
    torch.manual_seed(0), random.seed(0), numpy.random.seed(0)
"""


def pictures(folder: Path) -> None:
    """Something to train on, and a Set5 of one picture."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :240]
    for i in range(4):
        waves = np.stack([np.sin(x / (3 + i)), np.cos(y / 7 + i), np.sin((x + y) / (9 + i))], -1)
        image = Image.fromarray((128 + 90 * waves + rng.normal(0, 6, waves.shape)).clip(0, 255).astype(np.uint8))
        (folder / "load" / "some").mkdir(parents=True, exist_ok=True)
        image.save(folder / "load" / "some" / f"{i}.png")
    for scale in (2, 3, 4, 6, 8):
        hr = folder / "load/benchmark/Set5/HR"
        lr = folder / f"load/benchmark/Set5/LR_bicubic/X{scale}"
        hr.mkdir(parents=True, exist_ok=True), lr.mkdir(parents=True)
        image.crop((0, 0, 96, 72)).save(hr / "one.png")
        image.crop((0, 0, 96, 72)).resize((96 // scale, 72 // scale), Image.Resampling.BICUBIC).save(
            lr / f"onex{scale}.png"
        )
    image.crop((0, 0, 41, 30)).save(folder / "input.png")


def smaller(folder: Path, name: str) -> str:
    """One of their training files with our pictures, and little of everything."""
    config = yaml.safe_load((folder / "configs" / "train-div2k" / name).read_text(encoding="utf-8"))
    for key, repeat in (("train_dataset", 2), ("val_dataset", 1)):
        config[key]["dataset"]["args"] |= {"root_path": "./load/some", "repeat": repeat, "cache": "in_memory"}
        config[key]["wrapper"]["args"] |= {"inp_size": 24} | (
            {"sample_q": 288} if "sample_q" in config[key]["wrapper"]["args"] else {}
        )
        config[key]["batch_size"] = 2
    config |= {"epoch_max": 2, "epoch_val": 1}
    made = f"small_{name}"
    (folder / made).write_text(yaml.safe_dump(config), encoding="utf-8")
    return made


class Repository:
    """A clean copy. ``fast``: with ``fast.py``."""

    def __init__(self, source: Path, target: Path, packages: Path, hook: Path, fast: bool) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".git"))
        pictures(target)
        self.folder, self.before = target, ["fast.py"] if fast else []
        if fast:
            page = (ROOT / "docs" / "repositories.md").read_text(encoding="utf-8")
            code = re.search(r"^```python\n(import runpy\n.*?)^```$", page, re.M | re.S)
            assert code, "docs/repositories.md has no fast.py"
            (target / "fast.py").write_text(code[1], encoding="utf-8")
        path = os.pathsep.join(map(str, (hook, ROOT, packages)))
        self.environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}

    def run(self, *words: str, workers: int = 0) -> str:
        """``workers``: of theirs that load data, begun as macOS and Windows do; 0: none, which is quicker."""
        return self._said([sys.executable, *self.before, *words], workers=workers)

    def script(self, name: str, *words: str) -> str:
        """By bash, as the page has it."""
        text = (self.folder / "scripts" / name).read_text(encoding="utf-8")
        text = text.replace("python test.py", " ".join([sys.executable, *self.before, "test.py"]))
        # of the benchmarks, the one that is here
        text = text.split("echo 'set14'")[0] + "\ntrue\n"
        return self._said(["bash", "-s", *words], text)

    def _said(self, command: list[str], text: str | None = None, workers: int = 0) -> str:
        environment = {**self.environment, "CHECK_WORKERS": str(workers)}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, input=text)
        if done.returncode:
            sys.exit(f"{self.folder}: {' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def model(self, checkpoint: Path) -> str:
        """The module of the class that the program builds."""
        lines = (
            "import sys, torch, models; spec = torch.load(sys.argv[1])['model']; print(models.make(spec).__module__)"
        )
        (self.folder / "what.py").write_text(lines, encoding="utf-8")
        return self.run("what.py", str(checkpoint)).split()[-1]


def figures(said: str) -> list[float]:
    """The PSNR that a program prints."""
    return [float(x) for x in re.findall(r"(?:psnr=|result: )(-?[\d.]+)", said)]


def same(what: str, plain: str, fast: str, within: float = PRINTED) -> None:
    a, b = figures(plain), figures(fast)
    assert a, f"{what}: no figure in {plain}"
    assert len(a) == len(b), f"{what}: {plain}\n{fast}"
    off = max(abs(x - y) for x, y in zip(a, b, strict=True))
    print(f"{what}: PSNR {a}, with liif_fast {b}: {off:.1e} dB apart")
    assert off <= within, what


def same_steps(what: str, plain: str, fast: str) -> None:
    a, b = ([float(x) for x in re.findall(r"^step (\S+)$", said, re.M)] for said in (plain, fast))
    assert a, f"{what}: no loss in {plain}"
    off = [abs(x - y) / x for x, y in zip(a, b, strict=True)]
    print(f"{what}: losses {a[0]:.6f} ... {a[-1]:.6f}, apart by {off[0]:.1e}, in {len(a)} steps at most {max(off):.1e}")
    assert off[0] <= FIRST, what
    assert max(off) <= STEPS, what


def same_keys(what: str, a: Path, b: Path) -> None:
    x, y = (torch.load(path)["model"]["sd"] for path in (a, b))
    assert {k: v.shape for k, v in x.items()} == {k: v.shape for k, v in y.items()}, f"{what}: other keys or shapes"
    off = max(float((x[k].double() - y[k].double()).abs().max()) for k in x)
    print(f"{what}: {len(x)} keys, the same; weights {off:.1e} apart")


def same_picture(what: str, a: Path, b: Path) -> None:
    x, y = (np.asarray(Image.open(path)).astype(int) for path in (a, b))
    off = np.abs(x - y)
    print(f"{what}: {x.shape}, {off.max()} of 255 apart, in {(off > 0).mean():.1e} of the values")
    assert off.max() <= LEVELS, what


def check(name: str, source: Path, folder: Path, hook: Path, trains: str, configs: list[str], weights: Path) -> None:
    packages = folder / "packages"
    plain, fast = (
        Repository(source, folder / f"{name}_{kind}", packages, hook, kind == "fast") for kind in ("plain", "fast")
    )
    tested = [("official weights", weights)]
    for config in configs:
        made = smaller(plain.folder, config)
        smaller(fast.folder, config)
        said = [r.run(trains, "--config", made, "--name", made[:-5]) for r in (plain, fast)]
        same_steps(f"{name} {trains} {config}", *said)
        same(f"{name} {trains} {config}", *said, within=PSNR)
        files = [r.folder / "save" / made[:-5] / "epoch-last.pth" for r in (plain, fast)]
        same_keys(f"{name} {config}", *files)
        tested += [(f"{config} trained as it is", files[0]), (f"{config} trained with liif_fast", files[1])]
    words = ["--config", f"small_{configs[0]}", "--name", "workers"]
    same_steps(f"{name} {trains}, with workers", *(r.run(trains, *words, workers=2) for r in (plain, fast)))
    for what, file in tested:
        assert plain.model(file).startswith("models."), what
        assert fast.model(file).startswith("liif_fast."), what
        rows = "lte-fast" in what
        words = ["test.py", "--model", str(file), "--config"]
        words += ["configs/test/test-fast-set5-4.yaml", "--fast", "True"] if rows else ["configs/test/test-set5-4.yaml"]
        same(f"{name} test.py, {what}", plain.run(*words), fast.run(*words))
        if not rows:  # LTE+ is no model of demo.py's rows of queries
            size = ["--scale", "5"] if name == "lte" else ["--resolution", "107,150"]
            for r in (plain, fast):
                r.run("demo.py", "--input", "input.png", "--model", str(file), *size, "--output", "output.png")
            same_picture(f"{name} demo.py, {what}", plain.folder / "output.png", fast.folder / "output.png")
    same(
        f"{name} scripts/test-benchmark.sh", *(r.script("test-benchmark.sh", str(weights), "0") for r in (plain, fast))
    )


def main() -> None:
    liif, lte, folder = map(Path, sys.argv[1:])
    weights = Path(os.environ["LIIF_FAST_DATA"]) / "weights" / "edsr-baseline-liif.pth"
    hook = folder / "hook"
    hook.mkdir(parents=True, exist_ok=True)
    (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    check("liif", liif, folder, hook, "train_liif.py", ["train_edsr-baseline-liif.yaml"], weights)
    names = ["train_edsr-baseline-liif.yaml", "train_edsr-baseline-lte.yaml", "train_edsr-baseline-lte-fast.yaml"]
    check("lte", lte, folder, hook, "train.py", names, weights)
    print("all agree")


if __name__ == "__main__":
    main()
