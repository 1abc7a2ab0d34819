"""Progress of a batch goes by the pixels of its pictures, not by their number."""

from __future__ import annotations

import pytest
import torch
from command import photo

from liif_fast.upscaling.files import upscale_files
from liif_fast.upscaling.options import Options


@pytest.fixture
def shares(tiny):
    """shares(inputs, options) -> results, and how much of the work was done after each."""

    def run(inputs, options, **how):
        told, ends, model = [], [], tiny()
        results = []
        for result in upscale_files(
            lambda: (model, torch.float32), inputs, None, options, progress=lambda *step: told.append(step), **how
        ):
            results.append(result)
            ends.append(told[-1][0])
        done = [step[0] for step in told]
        assert done == sorted(done)
        assert {step[1] for step in told} == {len(inputs)}
        return results, ends

    return run


def test_by_the_pixels_of_input_and_output(shares, tmp_path):
    files = [photo(tmp_path / f"{i}.png", size=size) for i, size in enumerate([(10, 10), (20, 15), (40, 15)])]
    results, ends = shares(files, Options(scale=2, suffix="_x2"))
    assert [result.status for result in results] == ["done"] * 3
    assert ends == pytest.approx([3 * 0.1, 3 * 0.4, 3.0])
    (tmp_path / "of size").mkdir()
    files = [photo(tmp_path / "of size" / path.name, size=(10, 10 * (1 + i))) for i, path in enumerate(files)]
    assert shares(files, Options(size=(20, 20), suffix="_x2"))[1] == pytest.approx([3 * 5 / 18, 3 * 11 / 18, 3.0])


def test_what_is_not_made_weighs_nothing(shares, tmp_path):
    files = [photo(tmp_path / f"{i}.png", size=(100, 100)) for i in range(4)]
    photo(tmp_path / "0_x2.png")
    files[1].write_text("hello")
    results, ends = shares(files, Options(scale=2, suffix="_x2", skip_existing=True))
    assert [result.status for result in results] == ["exists", "failed", "done", "done"]
    assert ends == pytest.approx([0, 0, 2, 4], abs=1e-3)
    assert shares(files, Options(scale=2, suffix="_x2", skip_existing=True))[1] == pytest.approx([1, 2, 3, 4], abs=1e-3)


def test_of_processes_each_tells_of_its_own(shares, tmp_path):
    files = [photo(tmp_path / f"{i}.png", size=(10 * (1 + i), 10)) for i in range(5)]
    assert shares(files, Options(scale=2, suffix="_x2"), share=(0, 2))[1] == pytest.approx([5 * 1 / 9, 5 * 4 / 9, 5])
    assert shares(files, Options(scale=2, suffix="_x2"), share=(1, 2))[1] == pytest.approx([5 * 2 / 6, 5])
