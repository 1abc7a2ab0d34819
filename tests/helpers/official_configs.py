"""Every configuration of the official repository, written out from what sets them apart.

``TRAIN`` and ``TEST``: name of the file there -> contents.
"""

from __future__ import annotations

from typing import Any

NORM = {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")}
ENCODERS = ("edsr-baseline", "rdn")


def spec(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def liif(encoder: str, hidden: int = 4, **flags: bool) -> dict[str, Any]:
    mlp = spec("mlp", out_dim=3, hidden_list=[256] * hidden)
    return spec("liif", encoder_spec=spec(encoder, no_upsampling=True), imnet_spec=mlp, **flags)


def upsampling(encoder: str, scale: int) -> dict[str, Any]:
    return spec("liif", encoder_spec=spec(encoder, scale=scale))


def part(dataset: dict[str, Any], wrapper: dict[str, Any], batch_size: int = 16) -> dict[str, Any]:
    return {"dataset": dataset, "wrapper": wrapper, "batch_size": batch_size}


def schedule(epochs: int, milestones: list[int], gamma: float) -> dict[str, Any]:
    return {
        "optimizer": spec("adam", lr=1e-4),
        "epoch_max": epochs,
        "multi_step_lr": {"milestones": milestones, "gamma": gamma},
        "epoch_val": 1,
        "epoch_save": 100,
    }


def div2k(model: dict[str, Any], **scales: int) -> dict[str, Any]:
    scales = scales or {"scale_max": 4}
    root, keep = "./load/div2k/DIV2K_", {"cache": "in_memory"}
    draw = {"inp_size": 48, **scales, "sample_q": 2304}
    wrapper = "sr-implicit-downsampled"
    return {
        "train_dataset": part(
            spec("image-folder", root_path=f"{root}train_HR", repeat=20, **keep), spec(wrapper, augment=True, **draw)
        ),
        "val_dataset": part(
            spec("image-folder", root_path=f"{root}valid_HR", first_k=10, repeat=160, **keep), spec(wrapper, **draw)
        ),
        "data_norm": NORM,
        "model": model,
        **schedule(1000, [200, 400, 600, 800], 0.5),
    }


def div2k_x2(encoder: str) -> dict[str, Any]:
    def pairs(which: str, **args: Any) -> dict[str, Any]:
        root = f"./load/div2k/DIV2K_{which}_"
        roots = {"root_path_1": f"{root}LR_bicubic/X2", "root_path_2": f"{root}HR"}
        return spec("paired-image-folders", **roots, **args, cache="in_memory")

    return {
        "train_dataset": part(pairs("train", repeat=20), spec("sr-implicit-paired", inp_size=48, augment=True)),
        "val_dataset": part(pairs("valid", first_k=10, repeat=160), spec("sr-implicit-paired", inp_size=48)),
        "data_norm": NORM,
        "model": upsampling(encoder, 2),
        **schedule(1000, [200, 400, 600, 800], 0.5),
    }


def faces(low: int, high: int, key: str, **args: Any) -> dict[str, Any]:
    root = "./load/celebAHQ"
    roots = {"root_path_1": f"{root}/{low}", "root_path_2": f"{root}/{high}"}
    return spec("paired-image-folders", **roots, split_file=f"{root}/split.json", split_key=key, **args, cache="bin")


def celeba(low: int, high: int, upsample: bool) -> dict[str, Any]:
    sizes = {"size_min": low, "size_max": high, **({"gt_resize": high} if upsample else {})}
    return {
        "train_dataset": part(
            faces(low, high, "train"), spec("sr-implicit-uniform-varied", **sizes, sample_q=1024, augment=True)
        ),
        "val_dataset": part(faces(low, high, "val", first_k=100), spec("sr-implicit-paired", sample_q=1024)),
        "data_norm": NORM,
        "model": upsampling("edsr-baseline", high // low) if upsample else liif("edsr-baseline"),
        **schedule(200, [100], 0.1),
    }


TRAIN: dict[str, dict[str, Any]] = {
    **{f"train-div2k/train_{e}-liif": div2k(liif(e)) for e in ENCODERS},
    **{
        f"train-div2k/train_{e}-metasr": div2k(spec("metasr", encoder_spec=spec(e, no_upsampling=True)))
        for e in ENCODERS
    },
    **{f"train-div2k/train_{e}-x2": div2k_x2(e) for e in ENCODERS},
    **{
        f"train-div2k/ablation/train_edsr-baseline-liif-{letter}": div2k(model)
        for letter, model in {
            "c": liif("edsr-baseline", cell_decode=False),
            "d": liif("edsr-baseline", hidden=2),
            "e": liif("edsr-baseline", local_ensemble=False),
            "u": liif("edsr-baseline", feat_unfold=False),
        }.items()
    },
    **{
        f"train-div2k/ablation/train_edsr-baseline-liif-x{s}": div2k(liif("edsr-baseline"), scale_min=s)
        for s in (2, 3, 4)
    },
    **{
        f"train-celebAHQ/train_celebAHQ-{low}-{high}_{kind}": celeba(low, high, kind == "upsample")
        for low, high in ((32, 256), (64, 128))
        for kind in ("liif", "upsample")
    },
}


def files_of(name: str, root: str, scale: int, from_files: bool, hr: str, lr: str) -> dict[str, Any]:
    if from_files:
        roots = {"root_path_1": f"./load/{root}/{lr}/X{scale}", "root_path_2": f"./load/{root}/{hr}"}
        data = part(spec("paired-image-folders", **roots), spec("sr-implicit-paired"), 1)
    else:
        folder = spec("image-folder", root_path=f"./load/{root}/{hr}")
        data = part(folder, spec("sr-implicit-downsampled", scale_min=scale), 1)
    return {"test_dataset": data, "eval_type": f"{name}-{scale}", "eval_bsize": 30000, "data_norm": NORM}


TEST: dict[str, dict[str, Any]] = {
    **{
        f"test/test-{name.lower()}-{s}": files_of("benchmark", f"benchmark/{name}", s, s <= 4, "HR", "LR_bicubic")
        for name in ("Set5", "Set14", "B100", "Urban100")
        for s in (2, 3, 4, 6, 8)
    },
    **{
        f"test/test-div2k-{s}": files_of("div2k", "div2k", s, s <= 4, "DIV2K_valid_HR", "DIV2K_valid_LR_bicubic")
        for s in (2, 3, 4, 6, 12, 18, 24, 30)
    },
    **{
        f"test/test-celebAHQ-{low}-{high}": {
            "test_dataset": part(faces(low, high, "val"), spec("sr-implicit-paired"), 1),
            "data_norm": NORM,
        }
        for low, high in ((32, 256), (64, 128))
    },
}
