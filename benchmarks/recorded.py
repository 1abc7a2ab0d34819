"""A function of one tensor as a CUDA graph, as ``model.renderer`` records encoder and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from liif_fast.head.triton import small


class Recorded:
    """Replays ``run`` for input i; recorded at the first call, whose result the next one overwrites."""

    def __init__(self, run: Callable[[Tensor], Tensor], inputs: Sequence[Tensor]) -> None:
        self._run, self._inputs = run, inputs
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, i: int) -> Tensor:
        if self._graph is None:
            self._given = self._inputs[0].clone()
            stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
            stream.wait_stream(torch.cuda.current_stream())
            with small.recording():
                with torch.cuda.stream(stream):
                    self._run(self._given)
                torch.cuda.current_stream().wait_stream(stream)
                with torch.cuda.graph(graph):
                    self._out = self._run(self._given)
            self._graph = graph
        self._given.copy_(self._inputs[i])
        self._graph.replay()
        return self._out
