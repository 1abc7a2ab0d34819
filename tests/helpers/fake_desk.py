"""What draws views, without a model: bicubic by Pillow for every method, and a worker that a test can hold."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

from PIL import Image

from liif_fast.cli import view
from liif_fast.viewing import work
from liif_fast.viewing.view import View, ViewError, extent, least_scale


class Desk:
    """The interface of ``viewing.desk.Desk``.

    Attributes:
        hold: while it is clear, ``tile`` waits in the worker's thread, without pauses; ``psnr`` and ``save`` pause.
        drawn: what was begun, in order. gone: how many psnr and saves were cancelled.
    """

    def __init__(self, photos, models=(), truths=(), **options) -> None:
        self.photos, self.truths, self.options = list(map(Path, photos)), list(map(Path, truths)), options
        self.shown = list(models)
        self.hold, self.begun = threading.Event(), threading.Event()
        self.hold.set()
        self.drawn: list[View | str] = []
        self.gone = 0
        self._read = {0: Image.open(self.photos[0]).convert("RGBA")}

    def state(self) -> dict:
        methods = [("bicubic", "bicubic"), ("nearest", "nearest"), *((shown.name, "model") for shown in self.shown)]
        methods += [("truth", "truth")] if self.truths else []
        return {
            "photos": [{"name": path.name} for path in self.photos],
            "methods": [{"name": name, "kind": kind} for name, kind in methods],
            "tile": 512,
            "scale": 1024,
        }

    def begin(self) -> None:
        self.drawn.append("begin")

    def check(self, view: View, size: tuple[int, int] | None = None) -> None:
        image = self._image(view.photo)
        if view.method >= len(self.state()["methods"]):
            raise ViewError(f"method={view.method}: no such method")
        if view.scale < least_scale(image.size):
            raise ViewError(f"scale={view.scale}: is too small")
        columns, rows = (extent(n, view.scale) for n in image.size)
        if view.x + view.width > columns or view.y + view.height > rows:
            raise ViewError(f"x={view.x}, y={view.y}: the photo ends at {columns} x {rows}")

    def photo(self, photo: int) -> dict:
        self.drawn.append(f"photo {photo}")
        image = self._image(photo)
        return {"width": image.width, "height": image.height, "notes": [], "truth": None}

    def photo_at_once(self, photo: int) -> dict | None:
        return None

    def tile_at_once(self, view: View) -> bytes | None:
        return None

    def tile(self, view: View) -> bytes:
        self.drawn.append(view)
        self.begun.set()
        self.hold.wait(30)
        return self._draw(view, (view.height, view.width)).tobytes()

    def psnr(self, view: View, pause: work.Pause) -> float:
        if not self.truths:
            raise ViewError("no truth was given")
        self.drawn.append("psnr")
        self._wait(pause)
        return 31.5 if view.method else float("inf")

    def save(self, view: View, size: tuple[int, int], pause: work.Pause) -> bytes:
        self.drawn.append("save")
        self._wait(pause)
        file = io.BytesIO()
        self._draw(view, size).save(file, "png", compress_level=0)
        return file.getvalue()

    def command(self, view: View, size: tuple[int, int]) -> str:
        if self.state()["methods"][view.method]["kind"] != "model":
            raise ViewError(f"method={view.method}: no model")
        return f"liif-fast upscale {self.photos[view.photo].name} --size {size[1]}x{size[0]}"

    def _wait(self, pause: work.Pause) -> None:
        self.begun.set()
        end = time.monotonic() + 30
        try:
            pause()
            while not self.hold.wait(0.005) and time.monotonic() < end:
                pause()
        except work.Cancelled:
            self.gone += 1
            raise

    def _image(self, photo: int) -> Image.Image:
        if photo >= len(self.photos):
            raise ViewError(f"photo={photo}: there are {len(self.photos)}")
        if photo not in self._read:
            self._read[photo] = Image.open(self.photos[photo]).convert("RGBA")
        return self._read[photo]

    def _draw(self, view: View, size: tuple[int, int]) -> Image.Image:
        image = self._image(view.photo)
        top, left, height, width = view.window()
        box = (left, top, min(left + width, image.width), min(top + height, image.height))
        return image.resize(size[::-1], Image.Resampling.BICUBIC, box=box)


def install() -> None:
    """The command takes this desk from now on."""
    view.Desk = Desk
