"""``render``, ``render_fourier`` and ``render_int8`` by the fused kernel: arguments prepared, configuration chosen,
kernel launched."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from triton.errors import TritonError
from triton.tools.tensor_descriptor import TensorDescriptor

from .. import fourier, int8
from . import waves
from .choices import choose, first, kind_of
from .configs import Config, Constants
from .eligible import eligible, interpreted
from .geometry import Axis
from .kernels import fused
from .layers import START_VALUE

_INT32 = 2**31 - 1


class Strides(NamedTuple):
    """Of coord and cell, in elements, inside an image."""

    coord_query: int
    coord_axis: int
    cell_query: int
    cell_axis: int


class Head(NamedTuple):
    """The layers as the kernel reads them."""

    kind: str
    w_pos: Tensor  # [4, D] float32; of waves: w_phase [2, D / 2] float32
    inverse: Tensor  # [L] float32, int8: 1 / scale of each layer's input
    weights: Tensor  # [L * D, D] (out, in): hidden's dtype, or int8
    vectors: Tensor  # [L, 1 or 3, D] float32, see layers
    w_out: Tensor  # [padded, D]
    b_out: Tensor  # [O] float32
    waves: bool = False  # the first layer is that of ``waves``


def render(hidden, coord, cell, w_pos, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True, config=None) -> Tensor:
    """``torch.ops.liif_fast.render`` on CUDA. ValueError where ``eligible`` says no."""
    _check(hidden, size, origin, coord, cell, w_mlp, w_out)
    head = _float_head(hidden.dtype, w_pos, w_mlp, b_mlp, w_out, b_out)
    return launch(hidden, coord, cell, head, size, origin, ensemble, config)


def render_fourier(
    hidden, coord, cell, w_phase, w_mlp, b_mlp, w_out, b_out, size, origin, ensemble=True, config=None
) -> Tensor:
    """``torch.ops.liif_fast.render_fourier`` on CUDA; configurations are those of ``render`` for layers as wide."""
    fourier.check(hidden, w_phase, w_out)
    _check(hidden, size, origin, coord, cell, w_mlp, w_out, channels=2)
    head = _float_head(hidden.dtype, w_phase, w_mlp, b_mlp, w_out, b_out)._replace(waves=True)
    return launch(hidden, coord, cell, head, size, origin, ensemble, config)


def _float_head(dtype: torch.dtype, w_pos: Tensor, w_mlp: Tensor, b_mlp: Tensor, w_out: Tensor, b_out: Tensor) -> Head:
    position = w_pos.t().float().contiguous()
    return Head(
        "float",
        position,
        position,  # not read
        _aligned(w_mlp.to(dtype)).flatten(0, 1),
        b_mlp.float().contiguous().unsqueeze(1),
        _padded(w_out, dtype, dtype != torch.float32),
        b_out.float(),
    )


def render_int8(
    hidden, coord, cell, w_pos, w_q, w_scale, b_mlp, act_scale, w_out, b_out, size, origin, ensemble=True, config=None
) -> Tensor:
    """``torch.ops.liif_fast.render_int8`` on CUDA: the integers of ``liif_fast.head.int8``."""
    _check(hidden, size, origin, coord, cell, w_q, w_out)
    inverse = 1 / act_scale
    # the roundings of int8.hidden_layers: the last layer's values stay float32, the others become steps of the next
    multiplier, addend = w_scale * act_scale.unsqueeze(1), b_mlp.clone()
    multiplier[:-1] *= inverse[1:].unsqueeze(1)
    addend[:-1] *= inverse[1:].unsqueeze(1)
    offset = w_q.sum(-1, dtype=torch.int32) * 128 - START_VALUE
    head = Head(
        "int8",
        w_pos.t().float().contiguous(),
        inverse,
        _aligned(w_q).flatten(0, 1),
        torch.stack([offset.float(), multiplier, addend], 1),
        _padded(w_out, torch.bfloat16, True),
        b_out.float(),
    )
    out = launch(hidden, coord, cell, head, size, origin, ensemble, config)
    return out.add_(_poison(hidden, cell, w_pos, size, int8.poison_of_layers(w_scale, b_mlp, act_scale)))


def _poison(hidden: Tensor, cell: Tensor | None, w_pos: Tensor, size: Sequence[int], layers: Tensor) -> Tensor:
    """What ``int8`` says of values that are not finite, for all queries of an image instead of those that read one: the
    kernel's integers hide them, and the host does not wait. ``[B, 1, 1]``, 0 or NaN."""
    if hidden.numel() == 0 or (cell is not None and cell.numel() == 0):
        return layers
    low, high = (t.float() for t in hidden.flatten(1).aminmax(dim=1))
    reach = w_pos[:, :2].abs().sum()  # queries in the map are at most a pixel from a corner
    if cell is not None:
        least, most = cell.flatten(1).aminmax(dim=1)
        reach = reach + torch.maximum(least.abs(), most.abs()) * max(size) * w_pos[:, 2:].abs().sum()
    return (int8.poison(torch.stack([low, high, low + reach, high + reach]), 0) + layers).view(-1, 1, 1)


def not_compiled(error: Exception) -> bool:
    """Whether a launch raised ``error`` before anything ran: triton's own errors; those of the C compiler that builds
    its launcher (without Python's headers, say) and of a cache folder that cannot be written; a failure in LLVM."""
    own = isinstance(error, (TritonError, subprocess.SubprocessError, OSError, ImportError))
    return own or (isinstance(error, RuntimeError) and "PassManager" in str(error))


def _check(
    hidden: Tensor,
    size: Sequence[int],
    origin: Sequence[int],
    coord: Tensor,
    cell: Tensor | None,
    *others: Tensor,
    channels: int = 1,
) -> None:
    ok, why = eligible(hidden, coord, cell, *others, channels=channels)
    if not ok:
        raise ValueError(f"the fused kernel cannot run: {why}")
    held = hidden.shape[1:3]
    if any(o < 0 or o + n > whole for o, n, whole in zip(origin, held, size, strict=True)):
        raise ValueError(
            f"size, origin: hidden ({held[0]} x {held[1]}) at {tuple(origin)} must lie in a map of size {tuple(size)}"
        )


def _aligned(t: Tensor) -> Tensor:
    """Contiguous and at an address that tensor descriptors take."""
    t = t.contiguous()
    return t if t.data_ptr() % 16 == 0 else t.clone()


def _padded(w_out: Tensor, dtype: torch.dtype, split: bool) -> Tensor:
    """w_out [O, D] with as many rows as a product wants; split: rounded to dtype, and below that what was lost."""
    rows = 8 if split and len(w_out) <= 8 else 16
    w = F.pad(w_out.float(), (0, 0, 0, rows - len(w_out)))
    rounded = w.to(dtype)
    return torch.cat([rounded, (w - rounded.float()).to(dtype)]) if split else rounded


def _precision(dtype: torch.dtype) -> str:
    """Of products, as tl.dot takes it: float32 in three parts of tf32 unless torch itself may use plain tf32."""
    if dtype != torch.float32:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


def launch(
    hidden: Tensor,
    coord: Tensor,
    cell: Tensor | None,
    head: Head,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool,
    config: Config | None = None,
) -> Tensor:
    """Run the kernel on all queries: ``[B, Q, O]`` float32."""
    out = coord.new_empty(*coord.shape[:2], len(head.b_out))
    if out.numel() == 0:
        return out
    kind, D = "int8" if head.kind == "int8" else kind_of("render", hidden), head.weights.shape[1]
    config = config or choose(kind, D, hidden.device) or first(kind, D, hidden.device)
    on_device = torch.cuda.device(hidden.device) if hidden.is_cuda else contextlib.nullcontext()
    hidden = hidden.contiguous()
    stride = max(coord.stride(1), 0 if cell is None else cell.stride(1), 4)
    step = max(1, _INT32 // (4 * stride))  # queries whose offsets fit into 32 bits
    with on_device:
        for start in range(0, coord.shape[1], step):
            part = slice(start, start + step)
            kernel, arguments, options, grid = plan(
                hidden, coord[:, part], None if cell is None else cell[:, part], out[:, part], head, size, origin,
                ensemble, config,
            )  # fmt: skip
            kernel[(grid,)](*arguments, **options)
    return out


def multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def plan(
    hidden: Tensor,
    coord: Tensor,
    cell: Tensor | None,
    out: Tensor,
    head: Head,
    size: Sequence[int],
    origin: Sequence[int],
    ensemble: bool,
    config: Config,
) -> tuple[Any, list[Any], dict[str, Any], int]:
    """(kernel, arguments, options, number of blocks) of one launch."""
    gluon = config.structure == "gluon"
    if gluon:
        from . import specialised

        config = specialised.fitted(config, head, cell is not None)
        gluon = config.structure == "gluon"
    if head.waves:
        config = waves.fitted(config, head.weights.shape[1])
    B, h, w, _ = hidden.shape
    queries, K = coord.shape[1], 4 if ensemble else 1
    tiles = -(-queries * K // config.rows)
    blocks, total = B * tiles, []
    some_cell = coord if cell is None else cell
    if gluon:
        head = head._replace(w_out=specialised.interleaved(head.w_out, len(head.b_out)))
        kernel, weights = specialised.fused, [specialised.descriptor(head.weights, config.piece)]
        blocks, total = min(-(-blocks // 2), multiprocessors(hidden.device)), [blocks]  # they take pairs of tiles
    else:
        kernel, weights = fused, [head.inverse, *_blocks(head.weights, config)]
    c = _constants(hidden, cell, head, K, config)
    y, x = (Axis.of(*numbers, ensemble) for numbers in zip(size, origin, (h, w), strict=True))
    arguments = [
        hidden, coord, some_cell, out, h * w, coord.stride(0), some_cell.stride(0), out.stride(0), w,
        Strides(*coord.stride()[1:], *some_cell.stride()[1:]), queries, tiles, *total, y, x,
        head.w_pos, *weights, head.vectors, head.w_out, head.b_out, c,
    ]  # fmt: skip
    return kernel, arguments, {"num_warps": config.warps, "enable_fp_fusion": False}, blocks


def _constants(hidden: Tensor, cell: Tensor | None, head: Head, K: int, config: Config) -> Constants:
    return Constants(
        kind=head.kind,
        precision="ieee" if head.kind == "int8" else _precision(hidden.dtype),
        L=len(head.vectors),
        D=head.weights.shape[1],
        O=len(head.b_out),
        out=len(head.w_out),
        split=head.kind == "int8" or hidden.dtype != torch.float32,
        K=K,
        cell=cell is not None,
        wide=hidden[0].numel() > _INT32,
        pairs=config.structure == "pairs",
        rows=config.rows,
        chunk=config.chunk,
        piece=config.piece,
        stages=config.stages,
        tma=config.tma,
        float32=head.kind == "float" and hidden.dtype == torch.float32,
        interpreted=interpreted(),
        waves=head.waves,
    )


def _blocks(weights: Tensor, config: Config) -> list[Any]:
    """The weights as the kernel's w_first, w_in, w_back and w_all."""
    D = weights.shape[1]
    if not config.tma:
        return [weights] * 4
    pairs = config.structure == "pairs"
    first = [config.chunk if pairs else D, config.piece]
    shapes = [first, [config.chunk, D], [D, config.chunk], first] if pairs else [first, first, first, [D, D]]
    return [TensorDescriptor.from_tensor(weights, shape) for shape in shapes]
