"""The training step as CUDA graphs: its hundreds of launches recorded once, then replayed as two.

Small batches train as fast as Python launches kernels, not as fast as the device runs them. With ``cache: device`` all
full batches have one shape, so that the launches are the same each time. The gradients are one graph, the update is
another: between them the host looks at loss and norm, as in any ``Step``. Samples are drawn outside of the graphs, and
so is all that is random.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import distributed
from ..data.on_device import OnDevice
from ..models import folding, overrides
from ..models.encoders import residual_training
from ..models.liif import LIIF
from ..weights.files import first_line
from .optimizer import DeviceAdam
from .step import Step, half_precision

WARM = 3  # steps with one shape before the recording: kernels are loaded and chosen in them
PLAN = (
    f"after {WARM} steps of full batches the training step is replayed as a CUDA graph; cuda_graph: false prevents it"
)
_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW)
_OWN_MODELS = LIIF.__module__.rpartition(".")[0]


def wanted(setup: Any) -> bool:
    """Whether the steps of a ``Setup`` are to be replayed, if they can be."""
    return setup.config.cuda_graph and setup.device.type == "cuda" and isinstance(setup.train_loader, OnDevice)


def obstacle(setup: Any) -> str | None:
    """Why the steps of a ``Setup`` cannot be replayed, in a few words; None: they can."""
    config = setup.config
    reasons = {
        "there are several processes": distributed.connected(),
        "gan": config.gan is not None,
        "compile": config.compile,
        "float16, whose loss is scaled": half_precision(config.amp, setup.device) == torch.float16,
        "the optimizer is neither adam nor adamw": type(setup.optimizer) not in _OPTIMIZERS,
        "the model may run Python code of its own": not _launches_only(setup.module),
    }
    return next((reason for reason, found in reasons.items() if found), None)


def _launches_only(model: nn.Module) -> bool:
    """Whether a forward and backward pass is the same launches each time: a LIIF of this package's parts and torch's,
    without hooks, dropout, or buffers to be kept up to date."""
    if type(model) is not LIIF or model._own(*overrides.COLOURS) or folding.hooked_globally():
        return False
    if any(True for _ in model.buffers()) or any(map(folding.watched, model.parameters())):
        return False
    return all(map(_known, model.modules()))


def _known(module: nn.Module) -> bool:
    ours = type(module).__module__.startswith((f"{_OWN_MODELS}.", "torch.nn.modules."))
    random = isinstance(module, nn.modules.dropout._DropoutNd)
    return ours and not random and not folding.hooked(module) and "forward" not in vars(module)


class Tape:
    """A stream beside the current one, on which work is done or recorded."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What is launched inside goes to the stream, behind what was launched before and ahead of what comes after."""
        outer = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            outer.wait_stream(self.stream)

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """What launches again all that ``run`` launches, without having done it once; and run's result, whose tensors
        hold something after each launch only."""
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may go on allocating memory
        recording = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        with torch.cuda.device(self.device), self.aside(), recording:
            result = run()
        return graph.replay, result


class _Recorded(NamedTuple):
    batch: dict[str, Tensor]  # what the gradients are computed from
    gradients: Callable[[], None]
    told: tuple[Tensor, Tensor]  # loss and norm
    grads: list[Tensor | None]  # of the parameters, which the update reads, as it does
    norm: Tensor
    update: Callable[[], None]
    adam: DeviceAdam


class GraphStep(Step):
    """A ``Step`` that is recorded and replayed, on CUDA, where there is no ``obstacle``.

    The first steps are run, and count, as any others; so is every batch of another shape. If the step cannot be
    recorded, a warning says why, and all goes on as without. From the recording on parameters and the optimizer's state
    must stay where they are: new values are seen, new tensors are not.
    """

    def __init__(self, *args: Any, tape: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tape: Any = Tape(self.device) if tape is None else tape  # None: no longer to be recorded
        self._shape: Any = None  # of the last batches,
        self._alike = 0  # so many of them
        self._updated = False  # once at least by a DeviceAdam
        self.recorded: _Recorded | None = None

    def gradients(self, batch: dict[str, Tensor], share: float = 1.0) -> tuple[Tensor, Tensor]:
        """As of ``Step``; the two numbers hold until the next call."""
        if self.tape is None:
            return super().gradients(batch, share)
        with residual_training.preferred():  # before the recording too, so that its kernels are there
            return self._gradients(batch, share)

    def _gradients(self, batch: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        shape = (share, {name: (t.shape, t.dtype) for name, t in batch.items()})
        if self.recorded is None:
            self._alike = self._alike + 1 if shape == self._shape else 1
            self._shape = shape
            if self._alike <= WARM or not self._updated:
                with self.tape.aside():
                    return super().gradients(batch, share)
            self._record(batch, share)
        if (recorded := self.recorded) is None:
            return super().gradients(batch, share)
        if shape == self._shape:
            for name, t in batch.items():
                recorded.batch[name].copy_(t)
            recorded.gradients()
            return recorded.told
        told = super().gradients(batch, share)
        for p, grad in zip(self.parameters, recorded.grads, strict=True):
            if grad is not None and p.grad is not None:
                p.grad = grad.copy_(p.grad)
        return told

    def update(self, norm: Tensor) -> None:
        """As of ``Step``."""
        if (recorded := self.recorded) is not None:
            recorded.norm.copy_(norm)
            recorded.adam.step(recorded.update)
        elif self.tape is not None and self._alike >= WARM and (adam := DeviceAdam(self.optimizer)).complete:
            with self.tape.aside():
                adam.step(self._lending(adam, norm))
            self._updated = True
        else:
            super().update(norm)

    def _lending(self, adam: DeviceAdam, norm: Tensor) -> Callable[[], None]:
        def run() -> None:
            with adam.lent():
                Step.update(self, norm)

        return run

    def _record(self, batch: dict[str, Tensor], share: float) -> None:
        held, norm = {name: t.clone() for name, t in batch.items()}, torch.zeros((), device=self.device)
        kind = self.device.type
        # a graph must hold autocast's conversions of the weights, not their results
        autocast = torch.autocast(
            kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False
        )
        adam = DeviceAdam(self.optimizer)
        try:
            with autocast:
                gradients, told = self.tape.record(lambda: Step.gradients(self, held, share))
                grads = [p.grad for p in self.parameters]
                update, _ = self.tape.record(self._lending(adam, norm))
        except Exception as error:  # whatever a driver, a kernel or torch cannot record
            self.tape = None
            first = (
                error.__context__ if isinstance(error.__context__, Exception) else error
            )  # before the end failed too
            warnings.warn(
                f"training step: it cannot be recorded as a CUDA graph, and is run without: {first_line(first)}",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        self.recorded = _Recorded(held, gradients, told, grads, norm, update, adam)
