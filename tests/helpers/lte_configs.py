"""Every configuration of the LTE repository (jaewon-lee-b/lte, CVPR 2022), written out from what sets them apart.

``TRAIN`` and ``TEST``: name of the file there -> contents. Most are LIIF's with a key ``resume``.
"""

from __future__ import annotations

import copy
from typing import Any

import official_configs as liif_configs
from official_configs import liif, spec, upsampling

ENCODERS = ("edsr-baseline", "rdn", "swinir")
REFUSED = "train-div2k/train_swinir-liif"  # its model is the encoder, which its own program refuses too


def head(name: str, encoder: str, **args: Any) -> dict[str, Any]:
    return spec(name, encoder_spec=spec(encoder, no_upsampling=True), **args)


def lte(encoder: str) -> dict[str, Any]:
    mlp = spec("mlp", out_dim=3, hidden_list=[256] * 3)
    return head("lte", encoder, imnet_spec=mlp, hidden_dim=256)


def resumed(config: dict[str, Any], folder: str) -> dict[str, Any]:
    return {**config, "resume": f"./save/{folder}/epoch-last.pth"}


def div2k(name: str, model: dict[str, Any]) -> dict[str, Any]:
    return resumed(liif_configs.div2k(model), f"_train_{name}")


def one_scale(encoder: str, scale: int) -> dict[str, Any]:
    config = copy.deepcopy(liif_configs.div2k_x2(encoder))
    for key in ("train_dataset", "val_dataset"):
        args = config[key]["dataset"]["args"]
        args["root_path_1"] = args["root_path_1"].replace("X2", f"X{scale}")
    return resumed({**config, "model": upsampling(encoder, scale)}, f"_train_{encoder}-x{scale}")


def swinir_lte() -> dict[str, Any]:
    """Larger batches and another schedule."""
    config = div2k("swinir-lte", lte("swinir"))
    for key in ("train_dataset", "val_dataset"):
        config[key] = {**config[key], "batch_size": 32}
    milestones = {"milestones": [500, 800, 900, 950], "gamma": 0.5}
    return {**config, "optimizer": spec("adam", lr=2e-4), "multi_step_lr": milestones}


def fast() -> dict[str, Any]:
    model = head("lte-fast", "edsr-baseline", num_layer=3, hidden_dim=256, out_dim=3)
    config = resumed(copy.deepcopy(liif_configs.div2k(model)), "train_edsr-baseline-lte-fast")
    for key in ("train_dataset", "val_dataset"):
        wrapper = config[key]["wrapper"]
        wrapper["name"] += "-fast"
        del wrapper["args"]["sample_q"]
    return config


TRAIN: dict[str, dict[str, Any]] = {
    **{f"train-div2k/train_{e}-metasr": div2k(f"{e}-metasr", head("metasr", e)) for e in ENCODERS},
    **{f"train-div2k/train_{e}-liif": div2k(f"{e}-liif", liif(e)) for e in ENCODERS[:2]},
    REFUSED: div2k("swinir-liif", {**liif("swinir"), "name": "swinir"}),
    **{f"train-div2k/train_{e}-lte": div2k(f"{e}-lte", lte(e)) for e in ENCODERS[:2]},
    "train-div2k/train_swinir-lte": swinir_lte(),
    "train-div2k/train_edsr-baseline-lte-fast": fast(),
    **{f"train-div2k/train_{e}-x{s}": one_scale(e, s) for e in ENCODERS[:2] for s in (2, 3, 4)},
}


def _test_files() -> dict[str, dict[str, Any]]:
    """LIIF's of Set5 to DIV2K, Set5 with more queries at a time, and all of them again for grids of queries."""
    found = {}
    for name, config in liif_configs.TEST.items():
        if "celebA" in name:
            continue
        plain, fast = copy.deepcopy(config), copy.deepcopy(config)
        fast["test_dataset"]["wrapper"]["name"] += "-fast"
        fast["eval_bsize"] = 300000
        plain["eval_bsize"] = 300000 if "set5" in name else 30000
        found |= {name: plain, name.replace("test-", "test-fast-"): fast}
    return found


TEST = _test_files()
