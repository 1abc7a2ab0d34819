"""SRGAN's training: the discriminator, the generator's loss, and the losses of content."""

from __future__ import annotations

import copy
import sys
import types

import pytest
import torch
import torch.nn.functional as F
import training_files as files
from liif_queries import grid_of
from torch import nn
from training_files import SRRESNET

import liif_fast
from liif_fast.cli import main as cli
from liif_fast.models.baselines import losses
from liif_fast.weights import checkpoints

GAN = {
    "discriminator": {"name": "srgan-discriminator", "args": {"n_feats": 4, "hidden": 8}},
    "optimizer": {"name": "adam", "args": {"lr": 1e-3}},
}


def gan(images, steady: bool = False, **changes):
    """``steady``: with spectral normalisation and norm_eval."""
    whole = {"inp_size": 12, "scale_min": 2, "augment": True}
    config = files.configuration(
        images, model=SRRESNET, gan=copy.deepcopy(GAN), train_dataset__wrapper__args=whole, val_dataset=None,
        epoch_val=None, **changes,
    )  # fmt: skip
    if steady:
        config["norm_eval"] = True
        config["gan"]["discriminator"]["args"]["norm"] = "spectral"
    return config


@pytest.mark.parametrize("steady", [False, True])
def test_adversarial_training_resumes(steady, images, tmp_path, capsys):
    """Both networks go on bit for bit."""
    for folder, epochs in (("whole", 3), ("run", 1), ("run", 3)):
        config = files.write(tmp_path / "c.yaml", gan(images, steady, epoch_max=epochs))
        assert cli.main(["train", str(config), "--save", str(tmp_path / folder), "--resume"]) == 0
    assert "content loss:" in capsys.readouterr().out
    assert files.losses(tmp_path / "run") == files.losses(tmp_path / "whole")
    whole, run = (torch.load(tmp_path / f / "epoch-last.pth", weights_only=True) for f in ("whole", "run"))
    assert files.same(whole["model"]["sd"], run["model"]["sd"])
    assert files.same(*(c["training"]["critic"]["discriminator"] for c in (whole, run)))
    rate = run["training"]["critic"]["optimizer"]["param_groups"][0]["lr"]
    assert rate == 5e-4  # halved behind epoch 2, like the generator's


def test_the_discriminator_learns(images):
    """Against a generator that stays as it is, it tells its images from real ones after some steps."""
    from liif_fast.training import setup
    from liif_fast.training.config import check
    from liif_fast.training.step import Step

    config = check(gan(images, optimizer__args__lr=1e-12))
    parts = setup.setup(config, torch.device("cpu"), 0)
    step = Step(config, parts.module, parts.module, parts.optimizer, parts.device, 0, parts.critic)
    batch = liif_fast.data.samples.expand(next(iter(parts.train_loader)))
    found = []
    for i in range(25):
        assert step.end(step.begin(batch, i)).updated
        found.append(parts.critic.loss)
    assert 1.0 < found[0] < 2.0  # 2 log 2 at random
    assert found[-1] < 0.3


def test_both_networks_are_judged_alike(images):
    """With batch normalisation a verdict depends on the whole batch: the generator is shown the one that the
    discriminator then learns from, of made images alone."""
    from liif_fast.training import setup
    from liif_fast.training.config import check

    critic = setup.build_critic(check(gan(images)), torch.device("cpu"))
    seen = []
    critic.discriminator.register_forward_hook(lambda module, args, verdict: seen.append(verdict.detach()))
    off = lambda: torch.autocast("cpu", enabled=False)  # noqa: E731
    pred, gt = (torch.rand(2, 24 * 20, 3) - 0.5 for _ in range(2))
    critic.generator_loss(pred, gt, grid_of((24, 20), 2)[1], off)
    critic.update(off)
    of_generator, of_fake, of_real = seen
    assert torch.equal(of_generator, of_fake)
    assert not torch.equal(of_fake, of_real)


@pytest.mark.parametrize("steady", [False, True])
def test_a_step_that_is_left_out_leaves_nothing(steady, images):
    """Nor in the discriminator, whose norms the generator's loss moves."""
    from liif_fast.training import setup
    from liif_fast.training.config import check
    from liif_fast.training.step import Step

    config = check(gan(images, steady))
    parts = setup.setup(config, torch.device("cpu"), 0)
    step = Step(config, parts.module, parts.module, parts.optimizer, parts.device, 0, parts.critic)
    batch = liif_fast.data.samples.expand(next(iter(parts.train_loader)))
    networks = parts.module, parts.critic.discriminator
    before = [{name: t.clone() for name, t in network.state_dict().items()} for network in networks]
    assert step.end(step.begin(batch, 0, failed=True)).failed
    for network, state in zip(networks, before, strict=True):
        assert files.same(network.state_dict(), state)
    assert step.end(step.begin(batch, 0)).updated
    assert not files.same(networks[1].state_dict(), before[1])


def test_generators_loss(images):
    """Content + 0.001 * -log D(G), with D's verdict of the image that the queries make."""
    from liif_fast.training import setup
    from liif_fast.training.config import check

    config = check(gan(images))
    critic = setup.build_critic(config, torch.device("cpu"))
    critic.discriminator.eval()
    pred, gt = torch.rand(2, 24 * 20, 3) - 0.5, torch.rand(2, 24 * 20, 3) - 0.5
    _, cell = grid_of((24, 20), 2)
    got = critic.generator_loss(pred, gt, cell, lambda: torch.autocast("cpu", enabled=False))
    fake, real = (t.view(2, 24, 20, 3).permute(0, 3, 1, 2) for t in (pred, gt))
    d = torch.sigmoid(critic.discriminator(fake))
    want = losses.gradients(fake * 0.5 + 0.5, real * 0.5 + 0.5) - 1e-3 * d.log().mean()
    assert torch.allclose(got, want, rtol=1e-5)
    with pytest.raises(ValueError, match="sample_q"):
        critic.generator_loss(pred[:, :7], gt[:, :7], cell[:, :7], lambda: torch.autocast("cpu", enabled=False))


def test_content_losses(monkeypatch):
    image = torch.rand(1, 3, 16, 16)
    loss, text = losses.content_loss("gradients", torch.device("cpu"))
    assert loss(image, image) == 0
    shifted, blurred = image + 0.1, F.avg_pool2d(image, 3, 1, 1)
    assert loss(shifted, image).item() == pytest.approx(0.01, rel=1e-4)  # flat: only the pixels count
    assert loss(blurred, image) > F.mse_loss(blurred, image)  # edges count more
    assert "gradients" in text
    monkeypatch.setattr(losses, "_why_no_vgg", lambda: "torchvision is not installed")
    assert losses.content_loss("auto", torch.device("cpu"))[1].endswith("(torchvision is not installed)")
    with pytest.raises(FileNotFoundError, match="torchvision is not installed"):
        losses.content_loss("vgg19", torch.device("cpu"))
    assert losses.content_loss("none", torch.device("cpu"))[0] is None


def test_vgg_loss(monkeypatch, tmp_path):
    """With torchvision (its network's 37 layers, in fewer channels here) and a file where it keeps the weights."""

    class VGG(nn.Module):
        def __init__(self):
            super().__init__()
            layers, n_in = [], 3
            for width in (4, 4, 0, 8, 8, 0, *(8,) * 4, 0, *(8,) * 4, 0, *(8,) * 4, 0):
                layers += [nn.Conv2d(n_in, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
                n_in = width or n_in
            self.features = nn.Sequential(*layers)

    torchvision = types.SimpleNamespace(models=types.SimpleNamespace(vgg19=VGG), __spec__=1)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    device = torch.device("cpu")
    with pytest.raises(FileNotFoundError, match=r"vgg19-dcbb9e9d\.pth are not here"):
        losses.content_loss("vgg19", device)
    (tmp_path / "checkpoints").mkdir()
    network = VGG()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "vgg19-dcbb9e9d.pth")
    loss, text = losses.content_loss("auto", device)
    assert "VGG19" in text
    sr, hr = torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 32, 32)
    of_sr, of_hr = (x.clone() for x in (sr, hr))
    for layer in list(network.features)[:-1]:  # all but the last pooling
        mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        of_sr, of_hr = (layer((x - mean) / std if layer is network.features[0] else x) for x in (of_sr, of_hr))
    assert torch.allclose(loss(sr, hr), 0.006 * (of_sr - of_hr).square().mean(), rtol=1e-5)
    loss(sr, hr).backward()
    assert sr.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.parameters())


@pytest.mark.parametrize("kept", [False, True])
def test_norm_eval_keeps_the_statistics(kept, images, tmp_path):
    """Batch normalisation is trained by the statistics that it came with; its weights learn on."""
    model = liif_fast.make(SRRESNET)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
    checkpoints.save(model, tmp_path / "first.safetensors")
    changes = {"init": str(tmp_path / "first.safetensors"), "norm_eval": kept}
    config = files.write(tmp_path / "c.yaml", gan(images, epoch_max=1, **changes))
    assert cli.main(["train", str(config), "--save", str(tmp_path / "run")]) == 0
    trained = liif_fast.load(tmp_path / "run" / "epoch-last.pth").state_dict()
    for name, before in model.state_dict().items():
        if "running" in name:
            assert torch.equal(trained[name], before) == kept
        elif "num_batches" not in name:
            assert not torch.equal(trained[name], before)
