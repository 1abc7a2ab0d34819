"""The state of the runs in files that are small enough to be carried to another machine, and back out of them."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

from liif_fast.training.loop import LAST
from liif_fast.weights import checkpoints

PART, MOST = 15 * 2**20, 60 * 2**20  # bytes of a part, and of all
STATE = "state.tar"
FINISHED = "finished"  # marks the folder of a run whose last epoch is done


def pack(folder: Path, out: Path) -> None:
    """What the next call, or who wants the weights, needs of FOLDER/save: parts of a tar, together below MOST.

    Finished runs keep the model alone; of an unfinished one that is too large only its figures are kept.
    """
    files: dict[str, bytes | Path] = {}
    for path in sorted(p for p in (folder / "save").rglob("*") if p.is_file() and "tensorboard" not in p.parts):
        if path.suffix != ".pth":
            files[str(path.relative_to(folder))] = path
        elif path.name == LAST:
            files[str(path.relative_to(folder))] = model_alone(path) if (path.parent / FINISHED).exists() else path
    total = sum(_size(content) for content in files.values())
    for name in sorted((n for n in files if n.endswith(".pth")), key=lambda n: -_size(files[n])):
        if total > MOST:
            total -= _size(files.pop(name))
            print(f"{name}: too large to be moved; this run begins again elsewhere", flush=True)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            content = content.read_bytes() if isinstance(content, Path) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    whole = data.getvalue()
    for old in out.glob(f"{STATE}.*"):
        old.unlink()
    for number, start in enumerate(range(0, len(whole), PART), 1):
        (out / f"{STATE}.{number}").write_bytes(whole[start : start + PART])
    print(f"{out}: {STATE} of {len(whole) / 2**20:.1f} MiB in parts of {PART / 2**20:.0f}", flush=True)


def restore(state: Path, folder: Path) -> None:
    """Undo ``pack``, unless the folder has runs of its own, which are as new or newer."""
    parts = sorted(state.glob(f"{STATE}.*"), key=lambda p: int(p.suffix[1:]))
    own = folder / "save"
    if not parts or any(own.rglob("*")):
        return
    whole = b"".join(p.read_bytes() for p in parts)
    scratch = folder / "restored"
    shutil.rmtree(scratch, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.extractall(scratch, filter="data")
    own.mkdir(exist_ok=True)
    (scratch / "save").replace(own)
    scratch.rmdir()
    print(f"restored from {len(parts)} parts in {state}", flush=True)


def model_alone(last: Path) -> bytes:
    """A checkpoint's model in the official form, without what only training needs."""
    scratch = last.with_name("model.pth.tmp")
    checkpoints.save_official(checkpoints.load(last), scratch)
    data = scratch.read_bytes()
    scratch.unlink()
    return data


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
