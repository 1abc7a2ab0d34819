"""Upscalers compared on folders of images: the table, the crops in which they differ most, and PSNR against scale.

Figures are those of ``evaluate``: the same images, cropped and reduced alike, in the same protocols. Bicubic
interpolation is always the first method.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from . import charts, crops, metrics, pairs
from .compare_files import CROPS, JSON, MARKDOWN, SCALES
from .evaluate import Report, Row, Upscaler, bicubic, check_arguments, row, to_tensor, upscaled
from .tables import table


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    name: str
    upscale: Upscaler  # as of `evaluate.evaluate`
    scale: float | None = None  # the only one that it is made for; None: any
    about: Mapping[str, Any] = field(default_factory=dict)  # for the JSON: its file, dtype, ...


BICUBIC = Method("bicubic", bicubic)


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`."""

    methods: tuple[Method, ...]
    folders: Mapping[str, str]  # of the data, by their names in the table
    scales: tuple[float, ...]  # of the table
    plot: tuple[float, ...]  # of the plot
    reports: Mapping[tuple[str, float, str], Report]  # by data, scale, method; none where a method does not apply
    crops: Mapping[tuple[str, float], Sequence[crops.Crop]]  # by data and scale
    with_niqe: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps(..., allow_nan=False)``.

        ``results``: for each data, scale and method what `Report.to_json` gives; where a method does not apply, psnr
        and ssim are null, and ``why`` says why.
        """
        results = []
        for data in self.folders:
            for scale in self._all_scales():
                for method in self.methods:
                    report = self.reports.get((data, scale, method.name))
                    figures = (
                        {"scale": scale, "psnr": None, "ssim": None, "niqe": None, "why": _why(method)}
                        if report is None
                        else report.to_json()
                    )
                    results.append({"data": data, "method": method.name, **figures})
        return {
            "methods": [{"name": m.name, "scale": m.scale, **m.about} for m in self.methods],
            "data": dict(self.folders),
            "scales": list(self.scales),
            "scales_plot": list(self.plot),
            "results": results,
            "crops": [
                {"data": data, "scale": scale, **crop.to_json()}
                for (data, scale), found in self.crops.items()
                for crop in found
            ],
        }

    def markdown(self) -> str:
        """The table, PSNR by scale if there is a plot, and what the figures mean."""
        names = [method.name for method in self.methods]
        columns = [(data, scale) for data in self.folders for scale in self.scales]
        lines = table(
            [
                "PSNR (dB) / SSIM" + (" / NIQE" if self.with_niqe else ""),
                *(f"{data} x{scale:g}" for data, scale in columns),
            ],
            [[name, *(self._cell(data, scale, name) for data, scale in columns)] for name in names],
        )
        for data in self.folders if self.plot else ():
            lines += ["", *table(
                [f"PSNR (dB), {data}", *(f"x{scale:g}" for scale in self.plot)],
                [[name, *(self._cell(data, scale, name, False) for scale in self.plot)] for name in names],
            )]  # fmt: skip
        return "\n".join([*lines, "", *(f"- {note}" for note in self._notes())]) + "\n"

    def figure(self) -> Image.Image | None:
        """The crops; None if there are none."""
        rows = [(f"{data} x{scale:g}", crop) for (data, scale), found in self.crops.items() for crop in found]
        return crops.figure(rows) if rows else None

    def chart(self) -> Image.Image | None:
        """PSNR against scale, a frame for each folder; None without scales for it. ChartError: as `charts.draw`."""
        if not self.plot:
            return None
        frames = []
        for data in self.folders:
            series = {
                m.name: [
                    (scale, self.reports[data, scale, m.name].psnr)
                    for scale in sorted(self.plot)
                    if (data, scale, m.name) in self.reports
                ]
                for m in self.methods
            }
            frames.append(charts.Chart(f"PSNR against scale, {data}", series, "scale", "dB"))
        return charts.draw(frames)

    def files(self, chart: bool = True) -> dict[str, bytes]:
        """Contents of `compare_files` that there is something for; a warning where ``SCALES`` cannot be drawn.

        Args:
            chart: False: without ``SCALES``, and without the warning.
        """
        found = {
            MARKDOWN: self.markdown().encode("utf-8", "backslashreplace"),  # names of files may hold any bytes
            JSON: (json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n").encode(),
        }
        images = {CROPS: self.figure()}
        try:
            images[SCALES] = self.chart() if chart else None
        except charts.ChartError as error:
            warnings.warn(f"{SCALES} is left out: {error}", stacklevel=2)
        for name, image in images.items():
            if image is not None:
                data = io.BytesIO()
                image.save(data, "PNG")
                found[name] = data.getvalue()
        return found

    def _all_scales(self) -> list[float]:
        return sorted({*self.scales, *self.plot})

    def _cell(self, data: str, scale: float, method: str, ssim: bool = True) -> str:
        report = self.reports.get((data, scale, method))
        if report is None:
            return "-"
        if not ssim:
            return f"{report.psnr:.3f}"
        text = crops.figures_text(report.psnr, report.ssim)
        return f"{text} / {'-' if report.niqe is None else f'{report.niqe:.2f}'}" if self.with_niqe else text

    def _notes(self) -> list[str]:
        """What the figures mean: protocol by scale, sources by folder, what the methods are, why there are dashes."""
        first = {(data, scale): report for (data, scale, name), report in self.reports.items() if name == BICUBIC.name}
        notes: list[str] = []
        for scale in self._all_scales():
            notes += dict.fromkeys(f"x{scale:g}: {first[data, scale].protocol_text}" for data in self.folders)
        for data in self.folders:
            sources: dict[str, list[str]] = {}
            for scale in self._all_scales():
                sources.setdefault(first[data, scale].lr_text, []).append(f"x{scale:g}")
            texts = [f"{text} ({', '.join(scales)})" for text, scales in sources.items()]
            n = len(first[data, self.scales[0]].rows)
            notes.append(f"{data}: means over {n} image{'s'[: n > 1]}; low resolution: {'; '.join(texts)}")
        notes.append("HR is first cropped to the size of the low resolution times the scale")
        for method in self.methods:
            facts = [f"{key} {value}" for key, value in method.about.items()]
            facts += [f"{_why(method)}, - elsewhere"] if method.scale is not None else []
            notes += [f"{method.name}: {', '.join(facts)}"] if facts else []
        if self.crops:
            notes.append(
                f"{CROPS}: where the methods differ most (variance of luma), with the figures of each part alone"
            )
        return notes


def compare(
    methods: Sequence[Method],
    data: Sequence[str | PathLike[str]],
    scales: Sequence[float],
    plot: Sequence[float] = (),
    protocol: str = "benchmark",
    lr: str = "auto",
    n_crops: int = 4,
    progress: Callable[[int, int], None] | None = None,
    with_niqe: bool = False,
) -> Comparison:
    """Upscale every image by bicubic interpolation and every method, and compare them with the originals.

    Args:
        methods: with names of their own, none called "bicubic"; may be empty.
        data: folders (``liif_fast.quality.pairs``), at least one.
        scales: of the table and the crops, at least one.
        plot: scales of the plot of PSNR against scale.
        protocol, lr: as of `evaluate.evaluate`.
        n_crops: for each folder and each of ``scales``: one of an image, or two where there are too few images.
        progress: called as ``progress(done, total)``, counting every image of every method.
        with_niqe: as of `evaluate.evaluate`.

    Raises:
        FileNotFoundError, ValueError: as `evaluate.evaluate`, all but unreadable images and bad upscalers before the
            first image is upscaled; also repeated names.
    """
    methods = (BICUBIC, *methods)
    scales, plot = (_scales(part, protocol) for part in (scales, plot))
    found = _find(folders := data_names(data), [*scales, *plot], protocol, lr)
    if repeated := [name for i, name in enumerate(m.name for m in methods) if name in [m.name for m in methods[:i]]]:
        raise ValueError(f"methods: two are called {repeated[0]}; names of their own are wanted")
    total = sum(len(part) for (_, scale), part in found.items() for m in methods if applies(m, scale))
    done = 0
    rows: dict[tuple[str, float, str], list[Row]] = {}
    chosen: dict[tuple[str, float], tuple[crops.Crop, ...]] = {}
    for (name, scale), images in found.items():
        candidates: list[crops.Crop] = []
        for pair in images:
            low, hr = (to_tensor(image) for image in pair.read())
            made = {}
            for method in methods:
                if applies(method, scale):
                    made[method.name] = _upscaled(method, pair, low)
                    key = (name, scale, method.name)
                    rows.setdefault(key, []).append(row(pair, made[method.name], hr, scale, protocol, with_niqe))
                    done += 1
                    if progress is not None:
                        progress(done, total)
            if n_crops and scale in scales:
                per_image = 1 if len(images) >= n_crops else 2
                candidates += crops.find(pair.hr_file.stem, made, hr, scale, protocol, per_image)
                candidates = sorted(candidates, key=lambda crop: -crop.score)[:n_crops]
        if candidates:
            chosen[name, scale] = tuple(candidates)
    reports = {}
    for key, part in rows.items():
        first = found[key[:2]][0]
        reports[key] = Report(tuple(part), key[1], protocol, first.source, first.where, with_niqe)
    return Comparison(methods, folders, scales, plot, reports, chosen, with_niqe)


def applies(method: Method, scale: float) -> bool:
    """Whether a method makes images of this scale."""
    return method.scale is None or method.scale == scale


def data_names(data: Sequence[str | PathLike[str]]) -> dict[str, str]:
    """Folders by short names: their own, or their parents' for one called HR; ValueError for the same folder twice."""
    names: dict[str, str] = {}
    seen = set()
    for folder in map(Path, data):
        whole = folder.resolve()
        whole = whole.parent if whole.name == "HR" else whole
        if whole in seen:
            raise ValueError(f"data: {folder} is given twice")
        seen.add(whole)
        names[os.fspath(folder) if whole.name in names else whole.name or os.fspath(folder)] = os.fspath(folder)
    return names


def _upscaled(method: Method, pair: pairs.Pair, low: Tensor) -> Tensor:
    try:
        return upscaled(method.upscale, pair, low)
    except ValueError as error:
        raise ValueError(f"{method.name}: {error}") from error


def _scales(scales: Sequence[float], protocol: str) -> tuple[float, ...]:
    """Without repetitions; whole ones as int."""
    for scale in scales:
        metrics.border(protocol, scale)  # reports a bad one
    return tuple(dict.fromkeys(int(scale) if scale == int(scale) else float(scale) for scale in scales))


def _find(
    folders: Mapping[str, str], scales: Sequence[float], protocol: str, lr: str
) -> dict[tuple[str, float], list[pairs.Pair]]:
    """The images by folder and scale; all have room for the protocol's border."""
    found = {}
    for name, folder in folders.items():
        for scale in dict.fromkeys(scales):
            check_arguments(folder, scale, protocol, lr)
            found[name, scale] = pairs.find(folder, scale, lr)
            border = metrics.border(protocol, scale)
            for pair in found[name, scale]:
                if min(pair.size) <= 2 * border:
                    h, w = pair.size
                    raise ValueError(
                        f"{pair.hr_file}: {w}x{h} pixels are too few at scale {scale:g}, where a border of {border} is "
                        "left out; leave out this scale or this image"
                    )
    return found


def _why(method: Method) -> str:
    return f"made for x{method.scale:g} alone"
