"""The figures of the page "How it works", drawn out of the code that they are about: ``draw(folder)``.

Sphinx calls it before it reads the pages; the files are not kept.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

import liif_fast
from liif_fast import reference

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
SIDE = 4  # feature pixels of the drawing
QUERY = (0.08, -0.42)  # (y, x) in [-1, 1]
CHANNELS, WIDTH, LAYERS = 64, 256, 4  # of the official EDSR-baseline-LIIF: its MLP has LAYERS hidden layers


def corners() -> tuple[torch.Tensor, torch.Tensor]:
    """The query's four corners: (row, column) of their pixels, [4, 2], and their weights, [4]."""
    index, _, weight = reference.corners(torch.tensor(QUERY), (SIDE, SIDE))
    return index, weight


def multiply_adds(scale: float) -> dict[str, float]:
    """For one output pixel: of the MLP on unfolded features at four corners, and of fold, hidden layers and blend."""
    inputs, hidden = 9 * CHANNELS + 4, (LAYERS - 1) * WIDTH**2
    unfolded = 4 * (inputs * WIDTH + hidden + 3 * WIDTH)
    convolution = 9 * CHANNELS * WIDTH / scale**2  # once for each feature pixel
    return {"unfold, MLP": unfolded, "fold": convolution + 4 * (4 * WIDTH + hidden + WIDTH) + 3 * WIDTH}


def draw_corners(path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5, 5))
    for row in range(SIDE):
        for column in range(SIDE):
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="#888888"))
            axes.plot(column + 0.5, row + 0.5, ".", color="#888888")
    y, x = ((q + 1) / 2 * SIDE for q in QUERY)
    index, weights = corners()
    centres = [(row + 0.5, column + 0.5) for row, column in index.tolist()]
    for k, (weight, colour) in enumerate(zip(weights.tolist(), COLOURS, strict=True)):
        (row, column), (across_y, across_x) = centres[k], centres[3 - k]
        area = (min(x, across_x), min(y, across_y)), abs(x - across_x), abs(y - across_y)
        axes.add_patch(Rectangle(*area, color=colour, alpha=0.35))
        axes.plot(column, row, "o", color=colour, markersize=10)
        axes.annotate(f"{weight:.2f}", (column, row), (9, 9), textcoords="offset points", color=colour)
    axes.plot(x, y, "kx", markersize=10)
    axes.set(xlim=(-0.1, SIDE + 0.1), ylim=(SIDE + 0.1, -0.1), aspect="equal")
    axes.set_title("the weight of a corner is the area across")
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def draw_work(path: Path) -> None:
    scales = (1.5, 2, 3, 4, 6, 8)
    figure, axes = plt.subplots(figsize=(6, 3.2))
    for i, name in enumerate(multiply_adds(1)):
        values = [multiply_adds(scale)[name] / 1e6 for scale in scales]
        bars = axes.bar([k + (i - 0.5) * 0.4 for k in range(len(scales))], values, 0.4, color=COLOURS[i], label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(range(len(scales)), [f"x{scale:g}" for scale in scales])
    axes.set(ylabel="10^6 multiply-adds a pixel", title="the official MLP: 64 channels, 256 wide")
    axes.legend(loc="lower right")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def seen(model: liif_fast.LIIF, side: int = 49) -> torch.Tensor:
    """Which input pixels change the feature in the middle: [side, side] of bool, by its gradient."""
    image = torch.rand(1, 3, side, side, requires_grad=True)
    model.encoder(image)[0, :, side // 2, side // 2].abs().sum().backward()
    assert image.grad is not None
    return image.grad.abs().sum((0, 1)) > 0


def draw_tile(path: Path) -> None:
    model = liif_fast.load("small-liif")
    field = model.encoder.receptive_field
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.imshow(seen(model).numpy(), cmap="Greys", alpha=0.5, extent=(-24.5, 24.5, 24.5, -24.5))
    axes.add_patch(Rectangle((-field - 0.5,) * 2, 2 * field + 1, 2 * field + 1, fill=False, edgecolor=COLOURS[1], lw=2))
    axes.plot(0, 0, "x", color=COLOURS[1])
    axes.set(title=f"what small-liif's feature sees: {field} pixels to each side", xlabel="input pixels")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "liif_fast", "figure.facecolor": "white"}):
        draw_corners(folder / "corners.svg")
        draw_work(folder / "work.svg")
        draw_tile(folder / "tile.svg")
