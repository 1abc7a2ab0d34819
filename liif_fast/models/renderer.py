"""Rendering one size again and again, as for the frames of a video: on CUDA as a graph with fixed buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..head import sampling, transforms, triton
from ..head.triton import small
from . import folding, overrides, whole_images
from .checks import check_input
from .encoding import laid_out

if TYPE_CHECKING:
    from .liif import LIIF


class Renderer:
    """``model.render(inp, size)`` for inputs of one shape after the other; made by ``model.renderer``.

    On CUDA the first call with a shape records encoder and head as one CUDA graph, together with the memory they need;
    further calls copy the input there, replay the graph, and copy the result out. A recording is made anew when the
    input's shape, dtype or device, autocast, torch's switches for tf32 and determinism, ``LIIF_FAST_TRITON``, a part of
    the model (its class, mode, numbers, ``forward``), or the storage of a parameter has changed; new values in place,
    as of ``load_state_dict`` or any optimizer, are seen without. Where convolutions in half precision are the kernel of
    ``head.convolution`` (compute capability 9.0), results differ from ``model.render``'s by roundings. Elsewhere, and
    where Python has to run for every image (hooks, methods of LIIF's that a subclass or the model itself has replaced),
    it is ``model.render``.

    With ``compile`` the encoder is compiled by ``torch.compile``, on any device, at the first call with a shape and
    after such changes, and recorded so; results differ by the order of roundings. Where Python has to run, it is not.
    """

    def __init__(
        self,
        model: LIIF,
        size: Sequence[int],
        dtype: torch.dtype | None = None,
        compile: bool = False,
        window: Sequence[float] | None = None,
        pixels: sampling.Sampling | None = None,
    ) -> None:
        """pixels: those to render, in place of size and window."""
        self.model = model
        self.size = size
        self.window = window
        self.pixels = pixels
        self.dtype = dtype
        self.compile = compile
        # a render of the model's own may know of no window
        self._options: Any = {"dtype": dtype, **({} if window is None else {"window": window})}
        self._compiled: tuple[Any, Any] | None = None  # an encoder, and that compiled
        self._key: object = None
        # a CUDAGraph and two tensors, as soon as there is a recording
        self._graph: Any = None
        self._inp: Any = None
        self._out: Any = None

    def __call__(self, inp: Tensor) -> Tensor:
        """``[B, 3, H, W]`` -> ``[B, out_dim, *size]``, a new tensor, normalised as ``model.render``'s.

        Raises:
            TypeError, ValueError: as ``model.render``.
            RuntimeError: ``compile``, and ``torch.compile`` cannot compile the encoder here.
        """
        on_cuda = inp.device.type == "cuda"
        if not on_cuda and not self.compile:
            return self._by_model(inp)
        parts = list(self.model.modules())
        if not self._recordable(parts):
            return self._by_model(inp)
        if not on_cuda:
            return self._render(inp)
        with torch.cuda.device(inp.device):
            return self._replay(inp, parts)

    @torch.no_grad()
    def _by_model(self, inp: Tensor) -> Tensor:
        if self.pixels is not None:
            return whole_images.render(self.model, inp, self.pixels, self.dtype)
        return self.model.render(inp, self.size, **self._options)

    @torch.no_grad()
    def _render(self, inp: Tensor) -> Tensor:
        """What is recorded."""
        if not self.compile:
            return self._by_model(inp)
        check_input(inp, self.model.encoder)
        pixels = self.pixels or whole_images.sampled(inp.shape[-2:], self.size, self.window)
        return whole_images.render(self.model, inp, pixels, self.dtype, self._compiled_encoder())

    def _compiled_encoder(self) -> Callable[[Tensor], Tensor]:
        """Compiles when it is called with what is new to it: a shape, values and parts of its modules."""
        encoder = self.model.encoder
        if self._compiled is None or self._compiled[0] is not encoder:
            self._compiled = encoder, torch.compile(encoder, dynamic=False)
        compiled = self._compiled[1]

        def encode(x: Tensor) -> Tensor:
            try:
                return compiled(x)
            except RuntimeError as error:
                from torch._dynamo.exc import TorchDynamoException  # there by now

                if not isinstance(error, TorchDynamoException):
                    raise
                why = " ".join(str(error).split())[:300]
                name = type(encoder).__name__
                raise RuntimeError(f"compile=True: torch.compile cannot compile {name} here: {why}") from error

        return encode

    def _replay(self, inp: Tensor, parts: list[nn.Module] | None = None) -> Tensor:
        key = self._describe(inp, list(self.model.modules()) if parts is None else parts)
        if self._key != key:
            self._record(inp)
            self._key = key
        self._inp.copy_(inp)
        self._graph.replay()
        return self._out.clone()

    def _recordable(self, parts: list[nn.Module]) -> bool:
        """Whether the model's Python code needs to run but once."""
        if self.model._own(*overrides.COLOURS, "render") or transforms.active() or folding.hooked_globally():
            return False
        return not any(map(folding.hooked, parts))

    def _describe(self, inp: Tensor, parts: list[nn.Module]) -> tuple[object, ...]:
        state = [t for m in parts for of in (m._parameters, m._buffers) for t in of.values() if t is not None]
        return (
            tuple(inp.shape), inp.dtype, inp.device,
            torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"),
            torch.backends.cuda.matmul.fp32_precision, triton.setting(),
            torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]  # unknown to the stubs
            torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
            *((t.data_ptr(), t.dtype, t.shape, t.stride()) for t in state),
            *map(_code, parts),
        )  # fmt: skip

    @torch.no_grad()
    def _record(self, inp: Tensor) -> None:
        self._key = self._graph = self._out = None  # the old recording's memory first
        check_input(inp, self.model.encoder)
        self._inp = laid_out(inp.detach(), self.dtype).clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        graph = torch.cuda.CUDAGraph()
        with _no_autocast_cache(), small.recording():
            with torch.cuda.stream(stream):  # kernels are compiled and chosen before the recording
                for _ in range(2):
                    self._render(self._inp)
            torch.cuda.current_stream().wait_stream(stream)
            # other threads may allocate meanwhile: a loader that pins its batches, say
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._out = self._render(self._inp)
        self._graph = graph


@contextlib.contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """A graph must hold autocast's conversions of the weights, not their results, which an autocast outside of it
    would keep: old values, in memory that is freed at its end."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


_NUMBERS = frozenset((bool, int, float, str, tuple))


def _code(module: nn.Module) -> list[object]:
    """What decides a module's computation beside its tensors: its code, and flags, factors, sizes that it may read."""
    own = vars(module)
    return [module, type(module), own.get("forward"), [v for v in own.values() if type(v) in _NUMBERS]]
