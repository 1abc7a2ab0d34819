"""The official repository's test configurations, and LTE's: ``liif-fast eval --config FILE``, their ``test.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch

from .. import distributed
from ..data.loader import WholeBatches, batches_in, close, make_loader, workers
from . import trial
from .config import EvalConfig
from .protocol import Protocol
from .setup import build_samples, check_grids
from .validate import mean_psnr


def evaluate_config(
    model: torch.nn.Module,
    config: EvalConfig,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda text: None,
    *,
    window: int = 0,
    scale_max: float | None = None,
) -> float:
    """Mean PSNR in dB of a model on the data of a test configuration, as the official ``test.py`` prints it.

    Samples that a configuration leaves to chance are always the same. Where processes are connected (see
    ``liif_fast.distributed``), they share the batches.

    Args:
        progress: called with the number of this process's finished batches and of all of them.
        note: called with what is to be said of the data.
        window, scale_max: LTE's options, see ``liif_fast.training.protocol``. Its tables have 4, and for SwinIR a
            window of 8. ``scale_max`` None: the model's own (LTE's is 4) where the configuration has a scale and
            ``eval_bsize``, as LTE's program; infinite: none.

    Raises:
        ConfigError: data that is missing or does not fit. DataError: data that cannot be read. PeerError: another
            process could not go on. ValueError: colours that are NaN.
    """
    spec = config.test_dataset
    if scale_max is None and config.eval_type is not None and config.eval_bsize is not None:
        scale_max = getattr(model, "scale_max", None)
    if scale_max is not None and math.isinf(scale_max):
        scale_max = None
    Protocol(config.eval_type, config.eval_bsize, window, scale_max)  # says what is wrong before data are looked at
    check_grids("test_dataset", spec, model)
    samples = build_samples("test_dataset", spec)
    for text in getattr(getattr(samples, "dataset", None), "notes", []):
        note(text)
    trial.check_validation(config, "test_dataset", model, samples, device, seed=0)
    with distributed.first_here():
        if hasattr(samples, "prepare"):
            samples.prepare()
    rank, world = (distributed.rank(), distributed.world()) if distributed.connected() else (0, 1)
    batches = WholeBatches(len(samples), spec.batch_size, rank, world)
    loader = make_loader(samples, batches, seed=0, num_workers=workers(None), pin_memory=device.type == "cuda")
    counted = _counted(batches_in(loader), len(batches), progress)
    try:
        found = mean_psnr(
            model, counted, config.data_norm, device, config.eval_type, config.eval_bsize, window=window,
            scale_max=scale_max,
        )  # fmt: skip
        psnr = cast(float, found)  # nothing stops it
    finally:
        close(loader)
    if math.isnan(psnr):
        raise ValueError("the model's colours are not finite: its weights are damaged")
    return psnr


def _counted(batches: Iterable[Any], total: int, progress: Callable[[int, int], None] | None) -> Iterator[Any]:
    for i, batch in enumerate(batches):
        yield batch
        if progress is not None:
            progress(i + 1, total)
