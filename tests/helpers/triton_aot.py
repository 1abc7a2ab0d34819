"""Compiles the fused kernel for cards that need not be there; a script, since triton's driver is one for a process.

python tests/helpers/triton_aot.py 90          # one JSON object for each configuration of sm_90
python tests/helpers/triton_aot.py 90 flags    # its first one of each kind with other dtypes, flags and depths
python tests/helpers/triton_aot.py 90 waves    # all of render_fourier, with flags for the structure that runs first
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.backends.nvidia as nvidia
import triton_waves
from cpu_paths import Sample, sample
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from liif_fast.head import int8
from liif_fast.head.triton import render
from liif_fast.head.triton.configs import KINDS, WIDTHS, Config, candidates

DTYPES = {"half": torch.bfloat16, "float32": torch.float32, "int8": torch.float32}


class PretendedDriver:
    """What triton asks of a driver before it compiles."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def map_python_to_cpp_type(self, ty: str) -> str:
        from triton.backends.nvidia.driver import ty_to_cpp

        return ty_to_cpp(ty)


def problem(kind: str, dtype: torch.dtype, **changed: Any) -> tuple[Sample, render.Head]:
    """Arguments of one launch; sizes do not matter, they are not compiled in."""
    waves = changed.pop("waves", False)
    s = (triton_waves.sample if waves else sample)(dtype, **{"B": 1, "h": 48, "w": 48, "Q": 1000, **changed})
    heads = []

    def kept(*arguments: Any) -> torch.Tensor:
        heads.append(arguments[3])
        return torch.zeros(1, 1, 1)

    launch, render.launch = render.launch, kept
    available, render.eligible = render.eligible, lambda *arguments, **named: (True, "")
    try:
        if kind == "int8":
            w_q, w_scale = int8.quantize_weights(s.w_mlp)
            render.render_int8(*s[:4], w_q, w_scale, s.b_mlp, torch.full((len(w_q),), 0.01), *s[6:])
        else:
            (render.render_fourier if waves else render.render)(*s)
    finally:
        render.launch, render.eligible = launch, available
    return s, heads[0]


def compiled(kind: str, dtype: torch.dtype, config: Config, **changed: Any) -> dict[str, Any]:
    """Facts about the kernel of one configuration."""
    wide = changed.get("wide", False)
    s, head = problem(kind, dtype, **{k: v for k, v in changed.items() if k != "wide"})
    if wide:  # a map whose offsets need 64 bits, of one pixel again and again
        s = s._replace(hidden=s.hidden[:, :1, :1].expand(-1, 3000, 3000, -1), size=(3000, 3000))
    out = torch.empty(*s.coord.shape[:2], len(head.b_out))
    fused, arguments, options, _ = render.plan(*s[:3], out, head, s.size, s.origin, s.ensemble, config)
    start = time.perf_counter()
    kernel = fused.warmup(*arguments, grid=(1,), **options)
    seconds = time.perf_counter() - start
    ptx = kernel.asm["ptx"]
    return {
        "kind": kind,
        "dtype": str(dtype)[6:],
        "width": s.w_out.shape[-1],
        "changed": changed,
        "config": config._asdict(),
        "shared": kernel.metadata.shared,
        "tensor_memory": getattr(kernel.metadata, "tmem_size", 0),
        **assembled(kernel.asm["cubin"]),
        "unordered": unordered(ptx),
        **{name: ptx.count(text) for name, text in _INSTRUCTIONS.items()},
        "seconds": round(seconds, 1),
        "triton": triton.__version__,
    }


_INSTRUCTIONS = {
    "wgmma": "wgmma.mma_async",
    "mma": "mma.sync",
    "tcgen05": "tcgen05.mma",
    "tma": "cp.async.bulk.tensor",
    "fma": "fma.rn",
}


_EVENTS = re.compile(
    r"(?P<store>st\.shared|stmatrix)|(?P<fence>fence\.proxy\.async)|(?P<barrier>bar\.sync)|(?P<product>wgmma\.mma_async)"
    r"|(?P<wait>wgmma\.wait_group)|(?P<free>mbarrier\.arrive\.shared)|(?P<partition>setmaxnreg)"
)


def unordered(ptx: str) -> int:
    """How often some warps of a partition could be ahead of its others: products of what it stored to shared memory
    without a fence and then a barrier; an arrival at an mbarrier after products without a wait and then a barrier, or
    after a fence without a barrier. A partition begins where its number of registers is set; the order between
    partitions is what gluon_on_cpu.py looks at."""
    bad, stored, used = 0, "", ""
    for found in _EVENTS.finditer(ptx):
        event = found.lastgroup
        if event == "store":
            stored = "store"
        elif event == "fence" and stored == "store":
            stored = "fence"
        elif event == "barrier":
            stored = "" if stored == "fence" else stored
            used = "" if used == "wait" else used
        elif event == "product":
            bad += bool(stored)
            stored, used = "", "product"
        elif event == "wait" and used:
            used = "wait"
        elif event == "free":
            bad += bool(used) or stored == "fence"
        elif event == "partition":
            stored = used = ""
    return bad


def assembled(cubin: bytes) -> dict[str, int]:
    """Registers, and bytes of each thread's stack: the kernel has no arrays and calls nothing, so these are spills."""
    tool = os.path.join(os.path.dirname(nvidia.__file__), "bin", "cuobjdump")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    numbers = {"registers": r"REG:(\d+)", "spilled": r"STACK:(\d+)"}
    return {name: int(re.search(pattern, said).group(1)) for name, pattern in numbers.items()}


def shipped(architecture: int) -> Iterator[dict[str, Any]]:
    """Every configuration of the table for an architecture, the official depth."""
    for kind in KINDS:
        for D in WIDTHS:
            for config in candidates(architecture, kind, D):
                yield compiled(kind, DTYPES[kind], config, D=D)


def flags(architecture: int) -> Iterator[dict[str, Any]]:
    """The first configuration of each structure for the official width, with everything else that is compiled in."""
    _, single, integer = (candidates(architecture, kind, 256)[0] for kind in KINDS)
    for config in {c.structure: c for c in reversed(candidates(architecture, "half", 256))}.values():
        yield compiled("half", torch.float16, config, D=256)
        for changed in ({"cell": False}, {"ensemble": False}, {"L": 1}, {"L": 2}, {"L": 4, "out": 16}, {"wide": True}):
            yield compiled("half", torch.bfloat16, config, D=256, **changed)
        if config.structure == "gluon":  # all of it is in shared memory
            for D in (128, 256):
                gluon = next(c for c in candidates(architecture, "half", D) if c.structure == "gluon")
                for changed in ({"L": 5}, {"L": 6, "out": 16}, {"out": 16, "cell": False, "ensemble": False}):
                    yield compiled("half", torch.bfloat16, gluon, D=D, **changed)
    for changed in ({"ensemble": False, "cell": False}, {"L": 2}):
        yield compiled("int8", torch.float32, integer, D=256, **changed)
        yield compiled("float32", torch.float32, single, D=256, **changed)
    yield compiled("int8", torch.bfloat16, integer, D=256, cell=False)  # as a picture in bfloat16 asks for it
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield compiled("float32", torch.float32, single, D=256)


def waves(architecture: int) -> Iterator[dict[str, Any]]:
    """render_fourier: every configuration of the table, and the first of each kind for the official width with
    everything else that is compiled in."""
    flags = ({"cell": False}, {"ensemble": False}, {"L": 1}, {"L": 4, "out": 16}, {"wide": True})
    for kind in ("half", "float32"):
        for D in WIDTHS:
            for config in candidates(architecture, kind, D):
                yield compiled(kind, DTYPES[kind], config, D=D, waves=True)
        for changed in flags if kind == "half" else flags[:1]:
            yield compiled(kind, DTYPES[kind], candidates(architecture, kind, 256)[0], D=256, waves=True, **changed)
    for D in (128, 256):
        config = candidates(architecture, "half", D)[0]
        yield compiled("half", torch.float16, config, D=D, waves=True)
        for changed in ({"L": 6, "out": 16}, {"out": 16, "cell": False, "ensemble": False}):
            yield compiled("half", torch.bfloat16, config, D=D, waves=True, **changed)


def main() -> None:
    architecture = int(sys.argv[1])
    driver.set_active(PretendedDriver(architecture))
    what = {"flags": flags, "waves": waves}.get("".join(sys.argv[2:]), shipped)
    for row in what(architecture):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
