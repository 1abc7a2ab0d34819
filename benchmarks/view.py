"""The page of ``liif-fast view`` in a real Chromium: how long until it is sharp, what panning costs, what idling costs.

    python benchmarks/view.py                              # int8; a photo of 512x384, a canvas of 1024x768
    python benchmarks/view.py --dtype bfloat16 --json rows.jsonl

Needs Chromium and playwright (the extra ``test``). Each start is a new process of the command; the files that it reads
are in the system's cache. "sharp": every tile that is seen is on the canvas and has faded in, with the page's own waits
(60 ms after the last turn of the wheel, 80 ms of fading). With both sides set to the model the whole canvas is LIIF's.
Before anything is printed the canvas is compared with what ``model.upscale`` makes of that window.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import heads
import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from rows import about, append

import liif_fast
from liif_fast.sizes import checked_window

PHOTO, CANVAS = (512, 384), (1024, 768)  # (width, height)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-sandbox")  # fmt: skip
MODEL = 2  # its place among the methods, behind bicubic and nearest
TOLERANCE = 1 / 255  # mean difference of the canvas from upscale's pixels


def photo(file: Path) -> None:
    """Of Set14 one that is large enough, cut, where there are data; else a synthetic one."""
    given = Path(os.environ.get("LIIF_FAST_DATA", ""), "benchmark", "Set14", "HR", "pepper.png")
    if given.is_file():
        image = Image.open(given).convert("RGB").crop((0, 64, PHOTO[0], 64 + PHOTO[1]))
    else:
        pixels = (heads.photo(*PHOTO[::-1])[0] * 255).byte().permute(1, 2, 0).numpy()
        image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(file)


@contextlib.contextmanager
def command(file: Path, dtype: str) -> Iterator[tuple[subprocess.Popen, str, float]]:
    """The process, the address that it says, and when it began."""
    words = [sys.executable, "-m", "liif_fast", "view", str(file), "--no-browser", "--dtype", dtype, "--device", "cpu"]
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip(), began
    finally:
        process.terminate()
        process.wait()


def until_drawn(file: Path, dtype: str) -> tuple[float, float]:
    """Seconds from the process's start until it says its address, and until a whole view has been sent, without a
    browser: the twelve tiles of the canvas, asked for at once."""
    with command(file, dtype) as (_, address, began), ThreadPoolExecutor(12) as pool:
        ready = time.perf_counter() - began
        places = [(x, y) for y in range(0, CANVAS[1], 256) for x in range(0, CANVAS[0], 256)]

        def asked(place: tuple[int, int]) -> int:
            query = {"photo": 0, "method": MODEL, "scale": 2, "x": place[0], "y": place[1], "width": 256, "height": 256}
            url = f"{address.rstrip('/')}/tile?{urllib.parse.urlencode(query)}"
            return len(urllib.request.urlopen(url).read())

        assert sum(pool.map(asked, places)) == CANVAS[0] * CANVAS[1] * 4
        return ready, time.perf_counter() - began


class Looking:
    """A page with a canvas of CANVAS."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        page.set_viewport_size({"width": CANVAS[0], "height": CANVAS[1] + 400})
        page.goto(address)
        page.evaluate("liifView.settled()")

    def fit(self) -> None:
        """The window's size with which the canvas is as wanted."""
        for _ in range(3):
            canvas = self.page.evaluate("liifView.state().canvas")
            now = self.page.viewport_size or {}
            size = {
                side: now[side] + want - canvas[side] for side, want in zip(("width", "height"), CANVAS, strict=True)
            }
            self.page.set_viewport_size(size)  # type: ignore[arg-type]  # a dict of these two
            self.page.wait_for_timeout(100)
        canvas = self.page.evaluate("liifView.state().canvas")
        assert (canvas["width"], canvas["height"]) == CANVAS, canvas

    def models(self) -> None:
        """On both sides, without the strip."""
        for side in ("#left", "#right"):
            self.page.select_option(side, str(MODEL))
        self.page.evaluate("document.activeElement.blur()")
        if self.page.evaluate("!document.querySelector('#strip').hidden"):
            self.page.keyboard.press("s")
        self.settle()

    def settle(self) -> None:
        self.page.evaluate("liifView.settled()")

    def asked(self) -> int:
        """Pixels of the model's that were asked for since the record of that was cleared."""
        names = self.page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
        queries = [
            dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(name).query)) for name in names if "/tile?" in name
        ]
        return sum(int(q["width"]) * int(q["height"]) for q in queries if q["method"] == str(MODEL))

    def zoomed(self, x: int, y: int, turns: int, way: int) -> tuple[float, float]:
        """Seconds from the last turn of the wheel until the first tile of the model's came, and until all is sharp."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        self.page.evaluate(
            """performance.clearResourceTimings(); performance.setResourceTimingBufferSize(5000);
               addEventListener("wheel", () => window.turned = performance.now(), {capture: true, passive: true})"""
        )
        self.page.mouse.move(box["x"] + x, box["y"] + y)
        for _ in range(turns):
            self.page.mouse.wheel(0, -120 * way)
        sharp = self.page.evaluate("liifView.settled().then(() => performance.now() - turned)")
        came = self.page.evaluate(
            f"""performance.getEntriesByType("resource").filter(e => e.name.includes("method={MODEL}&"))
                .map(e => e.responseEnd - turned).filter(t => t > 0)"""
        )
        return min(came) / 1e3, sharp / 1e3

    def difference(self, model: liif_fast.LIIF, file: Path, dtype: torch.dtype) -> float:
        """Of the canvas from upscale's pixels of the same window, mean, in [0, 1]."""
        state = self.page.evaluate("liifView.state()")
        seen, scale = state["visible"], state["scale"]
        window = checked_window([seen[k] / scale for k in ("y", "x", "height", "width")])
        want = model.upscale(Image.open(file), size=(seen["height"], seen["width"]), window=window, dtype=dtype)
        for element in ("left-name", "right-name", "divider"):
            self.page.evaluate(f"document.getElementById('{element}').style.visibility = 'hidden'")
        shot = Image.open(io.BytesIO(self.page.locator("#canvas").screenshot())).convert("RGB")
        top, left = seen["y"] - state["y"], seen["x"] - state["x"]
        got = np.asarray(shot)[top : top + seen["height"], left : left + seen["width"]]
        return float(np.abs(got.astype(float) - np.asarray(want)).mean() / 255)


def seconds_of(pids: list[int]) -> float:
    """Processor time so far."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text(encoding="utf-8").split():
                found += children(int(child))
    return found


def measured(args: argparse.Namespace, file: Path) -> dict[str, float]:
    model, dtype = liif_fast.load("edsr-baseline-liif"), getattr(torch, args.dtype)
    found: dict[str, float] = {}
    starts = [until_drawn(file, args.dtype) for _ in range(args.starts)]
    found["address"], found["first_view_sent"] = (statistics.median(each) for each in zip(*starts, strict=True))
    path = os.environ.get("LIIF_FAST_BROWSER") or next(filter(None, map(shutil.which, CHROMIUM)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        firsts = []
        for _ in range(args.starts):
            page = browser.new_page()
            with command(file, args.dtype) as (_, address, began):
                Looking(page, address)
                firsts.append(time.perf_counter() - began)
            page.close()
        found["first_page_sharp"] = statistics.median(firsts)
        page = browser.new_page()
        with command(file, args.dtype) as (server, address, _):
            looking = Looking(page, address)
            looking.models()
            looking.fit()
            looking.settle()
            worst, views = 0.0, []
            for x, y, turns, way in ((500, 400, 5, 1), (300, 300, 5, 1), (700, 500, 8, 1), (200, 600, 12, 1),
                                     (512, 384, 9, -1), (100, 100, 7, -1)):  # fmt: skip
                views.append(looking.zoomed(x, y, turns, way))
                worst = max(worst, looking.difference(model, file, dtype))
            assert worst <= TOLERANCE, f"the canvas differs by {worst * 255:.2f} of 255 from upscale's pixels"
            found["difference"] = worst
            found["first_tile"], found["view_sharp"] = (statistics.median(each) for each in zip(*views, strict=True))
            found["slowest_first_tile"], found["slowest_view"] = (max(each) for each in zip(*views, strict=True))
            page.keyboard.press("0")
            looking.zoomed(512, 384, 6, 1)
            page.evaluate("performance.clearResourceTimings()")
            page.keyboard.press("Shift+ArrowRight")
            looking.settle()
            found["pan_by_half"] = looking.asked() / (CANVAS[0] * CANVAS[1])
            page.wait_for_timeout(2000)
            idle = server.pid, os.getpid()
            before_idle = [seconds_of(children(pid)) for pid in idle]
            time.sleep(args.idle)
            now = [seconds_of(children(pid)) for pid in idle]
            both = [(b - a) / args.idle for a, b in zip(before_idle, now, strict=True)]
            found["idle_server"], found["idle_browser"] = both[0], both[1] - both[0]
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--idle", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a row")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "photo.png")
        photo(file)
        found = measured(args, file)
    for name, value in found.items():
        print(f"{name:20} {value:.4f}")
    if args.json:
        append(args.json, [{**about(torch.device("cpu")), "case": "view", "dtype": args.dtype, **found}])


if __name__ == "__main__":
    main()
