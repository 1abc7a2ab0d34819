"""``liif-fast models``, ``info`` and ``completion``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings

import command
import image_bytes
import numpy as np
import pytest
import swinir_weights
import torch
from PIL import Image, ImageCms

import liif_fast
from liif_fast.cli import info
from liif_fast.weights import describe, pretrained


def said(capsys, *arguments):
    code, out, err = command.outcome(capsys, *arguments)
    return code, out, err


def test_models(capsys, tmp_path, monkeypatch):
    """Where weights are, or that they are not here yet; nothing is fetched."""
    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path))
    code, out, err = said(capsys, "models")
    assert (code, err) == (0, "")
    assert "edsr-baseline-liif\n  LIIF on EDSR-baseline" in out
    assert "6.3 MB, not here yet" in out
    assert "licence: BSD-3-Clause, copyright (c) 2020 Yinbo Chen" in out
    known = out.splitlines()[-1].rpartition(": ")[2].split(", ")
    assert {"liif", "lte", "lte-fast", "rdn", "swinir"} <= set(known)
    kept = tmp_path / "edsr-baseline-liif.safetensors"
    kept.write_bytes(b"")
    _, out, _ = said(capsys, "models", "--json")
    found = json.loads(out)
    assert found["weights"][0]["path"] == str(kept)
    assert "rcan" in found["architectures"]


def test_the_size_that_is_said(data_dir, tmp_path, monkeypatch):
    model = liif_fast.load(data_dir / "weights" / "edsr-baseline-liif.pth")
    source = pretrained._SOURCES["edsr-baseline-liif"]
    liif_fast.checkpoints.save(model, tmp_path / "kept.safetensors", credit=source.credit)
    # but for the version's digits in it
    assert abs((tmp_path / "kept.safetensors").stat().st_size - source.size) < 100


def test_info_of_checkpoints(capsys, tmp_path, monkeypatch):
    small = command.small_model(tmp_path)
    official = tmp_path / "epoch-last.pth"
    model = liif_fast.load(small)
    spec = {"name": "liif", "args": model.spec["args"], "sd": model.state_dict()}
    optimizer = {"name": "adam", "args": {"lr": 1e-4}, "sd": {}}
    torch.save({"model": spec, "optimizer": optimizer, "epoch": 7}, official)
    code, out, err = said(capsys, "info", small, official)
    assert (code, err) == (0, "")
    count = sum(p.numel() for p in model.parameters())
    assert f"{small}: checkpoint of a LIIF, {count:,} parameters in float32" in out
    assert (
        "encoder: EDSR, 8 channels, exact in tiles with a halo of 5 pixels" in out
    )  # the encoder's 4, and 1 of the unfolding
    assert "imnet: 16, 16, 3 outputs" in out
    assert "images in [0, 1] become (x - 0.5) / 0.5" in out
    assert "epoch: 7\n  optimizer: adam, lr 0.0001" in out
    _, out, _ = said(capsys, "info", official, "--json")
    found = json.loads(out)
    assert found["kind"] == "checkpoint"
    assert found["training"] == {"epoch": 7, "optimizer": {"name": "adam", "lr": 1e-4}}
    assert found["spec"]["name"] == "liif"


LTE = {
    "lte": "  imnet: 16, 3 outputs of its layers",
    "lte-fast": "  layers: 32, 32, 3 outputs of its layers",
}


@pytest.mark.parametrize("name", LTE)
@pytest.mark.parametrize("swinir", [False, True])
def test_info_of_an_lte(capsys, tmp_path, name, swinir):
    """What LTE does not take is not said of it; of its bare state dict the same is said."""
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "no_upsampling": True}}
    if swinir:
        encoder = {"name": "swinir", "args": {**swinir_weights.SMALL, "no_upsampling": True}}
    mlp = {"num_layer": 2} if name == "lte-fast" else {"imnet_spec": command.MLP}
    model = liif_fast.make({"name": name, "args": {"encoder_spec": encoder, "hidden_dim": 32, **mlp}})
    model.save(tmp_path / "own.safetensors")
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    halo = model.encoder.receptive_field + 1  # the convolutions that make the waves are 3x3
    for file in ("own.safetensors", "bare.pth"):
        code, out, err = said(capsys, "info", tmp_path / file)
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert f"checkpoint of an {type(model).__name__}, " in lines[0]
        where = f"exact in tiles with a halo of {halo} pixels" + (", in windows of 8" if swinir else "")
        assert lines[1] == f"  encoder: {type(model.encoder).__name__}, 64 channels, {where}"
        assert lines[2:4] == ["  hidden_dim: 32, so 16 waves of each feature", LTE[name]]
        assert lines[4].startswith("  spec: {")
        assert not any(flag in "\n".join(lines[:4] + lines[5:]) for flag in describe.FLAGS)
        found = json.loads(said(capsys, "info", tmp_path / file, "--json")[1])
        assert (found["hidden_dim"], found["halo"], found["pad_to"]) == (32, halo, 8 if swinir else 1)
        assert found["receptive_field"] == halo - 1
        assert ("layers" in found, "imnet" in found) == (name == "lte-fast", name == "lte")
        assert not set(describe.FLAGS) & found.keys()
        assert found["spec"]["name"] == name


def test_info_says_where_tiles_cannot_be(capsys, tmp_path):
    rcan = {"name": "rcan", "args": {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 16, "no_upsampling": True}}
    liif_fast.make({"name": "lte-fast", "args": {"encoder_spec": rcan}}).save(tmp_path / "rcan.safetensors")
    assert "RCAN, 16 channels, it needs whole pictures\n" in said(capsys, "info", tmp_path / "rcan.safetensors")[1]
    assert json.loads(said(capsys, "info", tmp_path / "rcan.safetensors", "--json")[1])["halo"] is None


def test_info_of_pictures(capsys, tmp_path):
    photo, cmyk = tmp_path / "photo.jpg", tmp_path / "cmyk.tif"
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (14, 10)).save(photo, exif=exif, icc_profile=profile, dpi=(72, 72))
    Image.new("CMYK", (6, 5)).save(cmyk)
    code, out, err = said(capsys, "info", photo, cmyk)
    assert (code, err) == (0, "")
    assert f"{photo}: JPEG, 10x14 (0.0 megapixels), mode RGB, 8 bits a channel" in out
    assert "orientation: 6, turned upright" in out
    assert "profile: sRGB" in out
    assert "exif, icc, dpi" in out
    assert f"{cmyk}: TIFF, 6x5" in out
    assert "CMYK" in out.split(str(cmyk))[1]
    _, out, _ = said(capsys, "info", cmyk, "--json")
    found = json.loads(out)
    assert found["lost"], "its colours are converted"
    assert (found["kind"], found["size"], found["written_as"]) == ("picture", [6, 5], ".tif")


def test_info_of_a_file_needs_no_cache(capsys, tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LIIF_FAST_CACHE", raising=False)
    monkeypatch.setattr(pretrained.Path, "home", homeless)
    assert said(capsys, "info", command.small_model(tmp_path))[0] == 0
    code, _, err = said(capsys, "info", "edsr-baseline-liif")
    assert (code, "set LIIF_FAST_CACHE to a folder" in err) == (1, True)


def test_info_of_several_frames(capsys, tmp_path):
    """Nothing is said to be lost that is kept."""
    frames = [Image.new("RGB", (6, 5), (40 * i, 0, 0)) for i in range(3)]
    for name in ("a.gif", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    code, out, err = said(capsys, "info", tmp_path / "a.gif", tmp_path / "a.tif")
    assert (code, err) == (0, "")
    assert out.count("frames or pages: 3") == 2
    assert "only the first" not in out
    assert "GIF holds 256 colours in each frame" in out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_info_goes_on_after_what_cannot_be_read(capsys, tmp_path, monkeypatch):
    """Pipes are not waited for; Pillow's limit is not the command's."""
    photo, large, pipe = tmp_path / "photo.png", tmp_path / "large.png", tmp_path / "pipe.png"
    command.photo(photo)
    Image.new("1", (64, 64)).save(large)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    os.mkfifo(pipe)
    code, out, err = said(capsys, "info", pipe, large, photo)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{pipe}: it is no regular file" in err
    assert f"{large}: PNG, 64x64" in out
    assert f"{photo}: PNG, 14x10" in out
    monkeypatch.setattr(info, "MAX_PIXELS", 1000)
    code, out, err = said(capsys, "info", large, photo)
    assert f"{large}: more than 1000 pixels" in err
    assert f"{photo}: PNG, 14x10" in out


def test_info_of_neither(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LIIF_FAST_CACHE", str(tmp_path / "empty"))
    text, cut = tmp_path / "text.pth", tmp_path / "cut.png"
    text.write_text("hello", encoding="utf-8")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    for name, words in (
        (text, "neither safetensors nor a PyTorch file"),
        (cut, "cut.png: "),
        (tmp_path / "none", "there is no such file"),
        (tmp_path, "folder"),
        ("edsr-baseline-liif", "its weights are not here yet"),
    ):
        code, out, err = said(capsys, "info", name)
        assert (code, out, err.count("\n")) == (1, "", 1), name
        assert words in err
    assert not (tmp_path / "empty").exists()


def test_info_of_what_pillow_alone_does_not_read(capsys, tmp_path):
    raw, pipe, bomb = tmp_path / "x.raf", tmp_path / "pipe.png", tmp_path / "bomb.png"
    raw.write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(100))
    os.mkfifo(pipe)  # nobody writes to it
    bomb.write_bytes(image_bytes.png(60000, 60000, 8, 2, [b""]))
    for path, words in (
        (raw, "is a camera's raw file (RAF)"),
        (pipe, "no regular file"),
        (bomb, f"{bomb}: more than 268435456 pixels; if you trust the file, raise the limit"),
    ):
        code, out, err = said(capsys, "info", path)
        assert (code, out, err.count("\n")) == (1, "", 1), path
        assert words in err
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    heif.from_pillow(Image.new("RGB", (14, 10))).save(tmp_path / "x.heic")
    script = f"from liif_fast.cli.main import main; raise SystemExit(main(['info', {str(tmp_path / 'x.heic')!r}]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)  # no plugin loaded before
    assert (done.returncode, done.stderr) == (0, "")
    assert "x.heic: HEIF, 14x10" in done.stdout


@pytest.mark.parametrize(("suffix", "lost"), [("gif", "256 colours in each frame"), ("png", ""), ("tif", "")])
def test_info_of_several_pictures_says_what_upscale_keeps(capsys, tmp_path, suffix, lost):
    pictures = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue", "green")]
    pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:])
    code, out, err = said(capsys, "info", tmp_path / f"a.{suffix}")
    assert (code, err) == (0, "")
    assert "frames or pages: 3" in out
    assert out.count("written as") == bool(lost)
    assert lost in out
    assert "only the first" not in out


def test_info_of_a_large_picture_warns_of_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (15, 10)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, _, err = said(capsys, "info", tmp_path / "a.png")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys, shell):
    code, out, _ = said(capsys, "completion", shell)
    assert code == 0
    assert "liif" in out
    assert "skip-existing" in out


def test_completion_in_bash(capsys, tmp_path):
    if not (bash := shutil.which("bash")):
        pytest.skip("there is no bash here")
    _, out, _ = said(capsys, "completion", "bash")
    script = tmp_path / "completion.sh"
    script.write_text(out, encoding="utf-8")
    (tmp_path / "photo.png").touch()

    def completed(*words):
        line = f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"'
        function = 'eval "$(complete -p liif-fast | sed "s/.*-F \\([^ ]*\\) .*/\\1/")"; echo "${COMPREPLY[@]}"'
        text = f"source {script}; {line}; {function}"
        done = subprocess.run([bash, "-c", text], capture_output=True, text=True, cwd=tmp_path)
        return done.stdout.split()

    assert completed("liif-fast", "upscale", "--fi") == ["--fit", "--fill"]
    assert "upscale" in completed("liif-fast", "up")
    assert completed("liif-fast", "upscale", "pho") == ["photo.png"]
    assert "bfloat16" in completed("liif-fast", "upscale", "--dtype", "bf")


def test_completion_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, out, err = said(capsys, "completion", "bash")
    assert (code, out) == (2, "")
    assert "pip install shtab" in err
    assert os.linesep not in err.rstrip()
