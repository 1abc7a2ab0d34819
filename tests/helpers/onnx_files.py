"""Small LIIFs, and ONNX files run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import torch

import liif_fast

PLAIN = {"local_ensemble": False, "feat_unfold": False, "cell_decode": False}


def small(encoder="edsr-baseline", hidden=(32, 24), **flags):
    args = {"edsr-baseline": {"n_resblocks": 2, "n_feats": 8, "no_upsampling": True}, "rdn": {"RDNconfig": "B"}}
    spec = {"name": encoder, "args": args[encoder]}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(hidden)}}
    torch.manual_seed(0)
    return liif_fast.make({"name": "liif", "args": {"encoder_spec": spec, "imnet_spec": imnet, **flags}}).eval()


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def ran(path, **inputs):
    return torch.from_numpy(session(path).run(["result"], {k: np.asarray(v) for k, v in inputs.items()})[0])
