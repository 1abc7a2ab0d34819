"""The run: epochs of steps, validation, checkpoints, and where to go on after an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Any, cast

import tqdm
from torch import nn

from .. import distributed
from ..base.version import VERSION
from ..data.loader import Feed, batches_in, close
from . import graph, state
from .journal import Journal, time_text
from .optimizer import Average
from .restore import restore
from .run_folder import BEST, LAST
from .setup import Loader, Setup
from .signals import Signals
from .state import Progress, TrainingError
from .step import Step, train_mode
from .validate import mean_psnr
from .views import views

SAVE_SECONDS = 600  # between checkpoints inside an epoch, unless save_steps says otherwise
_WAITING = 0.1  # share of the time spent waiting for data from which it is said


class Trainer:
    """Trains what ``setup`` holds, into ``folder``, in which nothing is written before ``open``.

    Args:
        checkpoint: of ``state.read``, to go on from; None: from the beginning.
        path: its file, for messages.
        bar: show a progress bar on standard error.
    """

    def __init__(
        self, setup: Setup, folder: Path, checkpoint: dict[str, Any] | None, path: Path | None, bar: bool = False
    ) -> None:
        self.setup, self.config, self.folder, self.bar = setup, setup.config, folder, bar
        self.module, self.optimizer, self.schedule = setup.module, setup.optimizer, setup.schedule
        batches = len(setup.train_batches)
        self.progress = Progress(batches=batches) if checkpoint is None else state.progress_of(checkpoint, batches)
        self.average = None if self.config.ema is None else Average(self.module, self.config.ema)
        self.journal = Journal(None)
        forward: nn.Module = self.module
        if self.config.compile:
            self.module.compile()
        if distributed.connected():
            ids = [setup.device] if setup.device.type == "cuda" else None
            forward = nn.parallel.DistributedDataParallel(self.module, device_ids=ids)
        kind = graph.GraphStep if graph.wanted(setup) and graph.obstacle(setup) is None else Step
        self.step = kind(self.config, self.module, forward, self.optimizer, setup.device, setup.seed, setup.critic)
        if checkpoint is not None:
            restore(checkpoint, path, setup, self.progress, self.average, self.step.scaler)
        self._began = time.perf_counter() - self.progress.seconds
        self._saved: tuple[int, int, bool] | None = None  # the place that the last checkpoint holds
        self._agreed = False  # all processes know of an error

    def open(self) -> None:
        """Begin to write into the folder, which exists now."""
        self.journal = Journal(
            self.folder if distributed.rank() == 0 else None, self.progress.step, self.progress.pending
        )

    def run(self, deadline: float | None = None) -> int:
        """To the end of the last epoch, or of the time; returns the exit code: 0, or 128 + the signal that ended it.

        Args:
            deadline: of ``time.monotonic()``, at which to save and stop. Nothing else depends on it: a run in any
                number of pieces gives what a single one does.

        Raises:
            TrainingError: too many steps with NaN, a full disk, ... And any other error, once the steps are saved.
        """
        p = self.progress
        try:
            with Signals(deadline) as signals:
                try:
                    while p.epoch < self.config.epoch_max or p.pending:
                        if not (self._epoch(signals) and self._epoch_end(signals)):
                            self.save()
                            self.journal.say(f"stopped after step {p.step}; --resume goes on from there")
                            # of all processes, because one may have been told to stop and not the others
                            return max(distributed.gather(128 + signals.number if signals.number is not None else 0))
                    if not (self.folder / LAST).exists():  # nothing was left to do behind another checkpoint
                        self.save()
                except Exception:
                    self._rescue()
                    raise
            return 0
        finally:
            for loader in (self.setup.train_loader, self.setup.val_loader):
                close(loader)
            self.journal.close()

    def save(self, *names: str) -> None:
        """Write the state of now as the last checkpoint, and under other names too."""
        if distributed.rank() == 0:
            checkpoint = self.checkpoint()
            for name in (LAST, *names):
                state.write(self.folder / name, checkpoint)
        self._saved = self._place()

    def checkpoint(self) -> dict[str, Any]:
        """Everything, see ``liif_fast.training.state``."""
        self.progress.seconds = time.perf_counter() - self._began
        model = self.module if self.average is None else self.average.model
        training = {
            "format": state.FORMAT,
            "version": VERSION,
            "seed": self.setup.seed,
            "progress": dataclasses.asdict(self.progress),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
        }
        if self.average is not None:
            training["weights"] = self.module.state_dict()
        if self.step.scaler is not None:
            training["scaler"] = self.step.scaler.state_dict()
        if self.setup.critic is not None:
            training["critic"] = self.setup.critic.state_dict()
        return {
            "model": {**self.config.model, "sd": model.state_dict()},
            "optimizer": {**self.config.optimizer, "sd": self.optimizer.state_dict()},
            "epoch": self.progress.epoch,
            "data_norm": self.config.data_norm,
            "training": training,
        }

    # --- inside ---

    def _place(self) -> tuple[int, int, bool]:
        return self.progress.step, self.progress.epoch, self.progress.pending

    def _rescue(self) -> None:
        """Save what an error would take along, and say what is there; what fails in that is not said, as the error
        itself is what matters."""
        p, whole = self.progress, not self.step.updating
        with contextlib.suppress(Exception):
            if whole and self._place() != self._saved:
                self.step.undo()
                self.save()
            if whole and self._place() == self._saved:
                self.journal.say(f"stopped after step {p.step} by an error; --resume goes on from there")
        if self._agreed:  # the first process to end makes torchrun end the others: not before all is saved
            with contextlib.suppress(Exception):
                distributed.gather(None)

    def _check_together(self, error: Exception | None) -> None:
        """Raises the error, or PeerError where another process has one; called by all."""
        if any(distributed.gather(error is not None)):
            self._agreed = True
            raise error or distributed.PeerError

    def _epoch(self, signals: Signals) -> bool:
        """Train to the end of the epoch that has been begun; False: stopped before that."""
        p, batches = self.progress, self.setup.train_batches
        if p.pending:
            return True
        batches.epoch, batches.start = p.epoch + 1, p.batch
        feed = Feed(self.setup.train_loader, self.setup.device)
        self._check_together(feed.error)
        together = distributed.connected()
        train_mode(self.module, self.config.norm_eval)
        saved = logged = time.perf_counter()
        bar = tqdm.tqdm(
            total=len(batches), initial=p.batch, desc=f"epoch {p.epoch + 1}", leave=False,
            disable=not self.bar,
        )  # fmt: skip
        with bar:
            while (batch := feed.take(stand_in=together)) is not None:
                failed = feed.error is not None
                begun = self.step.begin(batch, p.step, batches.share(p.batch), bool(signals), failed)
                if not failed:
                    feed.fetch()
                outcome = self.step.end(begun)
                if outcome.failed:
                    self._agreed = True
                    raise feed.error or distributed.PeerError
                self._count(outcome)
                bar.update()
                if p.step % self.config.log_steps == 0:
                    logged = self._log(feed, time.perf_counter() - logged)
                if outcome.stop:
                    return False
                now, every = time.perf_counter(), self.config.save_steps
                due = p.step % every == 0 if every is not None else now - saved > SAVE_SECONDS
                if due and p.batch < len(batches):
                    self.save()
                    saved = now
        if p.log_loss[1]:
            self._log(feed, time.perf_counter() - logged)
        if self.schedule is not None:
            self.schedule.step()
        if self.setup.critic is not None:
            self.setup.critic.end_of_epoch()
        p.epoch, p.batch, p.pending = p.epoch + 1, 0, True
        kept = self.config.epoch_save is not None and p.epoch % self.config.epoch_save == 0
        self.save(*([f"epoch-{p.epoch}.pth"] if kept else []))
        return True

    def _count(self, outcome: Any) -> None:
        p = self.progress
        p.step += 1
        p.batch += 1
        if outcome.updated and self.average is not None:
            self.average.update(self.module, p.step)
        if not outcome.nan:
            for mean in (p.epoch_loss, p.log_loss):
                mean[0] += outcome.loss
                mean[1] += 1
            return
        p.skipped += 1
        what = "loss" if not math.isfinite(outcome.loss) else "gradient"
        self.journal.say(f"step {p.step}: the {what} is not finite, step skipped ({p.skipped} so far)")
        if p.skipped > self.config.nan_limit:
            self.save()
            raise TrainingError(
                f"more than {self.config.nan_limit} steps with a loss or gradient that is not finite (nan_limit); try "
                "a smaller learning rate, grad_clip, or amp: false"
            )

    def _log(self, feed: Feed, seconds: float) -> float:
        """Record the steps since the last record; returns the time."""
        p = self.progress
        (total, n), p.log_loss = p.log_loss, [0.0, 0.0]
        waiting = min(1.0, feed.waited / seconds) if seconds else 0.0
        feed.waited = 0.0
        figures = {"loss": total / n} if n else {}
        if self.setup.critic is not None:
            figures["critic_loss"] = self.setup.critic.loss
        self.journal.record(
            kind="step", step=p.step, epoch=p.epoch + 1, **figures, lr=self.optimizer.param_groups[0]["lr"],
            skipped=p.skipped, seconds=seconds, waiting=waiting,
        )  # fmt: skip
        if waiting > _WAITING and seconds > 1:
            self.journal.say(
                f"step {p.step}: data is the bottleneck, {waiting:.0%} of the time was spent waiting for it; more "
                "num_workers, or cache: in_memory or bin"
            )
        return time.perf_counter()

    def _epoch_end(self, signals: Signals) -> bool:
        """Validate, keep the best, report; False: stopped before that was done."""
        p, config = self.progress, self.config
        (total, n) = p.epoch_loss
        loss = total / n if n else math.nan
        figures: dict[str, float] = {"loss": loss} if n else {}
        line = [f"epoch {p.epoch}/{config.epoch_max}", f"train: loss={loss:.4f}"]
        validated = config.epoch_val is not None and p.epoch % config.epoch_val == 0
        if validated:
            model = self.module if self.average is None else self.average.model
            psnr = mean_psnr(
                model, batches_in(cast(Loader, self.setup.val_loader)), config.data_norm, self.setup.device,
                config.eval_type, config.eval_bsize, lambda: bool(signals),
            )  # fmt: skip
            if psnr is None:
                return False
            figures["psnr"] = psnr
            line.append(f"val: psnr={psnr:.4f}")
        p.pending, p.epoch_loss = False, [0.0, 0.0]
        better = figures.get("psnr") if config.monitor == "psnr" else -loss
        if better is not None and math.isfinite(better) and (p.best is None or better > p.best):
            p.best = better
            self.save(BEST)
        used = time.perf_counter() - self._began
        each = used / p.epoch
        line.append(f"{time_text(each)} {time_text(used)}/{time_text(each * config.epoch_max)}")
        self.journal.record(kind="epoch", step=p.step, epoch=p.epoch, **figures, skipped=p.skipped)
        self.journal.say(", ".join(line))
        self.journal.draw()
        if validated and distributed.rank() == 0:
            self.journal.pictures(views(model, self.setup.val_samples, config, self.setup.device, self.setup.seed))
        return True
