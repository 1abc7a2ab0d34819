"""Fixtures for all tests. Test data (Set5, Set14, weights) lies where LIIF_FAST_DATA says.

Under pytest-xdist each worker, and each process that it starts, has its share of the processor's threads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:  # before torch reads it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

import pytest  # noqa: E402
import torch  # noqa: E402

GPU = Path(__file__).parent / "gpu"
GPU_DEVICE = os.environ.get("LIIF_FAST_GPU_TEST_DEVICE", "cuda")


def _gpu_tests_run() -> bool:
    return GPU_DEVICE != "cuda" or torch.cuda.is_available()


def _of_gpu(path: Path) -> bool:
    return path == GPU or GPU in path.parents


def pytest_configure(config):
    """Signals do here what they do in a terminal (nohup and a shell's background jobs begin with some of them ignored,
    and so would the processes that tests start); who names tests/gpu is told why it cannot run."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    named = [Path(os.path.abspath(config.invocation_params.dir / arg.split("::")[0])) for arg in config.args]
    if not _gpu_tests_run() and any(map(_of_gpu, named)):
        raise pytest.UsageError(
            "tests/gpu: nothing was run, torch finds no CUDA device (LIIF_FAST_GPU_TEST_DEVICE=cpu checks the tests)"
        )


def pytest_ignore_collect(collection_path):
    return True if _of_gpu(collection_path) and not _gpu_tests_run() else None


def pytest_collection_modifyitems(items):
    """With several workers the longest first, with the others of their file, or the last of them would run alone."""
    if WORKERS > 1:
        items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of test data. Unset: skip. Set but wrong: the test that misses its file fails."""
    where = os.environ.get("LIIF_FAST_DATA")
    if not where:
        pytest.skip("LIIF_FAST_DATA is not set")
    return Path(where)


@pytest.fixture(scope="session")
def official(data_dir):
    """The official EDSR-baseline-LIIF; tests must not change it."""
    import liif_fast

    return liif_fast.load(data_dir / "weights" / "edsr-baseline-liif.pth")


@pytest.fixture(params=["bfloat16", "float32"])
def products(request, monkeypatch) -> torch.dtype:
    """In which precision plain PyTorch multiplies bfloat16 (``matmul_dtype``): each choice, on any processor."""
    from liif_fast.head import precision

    monkeypatch.setattr(precision, "FAST_HALF_CPU", (torch.bfloat16,) if request.param == "bfloat16" else ())
    return getattr(torch, request.param)


@pytest.fixture
def no_matrix_units(monkeypatch) -> None:
    """As on a CPU that is slower in bfloat16, where the command computes in float32 and says nothing of it."""
    from liif_fast.head import precision

    monkeypatch.setattr(precision, "FAST_HALF_CPU", ())
    monkeypatch.setattr(precision, "MATRIX_UNITS_CPU", ())


@pytest.fixture(autouse=True)
def _no_lines_about_progress(monkeypatch) -> None:
    """Tests read what the command says; on a busy machine it would begin to say how far it is."""
    if reporting := sys.modules.get("liif_fast.cli.reporting"):
        monkeypatch.setattr(reporting, "FIRST_LINE", 600.0)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Every test begins with the same seed and leaves the process's switches as it found them."""
    torch.manual_seed(0)
    before = _switches()
    yield
    assert _switches() == before, "the test has left a switch of torch's changed"


def _switches() -> dict[str, object]:
    return {
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture
def no_compiled_code():
    """The compiler keeps a few graphs for each function: those of other tests' models do not count."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class TinyEncoder(torch.nn.Module):
    """Two convolutions: a stand-in with a known receptive field."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.out_dim = channels
        self.receptive_field = 2
        self.first = torch.nn.Conv2d(3, channels, 3, padding=1)
        self.second = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


@pytest.fixture
def tiny():
    """Builds a LIIF with TinyEncoder: tiny(hidden=[16, 16], channels=6, **flags)."""
    import liif_fast

    def build(hidden=(16, 16), channels=6, out_dim=3, **flags):
        imnet = None if hidden is None else {"name": "mlp", "args": {"out_dim": out_dim, "hidden_list": list(hidden)}}
        return liif_fast.LIIF(TinyEncoder(channels), imnet, **flags)

    return build


# --- files of more than one module's tests ---


@pytest.fixture
def photo(tmp_path) -> Path:
    """A small picture of noise."""
    import command

    return command.photo(tmp_path / "photo.png")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory) -> Path:
    """A small untrained model in a file."""
    import command

    return command.small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of small images to train on."""
    import training_files

    return training_files.make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A folder of HR images."""
    import training_files

    return training_files.make_images(tmp_path_factory.mktemp("compare") / "plain")


@pytest.fixture(scope="module")
def paired(tmp_path_factory) -> Path:
    """A folder with HR and LR_bicubic/X2, whose LR images no filter made."""
    import training_files

    return training_files.make_pairs(tmp_path_factory.mktemp("compare") / "paired")
