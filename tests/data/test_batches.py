"""Which samples are in which batch: of every process, from every step, in uneven last batches."""

from __future__ import annotations

import numpy as np
import pytest

from liif_fast.data.loader import Batches, WholeBatches


def test_batches_are_the_same_for_any_processes_and_from_any_step():
    """Two processes with batches of 3 take what one with batches of 6 takes, also in the shorter last one."""
    one = Batches(20, 6, shuffle=True, seed=1)
    one.epoch = 4
    whole = list(one)
    assert [len(b) for b in whole] == [6, 6, 6, 2]
    assert sorted(key[0] for b in whole for key in b) == list(range(20))
    shares = [Batches(20, 3, shuffle=True, seed=1, rank=r, world=2) for r in (0, 1)]
    for share in shares:
        share.epoch = 4
    assert [a + b for a, b in zip(*shares, strict=True)] == whole
    one.start = 2
    assert list(one) == whole[2:]
    one.epoch, one.start = 5, 0
    assert list(one) != whole


@pytest.mark.parametrize("left", [1, 2, 3, 4, 5])
def test_uneven_last_batches_are_weighted(left):
    """Mean over processes of share * own mean = mean over all samples, also where a process has none left."""
    shares = [Batches(8 + left, 2, shuffle=False, seed=1, rank=r, world=4) for r in range(4)]
    value = lambda key: float(key[0] ** 2)  # noqa: E731
    got = np.mean([s.share(1) * np.mean([value(k) for k in list(s)[1]]) for s in shares])
    assert got == pytest.approx(np.mean([i**2 for i in range(8, 8 + left)]))
    assert all(s.share(0) == 1 for s in shares)


def test_whole_batches_are_shared_out():
    shares = [list(WholeBatches(11, 3, r, 2)) for r in (0, 1)]
    assert [[k[0] for k in b] for b in shares[0]] == [[0, 1, 2], [6, 7, 8]]
    assert [[k[0] for k in b] for b in shares[1]] == [[3, 4, 5], [9, 10]]
    assert list(WholeBatches(2, 3, 1, 2)) == []
