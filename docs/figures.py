"""Figures of "How it works", drawn from what the code computes: ``draw`` writes them, and conf.py calls it.

What a figure shows comes from a function of its own (``query_corners``, ``multiply_adds``, ``kept``, ``reach``), which
tests/project/test_figures.py holds against the operators.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import liif_fast
from liif_fast.head import differentiable, functional, reference
from liif_fast.models import tile_size, tiles
from liif_fast.quality.charts import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAP, QUERY = (4, 5), (-0.11, 0.13)  # a feature map, and (y, x) of a query in it
OFFICIAL = {"channels": 64, "hidden_list": [256] * 4}  # EDSR-baseline-LIIF's
IMAGE, SIDE, PART = (130, 196), 64, 5  # of the tiles: an image, their side, and which of them is shown
# white behind it, so that it can be read on a dark page too; letters as paths, which need no font
STYLE = {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "svg.hashsalt": "liif_fast"}


def official_head() -> tuple[nn.Module, functional.Head]:
    """The official model's MLP and its fold; of the weights only the shapes matter here."""
    width = OFFICIAL["channels"] * 9 + 4
    mlp = liif_fast.MLP(width, 3, OFFICIAL["hidden_list"])
    layers = [(m.weight, m.bias) for m in mlp.layers if isinstance(m, nn.Linear)]
    return mlp, functional.fold(layers, OFFICIAL["channels"], True, True)


def query_corners() -> tuple[Tensor, Tensor, Tensor]:
    """Of QUERY: the four corners' (row, column) [4, 2], its distances from them [4, 2], their weights [4]."""
    return reference.corners(torch.tensor(QUERY, dtype=torch.float64), MAP)


def multiply_adds(head: functional.Head, scales: Iterable[float]) -> dict[str, dict[str, float]]:
    """For one query, by way and step: the paper's, and the fold at each scale, where a pixel has scale^2 queries."""
    depth, corners = len(head.mlp), 4
    width, features = head.b_conv.numel(), head.w_conv[0].numel()
    hidden, output = corners * depth * width**2, width * head.w_out.shape[0]
    first = corners * width * (features + head.w_pos.shape[1])
    found: dict[str, dict[str, float]] = {
        "as the paper writes it": {"first layer": first, "hidden layers": hidden, "output layer": corners * output}
    }
    for scale in scales:
        found[f"folded, x{scale:g}"] = {
            "first layer": width * features / scale**2,
            "position term": corners * width * head.w_pos.shape[1],
            "hidden layers": hidden,
            "output layer": output,
        }
    return found


def kept(side: int = 48, queries: int = 2304) -> dict[str, float]:
    """Bytes for each query that the forward pass of the official head keeps for the backward pass, without features,
    coordinates and parameters: what autograd is given to save, each memory once."""
    mlp, head = official_head()
    torch.manual_seed(0)
    feat = torch.randn(1, OFFICIAL["channels"], side, side, requires_grad=True)
    coord = torch.rand(1, queries, 2) * 2 - 1
    cell = torch.full_like(coord, 2 / (4 * side))
    where = (side, side), (0, 0)

    def gathered() -> Tensor:
        hidden = functional.hidden_map(feat, head)
        h, weight = torch.ops.liif_fast.corner_gather(hidden, coord, cell, head.w_pos, *where)
        return differentiable.colours(h, weight, head)

    def decoded() -> Tensor:
        hidden, *layers = functional.uniform(functional.hidden_map(feat, head), head)
        return torch.ops.liif_fast.decode(hidden, coord, cell, *layers, head.b_out)

    given = {t.untyped_storage().data_ptr() for t in (feat, coord, cell, *mlp.parameters())}
    ways: dict[str, Callable[[], Tensor]] = {
        "as the paper writes it": lambda: reference.liif(feat, coord, cell, mlp),
        "folded: corner_gather,\nthen PyTorch's layers": gathered,
        "folded: decode": decoded,
    }
    return {name: _saved(run, given) / queries for name, run in ways.items()}


def _saved(run: Callable[[], Tensor], without: set[int]) -> int:
    """Bytes of the memory that autograd saves in ``run``, which keeps it alive until it is counted."""
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        held.append(tensor)
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
    assert result.requires_grad
    return sum(size for at, size in sizes.items() if at not in without)


def reach(around: int = 24) -> tuple[Tensor, int]:
    """How much each input pixel moves one pixel of ``small-liif``'s hidden map: the gradient's absolute value
    [2 * around + 1, 2 * around + 1], in the middle of which the pixel is; and the halo of its tiles."""
    model = liif_fast.load("small-liif", device="cpu").double()
    halo, head = tile_size.halo(model), model.head()
    assert halo is not None
    assert head is not None
    torch.manual_seed(0)
    image = torch.rand(1, 3, 2 * around + 1, 2 * around + 1, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        hidden = functional.hidden_map(model.gen_feat(image * 2 - 1), head)
        (gradient,) = torch.autograd.grad(hidden[0, around, around].sum(), image)
    return gradient[0].abs().amax(0), halo


def example_tile() -> tuple[list[tiles.Tile], tiles.Tile, int]:
    """Tiles of IMAGE at scale 1, which of them is shown, and the halo."""
    halo = tile_size.halo(liif_fast.load("small-liif", device="cpu"))
    assert halo is not None
    found = list(tiles.plan(IMAGE, IMAGE, SIDE, halo))
    return found, found[PART], halo


def draw_corners(figure: Figure) -> None:
    axes = figure.subplots()
    (h, w), (index, _, weight) = MAP, query_corners()
    y, x = ((c + 1) * n / 2 for c, n in zip(QUERY, MAP, strict=True))
    for row in range(h):
        for column in range(w):
            axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor="0.75"))
            axes.plot(column + 0.5, row + 0.5, ".", color="0.6")
    for k, (row, column) in enumerate((index + 0.5).tolist()):
        far_row, far_column = (index[3 - k] + 0.5).tolist()  # the rectangle of the corner diagonally opposite
        axes.add_patch(Rectangle((x, y), far_column - x, far_row - y, color=COLOURS[k], alpha=0.35, linewidth=0))
        axes.plot(column, row, "o", color=COLOURS[k], markersize=9)
        up = row < y
        axes.annotate(
            f"{weight[k]:.3f}",
            (column, row + (-0.16 if up else 0.16)),
            ha="center",
            va="bottom" if up else "top",
            color=COLOURS[k],
            fontweight="bold",
        )
    axes.plot(x, y, "kx", markersize=8, markeredgewidth=2)
    axes.set(xlim=(-0.02, w + 0.02), ylim=(h + 0.02, -0.02), aspect="equal", xticks=[], yticks=[])
    axes.set_title(
        "a query (x), its four corners and what each counts:\nthe area of the rectangle in its colour, opposite it"
    )
    axes.set_frame_on(False)


def draw_work(figure: Figure) -> None:
    axes = figure.subplots()
    found = multiply_adds(official_head()[1], (1, 2, 4))
    _bars(axes, {way: {step: n / 1e6 for step, n in steps.items()} for way, steps in found.items()}, "{:.2f}")
    axes.set(xlabel="millions of multiply-adds for one query, official head")


def draw_kept(figure: Figure) -> None:
    axes = figure.subplots()
    _bars(axes, {way: {"": n / 1024} for way, n in kept().items()}, "{:.1f}")
    axes.set(xlabel="KiB that a training step keeps for each query (48x48 features, 2304 queries, float32)")


def _bars(axes: Axes, found: dict[str, dict[str, float]], form: str) -> None:
    """A bar for each way, of its steps one behind the other, and their sum."""
    names = {step: None for steps in found.values() for step in steps}
    for i, steps in enumerate(found.values()):
        start = 0.0
        for colour, name in zip(COLOURS, names, strict=False):
            label = name if i == len(found) - 1 else ""
            axes.barh(i, steps.get(name, 0), left=start, color=colour, height=0.6, label=label)
            start += steps.get(name, 0)
        axes.annotate(form.format(start), (start, i), (4, 0), textcoords="offset points", va="center")
    axes.set(yticks=range(len(found)), yticklabels=list(found))
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        axes.legend(frameon=False, ncols=len(names), loc="lower center", bbox_to_anchor=(0.4, 1))


def draw_tile(figure: Figure) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    every, tile, halo = example_tile()
    for t in every:
        _box(left, t.out, fill=False, edgecolor="0.6")
    _box(left, tile.inp, color=COLOURS[5], alpha=0.45, linewidth=0, label=f"encoded: {halo} pixels more")
    _box(left, tile.hidden, color=COLOURS[4], alpha=0.7, linewidth=0, label="hidden map")
    _box(left, tile.out, color=COLOURS[0], linewidth=0, label="written")
    left.set(xlim=(-1, IMAGE[1] + 1), ylim=(IMAGE[0] + 1, -1), aspect="equal", xticks=[], yticks=[])
    left.set_title(f"one of {len(every)} tiles of {IMAGE[1]}x{IMAGE[0]} pixels")
    left.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), frameon=False, ncols=3, columnspacing=0.9, handlelength=1.2
    )
    left.set_frame_on(False)
    seen, halo = reach()
    around = len(seen) // 2
    shown = (seen / seen.max()).masked_fill(seen == 0, float("nan"))
    extent = (-around - 0.5, around + 0.5, around + 0.5, -around - 0.5)
    image = right.imshow(shown.numpy(), norm=LogNorm(), cmap="viridis", extent=extent)
    edge = halo + 0.5
    right.add_patch(Rectangle((-edge, -edge), 2 * edge, 2 * edge, fill=False, edgecolor=COLOURS[1], linewidth=1.5))
    right.set(xticks=(-halo, 0, halo), yticks=(-halo, 0, halo))
    right.set_title("what one pixel of the hidden map sees")
    figure.colorbar(image, ax=right, shrink=0.8, label="gradient, of its largest")


def _box(axes: Axes, spans: tuple[tuple[int, int], tuple[int, int]], **style: object) -> None:
    (top, bottom), (left, right) = spans
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, **style))


FIGURES: dict[str, tuple[tuple[float, float], Callable[[Figure], None]]] = {
    "corners": ((4.8, 4.2), draw_corners),
    "work": ((7.2, 2.5), draw_work),
    "kept": ((7.2, 1.9), draw_kept),
    "tile": ((8.4, 3.4), draw_tile),
}


def draw(folder: Path) -> None:
    """Write FOLDER/NAME.svg for each of FIGURES; the same bytes where the code computes the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (size, content) in FIGURES.items():
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            figure = Figure(figsize=size, layout="constrained", facecolor="white")
            content(figure)
            written = io.StringIO()
            figure.savefig(written, format="svg", metadata={"Date": None})
        (folder / f"{name}.svg").write_text(written.getvalue(), encoding="utf-8")
