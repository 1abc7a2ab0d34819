"""The nodes in a real ComfyUI, without a screen: workflows through its HTTP API, their messages on its websocket.

    python tools/check_comfyui.py COMFYUI

Run by ComfyUI's own Python (it has aiohttp), with liif_fast and tests/helpers on its path; tools/check_comfyui.sh does
that. ComfyUI computes on the CPU, in a folder of this program's: that of the checkout stays as it is.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import torch
from PIL import Image

import liif_fast

ROOT = Path(__file__).resolve().parents[1]
ENCODER = {"name": "edsr-baseline", "args": {"n_resblocks": 16, "n_feats": 64, "no_upsampling": True}}
MLP = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [256, 256, 256, 256]}}
SPEC = {"name": "liif", "args": {"encoder_spec": ENCODER, "imnet_spec": MLP}}
WHOLE = {"window_left": 0.0, "window_top": 0.0, "window_width": 0.0, "window_height": 0.0}
LONG = 300  # seconds that anything may take


def prepare(base: Path) -> tuple[liif_fast.LIIF, np.ndarray]:
    """ComfyUI's folders; the model in them, and the image, [H, W, 4]."""
    for folder in ("models/liif", "models/upscale_models", "input", "custom_nodes"):
        (base / folder).mkdir(parents=True)
    (base / "custom_nodes" / "liif").symlink_to(ROOT / "integrations" / "comfyui")
    torch.manual_seed(0)
    model = liif_fast.make(SPEC).eval()
    model.save(base / "models/liif/edsr.safetensors")
    liif_fast.make({"name": "srcnn", "args": {}}).save(base / "models/upscale_models/srcnn.safetensors")
    (base / "models/upscale_models/damaged.pth").write_bytes(b"no checkpoint")
    image = np.random.default_rng(0).integers(0, 256, (12, 15, 4), np.uint8)
    image = np.asarray(Image.fromarray(image).resize((120, 96), Image.Resampling.BICUBIC))
    Image.fromarray(image).save(base / "input/photo.png")
    return model, image


class Server:
    def __init__(self, http: aiohttp.ClientSession, url: str, ws: aiohttp.ClientWebSocketResponse, client: str) -> None:
        self.http, self.url, self.ws, self.client = http, url, ws, client

    async def object_info(self, node: str) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/object_info/{node}") as answer:
            return (await answer.json())[node]

    async def queue(self, workflow: dict[str, Any]) -> dict[str, Any]:
        async with self.http.post(f"{self.url}/prompt", json={"prompt": workflow, "client_id": self.client}) as answer:
            return await answer.json()

    async def run(self, workflow: dict[str, Any], interrupt: bool = False) -> list[tuple[str, dict[str, Any]]]:
        """Messages about a workflow, up to its end; interrupted at the first progress of the upscale node."""
        prompt, found = (await self.queue(workflow))["prompt_id"], []
        while True:
            message = await asyncio.wait_for(self.ws.receive(), LONG)
            if message.type != aiohttp.WSMsgType.TEXT:
                continue
            told = json.loads(message.data)
            kind, data = told["type"], told["data"]
            if data.get("prompt_id") != prompt:
                continue
            found.append((kind, data))
            if interrupt and kind == "progress" and data["value"] > 0:
                interrupt = False
                await (await self.http.post(f"{self.url}/interrupt")).release()
            if kind in ("execution_success", "execution_error", "execution_interrupted"):
                return found


def workflow(prefix: str, model: str = "liif/edsr.safetensors", alpha: bool = False, **upscale: Any) -> dict[str, Any]:
    """LoadImage -> Load LIIF model -> Upscale -> SaveImage, as the API takes them."""
    given = {"width": 0, "height": 0, "scale": 2.0, "dtype": "float32", "tile": 0, **WHOLE, **upscale}
    nodes = {
        "1": ("LoadImage", {"image": "photo.png"}),
        "2": ("LiifFast_Load", {"model_name": model}),
        "3": ("LiifFast_Upscale", {"image": ["5", 0] if alpha else ["1", 0], "model": ["2", 0], **given}),
        "4": ("SaveImage", {"images": ["3", 0], "filename_prefix": prefix}),
    }
    if alpha:  # LoadImage gives it apart
        nodes["5"] = ("JoinImageWithAlpha", {"image": ["1", 0], "alpha": ["1", 1]})
    return {number: {"class_type": kind, "inputs": inputs} for number, (kind, inputs) in nodes.items()}


async def check(server: Server, base: Path, model: liif_fast.LIIF, image: np.ndarray) -> None:
    listed = (await server.object_info("LiifFast_Load"))["input"]["required"]["model_name"]
    options = listed[1]["options"] if listed[0] == "COMBO" else listed[0]
    for name in ("liif/edsr.safetensors", "upscale_models/srcnn.safetensors", "edsr-baseline-liif"):
        assert name in options, options
    about = await server.object_info("LiifFast_Upscale")
    assert about["display_name"] == "Upscale to any size (LIIF)"
    assert list(about["output"]) == ["IMAGE"]
    print(f"listed: {', '.join(options)}")

    window = {"window_left": 10.25, "window_top": -2.0, "window_width": 50.5, "window_height": 40.0}
    for prefix, channels, given, want in (
        ("scale", 3, {"scale": 2.5}, {"scale": 2.5}),
        ("sides", 3, {"width": 301, "tile": 64}, {"size": (241, 301)}),
        ("window", 3, {"height": 131, "width": 190, **window}, {"size": (131, 190), "window": (-2, 10.25, 40, 50.5)}),
        ("alpha", 4, {"scale": 2.0}, {"scale": 2.0}),
    ):
        messages = await server.run(workflow(prefix, alpha=channels == 4, **given))
        assert messages[-1][0] == "execution_success", messages[-1]
        seen = [data for kind, data in messages if kind == "progress" and data["node"] == "3"]
        values = [data["value"] for data in seen]
        assert values == sorted(values)
        assert values[-1] == seen[-1]["max"]
        saved = np.asarray(Image.open(base / "output" / f"{prefix}_00001_.png"))
        large = model.upscale(image[..., :channels].astype(np.float32) / 255, **want)
        expected = (255 * large).astype(np.uint8)  # SaveImage cuts fractions off
        assert saved.shape == expected.shape
        far = np.abs(saved.astype(int) - expected)
        assert far.max() <= 1
        assert far.mean() < 1e-3
        what = "x".join(map(str, saved.shape))
        print(f"{prefix}: {what}, {len(values)} messages of progress, {far.sum()} of {far.size} values 1 / 255 away")

    began = time.perf_counter()
    messages = await server.run(workflow("never", scale=24.0, tile=64), interrupt=True)
    assert messages[-1][0] == "execution_interrupted", messages[-1]
    last = max(data["value"] for kind, data in messages if kind == "progress")
    assert last < 900
    assert not list((base / "output").glob("never*"))
    print(f"interrupted at {last} of 1000, {time.perf_counter() - began:.1f} s after the start")

    for name, says in (("srcnn.safetensors", "a LIIF is wanted"), ("damaged.pth", "damaged.pth: ")):
        messages = await server.run(workflow("never", f"upscale_models/{name}"))
        kind, data = messages[-1]
        assert kind == "execution_error"
        assert says in data["exception_message"]
        assert "\n" not in data["exception_message"].strip()
        print(f"refused: {data['exception_message'].strip().replace(str(base), '')}")
    messages = await server.run(workflow("after", scale=1.5))
    assert messages[-1][0] == "execution_success", messages[-1]


async def serve(comfyui: Path, base: Path) -> None:
    model, image = prepare(base)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
    log = (base / "log").open("w", encoding="utf-8")
    database = f"sqlite:///{base}/comfyui.db"
    command = [sys.executable, str(comfyui / "main.py"), *options, "--disable-api-nodes", "--database-url", database]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=base)
    url, client, until = f"http://127.0.0.1:{port}", uuid.uuid4().hex, time.monotonic() + LONG
    try:
        async with aiohttp.ClientSession() as http:
            while True:
                try:
                    ws = await http.ws_connect(f"{url}/ws?clientId={client}")
                    break
                except aiohttp.ClientError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise
                    await asyncio.sleep(0.5)
            async with ws:
                await check(Server(http, url, ws, client), base, model, image)
    except BaseException:
        print((base / "log").read_text(encoding="utf-8"), file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def check_stand_in(comfyui: Path) -> None:
    """What the tests without ComfyUI use of it takes the same arguments as the real one, in the same order."""
    import comfy_stand_in

    stand_in = comfy_stand_in.signatures(comfy_stand_in.modules(Path("models")))
    sys.path.insert(0, str(comfyui))
    sys.argv[1:] = ["--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import importlib

    names = {name.partition(":")[0] for name in stand_in}
    real = comfy_stand_in.signatures({name: importlib.import_module(name) for name in names})
    for name, own in stand_in.items():
        wanted = [(p.name, p.kind) for p in real[name].parameters.values()]
        got = [(p.name, p.kind) for p in own.parameters.values()]
        assert got == wanted[: len(got)], f"{name}: {real[name]}"
    print(f"the stand-in of the tests: {len(stand_in)} signatures are ComfyUI's")


def main() -> None:
    comfyui = Path(sys.argv[1]).resolve()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as base:
        asyncio.run(serve(comfyui, Path(base).resolve()))
    check_stand_in(comfyui)


if __name__ == "__main__":
    main()
