"""What a run leaves behind for people: when its curves are drawn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from liif_fast.quality import charts
from liif_fast.training import journal
from liif_fast.training.state import TrainingError


def test_curves_take_little_of_the_time_and_are_whole_at_the_end(tmp_path, monkeypatch):
    now, drawn = [0.0], []

    def draw(found):
        now[0] += 1  # second
        drawn.append(len(found[0].series["training"]))
        return Image.new("RGB", (2, 2))

    monkeypatch.setattr(charts, "draw", draw)
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: now[0]))
    run = journal.Journal(tmp_path)
    for step in range(1, 43):  # each with a second of work
        run.record(kind="step", step=step, epoch=step, loss=0.5, lr=0.1)
        run.draw()
        now[0] += 1
    assert drawn == [1, 21, 41]
    run.close()
    assert drawn == [1, 21, 41, 42]
    assert (tmp_path / journal.CURVES).is_file()


def test_curves_of_adversarial_training_have_both_losses(tmp_path, monkeypatch):
    drawn = []

    def draw(found):
        drawn.append(found)
        return Image.new("RGB", (2, 2))

    monkeypatch.setattr(charts, "draw", draw)
    run = journal.Journal(tmp_path)
    run.record(kind="step", step=1, epoch=1, loss=0.5, critic_loss=float("nan"), lr=0.1)
    run.record(kind="step", step=2, epoch=1, loss=0.25, critic_loss=1.5, lr=0.1)
    run.draw()
    run.close()
    assert drawn[0][0].series == {"generator": [(1, 0.5), (2, 0.25)], "discriminator": [(2, 1.5)]}


def test_a_disk_that_is_full_at_the_end_is_no_other_error(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "draw", lambda found: Image.new("RGB", (2, 2)))
    run = journal.Journal(tmp_path)
    run.draw()
    run._next = float("inf")
    run.draw()

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.weight_files, "write", full)
    with pytest.raises(TrainingError, match="the disk is full"):
        run._draw()
    run.close()
    assert run._metrics.closed
