"""What a run leaves behind for people: log lines, a JSONL of its figures, curves and pictures as PNG, tensorboard."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ..images import sheet
from ..quality import charts
from ..weights import files as weight_files
from .state import TrainingError, cannot_write
from .values import finite

_log = logging.getLogger(__name__)
DRAWING = 0.05  # share of a run's time
METRICS, LOG, CURVES, PICTURES = "metrics.jsonl", "log.txt", "curves.png", "pictures.png"


class Journal:
    """Files in the folder of a run; with ``folder`` None (every process but the first) nothing is written.

    ``metrics.jsonl`` has an object a line: ``kind`` "step" (the mean loss since the last one) or "epoch", with
    ``step``, ``epoch`` and figures.

    Args:
        step: of the checkpoint that the run goes on from: later records are of steps that will be done again, and go.
        pending: so does the record of the epoch that ended with this step.
    """

    def __init__(self, folder: Path | None, step: int = 0, pending: bool = False) -> None:
        self.folder: Any = folder  # where None, nothing below asks for a path in it
        self.tensorboard = None
        self._draws = True
        self._stale, self._next = False, 0.0  # whether there is more to draw, and when next
        if folder is None:
            return
        self._keep_until(step, pending)
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        if (why := charts.missing()) is not None:
            self._leave_out(why)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # an optional extra
            return
        self.tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def say(self, text: str) -> None:
        """A line for log.txt and for who listens to this module's logger."""
        if self.folder is None:
            return
        _log.info(text)
        self._written(lambda: _append(self.folder / LOG, text + "\n"))

    def record(self, **figures: Any) -> None:
        """A line of metrics.jsonl, and its numbers to tensorboard."""
        if self.folder is None:
            return

        def line() -> None:
            self._metrics.write(json.dumps(figures) + "\n")
            self._metrics.flush()

        self._written(line)
        if self.tensorboard is not None:
            for name, value in figures.items():
                if isinstance(value, float):
                    self.tensorboard.add_scalar(f"{figures['kind']}/{name}", value, figures["step"])

    def records(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl that are whole."""
        return read_metrics(self.folder / METRICS) if self.folder is not None else []

    def draw(self) -> None:
        """curves.png from all records: loss and learning rate by step, PSNR of validation by epoch. Not so often that
        it takes more than DRAWING of the time, but at last in ``close``; if it cannot be drawn that is said, once."""
        if self.folder is None or not self._draws:
            return
        begun = time.monotonic()
        self._stale = begun < self._next
        if not self._stale:
            self._draw()
            now = time.monotonic()
            self._next = now + (now - begun) / DRAWING

    def _draw(self) -> None:
        records = self.records()
        by_step = _thinned([r for r in records if r["kind"] == "step"])
        epochs = [r for r in records if r["kind"] == "epoch"]
        losses = {
            name: [(r["step"], r[key]) for r in by_step if finite(r.get(key))]
            for name, key in (("training", "loss"), ("discriminator", "critic_loss"))
        }
        if losses["discriminator"]:
            losses["generator"] = losses.pop("training")
        found = [
            charts.Chart("loss", {name: points for name, points in losses.items() if points}, "step", log=True),
            charts.Chart(
                "PSNR", {"validation": [(r["epoch"], r["psnr"]) for r in epochs if "psnr" in r]}, "epoch", "dB"
            ),
            charts.Chart("learning rate", {"": [(r["step"], r["lr"]) for r in by_step]}, "step"),
        ]
        try:
            image = charts.draw([c for c in found if any(c.series.values())] or found[:1])
        except charts.ChartError as error:
            self._leave_out(str(error))
        else:
            self._png(CURVES, image)

    def pictures(self, rows: Sequence[Sequence[Tensor]]) -> None:
        """pictures.png: rows of images ``[3, H, W]`` in [0, 1]."""
        if self.folder is not None and rows:
            self._png(PICTURES, sheet.grid(rows))

    def close(self) -> None:
        if self.folder is not None:
            with contextlib.suppress(OSError, TrainingError), self._metrics:  # a full disk has been said
                if self._stale:
                    self._draw()
        if self.tensorboard is not None:
            self.tensorboard.close()

    def _leave_out(self, why: str) -> None:
        self._draws = False
        old = f"; the {CURVES} that is there is of before" if os.path.lexists(self.folder / CURVES) else ""
        self.say(f"note: {CURVES} is left out: {why}{old}")

    def _png(self, name: str, image: Image.Image) -> None:
        data = io.BytesIO()
        image.save(data, "PNG")
        self._written(lambda: weight_files.write(self.folder / name, data.getvalue()))

    def _written(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            raise TrainingError(cannot_write(self.folder, error)) from error

    def _keep_until(self, step: int, pending: bool) -> None:
        path = self.folder / METRICS
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            # what a kill left half written goes; what is none of ours stays
            kept = [line for line in lines if line.endswith(b"\n") and not _again(line, step, pending)]
            self._written(lambda: weight_files.write(path, b"".join(kept)))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; what a kill left half written is not one, nor what holds other values."""
    return [record for line in path.read_bytes().splitlines() if (record := _record(line)) is not None]


def steps_per_second(records: Sequence[Mapping[str, Any]]) -> float | None:
    """The median over a run's records, of whatever number of steps each; None: there are fewer than two."""
    steps = [r for r in records if r["kind"] == "step"]
    pairs = itertools.pairwise(steps)  # the first record has the start in it
    speeds = [(b["step"] - a["step"]) / b["seconds"] for a, b in pairs if b.get("seconds")]
    return statistics.median(speeds) if speeds else None


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    figures = {"step": ("step", "epoch", "lr"), "epoch": ("step", "epoch")}
    kind = record.get("kind") if isinstance(record, dict) else None
    needed = figures.get(kind) if isinstance(kind, str) else None
    if needed is None or not all(name in record for name in needed):
        return None
    return record if all(finite(record.get(name, 0)) for name in (*needed, "loss", "psnr")) else None


def _again(line: bytes, step: int, pending: bool) -> bool:
    """Whether a line is the record of what will be done again."""
    record = _record(line)
    return record is not None and record["step"] >= step + (not pending or record["kind"] == "step")


def time_text(seconds: float) -> str:
    """As the official program writes durations: 12.3s, 4.5m, 6.7h."""
    for unit, name in ((3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds / unit:.1f}{name}"
    return f"{seconds:.1f}s"


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:  # names may hold any bytes
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _thinned(records: list[dict[str, Any]], most: int = 2000) -> list[dict[str, Any]]:
    """About ``most`` of the records, evenly: a chart has no more pixels."""
    return records[:: max(1, len(records) // most)]
