"""LIIF on an encoder of one's own, trained on a folder of pictures in a loop of one's own.

    python examples/own_encoder.py load/photos my.safetensors --steps 1000
    liif-fast photo.jpg -s 2 -m my.safetensors --import examples/own_encoder.py

``liif-fast train my.yaml --import examples/own_encoder.py`` trains by a configuration instead, with
``encoder_spec: {name: my-encoder, args: {width: 32}}`` in it: validation, checkpoints, resuming, several GPUs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import liif_fast
import liif_fast.data


@liif_fast.register("my-encoder")
class MyEncoder(nn.Module):
    """[B, 3, H, W] -> [B, width, H, W]. ``out_dim`` is what LIIF asks for; ``receptive_field``, in pixels to each side,
    is what allows tiles."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.out_dim, self.receptive_field = width, 2
        self.net = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net(x)
        return features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="pictures of at least 96x96 pixels")
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()

    pictures = liif_fast.data.ImageFolder(args.folder, repeat=20)
    samples = liif_fast.data.SRImplicitDownsampled(pictures, inp_size=24, scale_max=4, augment=True, sample_q=576)
    loader = torch.utils.data.DataLoader(samples, batch_size=8, shuffle=True)
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [64, 64]}}
    model = liif_fast.LIIF({"name": "my-encoder"}, imnet)
    model.data_norm = {"inp": {"sub": [0.5], "div": [0.5]}, "gt": {"sub": [0.5], "div": [0.5]}}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    while step < args.steps:
        for batch in loader:
            colours = model(batch["inp"] * 2 - 1, batch["coord"], batch["cell"])
            loss = nn.functional.l1_loss(colours, batch["gt"] * 2 - 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 100 == 0 or step == args.steps:
                print(f"step {step}: loss {loss.item():.4f}")
            if step == args.steps:
                break
    model.eval().save(args.output)


if __name__ == "__main__":
    main()
