"""What the nodes use of ComfyUI, with its signatures (``tools/check_comfyui.sh`` compares them), and nothing behind."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("comfy", "comfy.model_management", "comfy.utils", "comfy_api", "comfy_api.latest", "folder_paths")


class Interrupted(Exception):
    pass


def install(monkeypatch, models: Path) -> SimpleNamespace:
    """In ``sys.modules``, with this folder of models; ``nodes``: the package, loaded as ComfyUI loads it."""
    found = modules(models)
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    folder = ROOT / "integrations" / "comfyui"
    name = str(folder).replace(".", "_x_")
    for part in (name, f"{name}.nodes"):
        monkeypatch.delitem(sys.modules, part, raising=False)
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, package)
    spec.loader.exec_module(package)
    monkeypatch.setitem(sys.modules, f"{name}.nodes", package.nodes)
    return SimpleNamespace(
        package=package,
        nodes=package.nodes,
        management=found["comfy.model_management"],
        bars=found["comfy.utils"].bars,
        paths=found["folder_paths"],
    )


def modules(models: Path) -> dict[str, ModuleType]:
    found = {name: ModuleType(name) for name in NAMES}
    _fill(found["comfy.model_management"], _management())
    _fill(found["comfy.utils"], _utils())
    _fill(found["folder_paths"], _paths(models))
    found["comfy"].model_management, found["comfy"].utils = found["comfy.model_management"], found["comfy.utils"]
    latest = found["comfy_api"].latest = found["comfy_api.latest"]
    latest.io, latest.ComfyExtension = IO, ComfyExtension
    return found


def signatures(found: dict[str, Any]) -> dict[str, inspect.Signature]:
    """Of all that the nodes call, by MODULE:NAME."""
    management, utils, paths = (found[n] for n in ("comfy.model_management", "comfy.utils", "folder_paths"))
    io = found["comfy_api.latest"].io
    called = {
        management: ("get_torch_device", "intermediate_device", "free_memory", "module_size", "should_use_bf16",
                     "should_use_fp16", "throw_exception_if_processing_interrupted"),
        utils: ("ProgressBar", "ProgressBar.update_absolute"),
        paths: ("add_model_folder_path", "get_filename_list", "get_full_path_or_raise", "get_folder_paths"),
    }  # fmt: skip
    result = {}
    for module, names in called.items():
        for name in names:
            it = module
            for part in name.split("."):
                it = getattr(it, part)
            result[f"{module.__name__}:{name}"] = inspect.signature(it)
    parts = {f"{kind}.Input": getattr(io, kind).Input for kind in ("Image", "Int", "Float", "Combo")}
    parts |= {"Image.Output": io.Image.Output, "Custom": io.Custom, "Custom.Input": io.Custom("X").Input}
    parts |= {"Custom.Output": io.Custom("X").Output, "NodeOutput": io.NodeOutput, "Schema": io.Schema}
    return result | {f"comfy_api.latest:{name}": inspect.signature(it) for name, it in parts.items()}


def _fill(module: ModuleType, contents: dict[str, Any]) -> None:
    for name, value in contents.items():
        setattr(module, name, value)


def _management() -> dict[str, Any]:
    freed: list[tuple[float, torch.device]] = []
    state = SimpleNamespace(interrupted=False, half=(False, False), device=torch.device("cpu"))

    def get_torch_device():
        return state.device

    def intermediate_device():
        return torch.device("cpu")

    def free_memory(memory_required, device, keep_loaded=[]):  # noqa: B006  # ComfyUI's
        freed.append((memory_required, device))

    def module_size(module):
        return sum(t.nelement() * t.element_size() for t in module.state_dict().values())

    def should_use_bf16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
        return state.half[0]

    def should_use_fp16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
        return state.half[1]

    def throw_exception_if_processing_interrupted():
        if state.interrupted:
            state.interrupted = False
            raise Interrupted

    return locals()


def _utils() -> dict[str, Any]:
    bars: list[Any] = []

    class ProgressBar:
        def __init__(self, total, node_id=None):
            self.total, self.values = total, []
            self.hook = lambda value: None
            bars.append(self)

        def update_absolute(self, value, total=None, preview=None):
            self.values.append(value)
            self.hook(value)

    return locals()


def _paths(models: Path) -> dict[str, Any]:
    models_dir = str(models)
    supported_pt_extensions = {".ckpt", ".pt", ".pth", ".safetensors"}
    folder_names_and_paths = {"upscale_models": ([str(models / "upscale_models")], supported_pt_extensions)}

    def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
        folder_names_and_paths.setdefault(folder_name, ([], set()))[0].append(full_folder_path)

    def get_filename_list(folder_name: str) -> list[str]:
        folders, kinds = folder_names_and_paths[folder_name]
        files = [str(p.relative_to(f)) for f in folders for p in Path(f).rglob("*") if p.is_file()]
        return sorted(f for f in files if not kinds or os.path.splitext(f)[1].lower() in kinds)

    def get_folder_paths(folder_name: str) -> list[str]:
        return list(folder_names_and_paths[folder_name][0])

    def get_full_path_or_raise(folder_name: str, filename: str) -> str:
        for folder in folder_names_and_paths[folder_name][0]:
            if os.path.isfile(path := os.path.join(folder, filename)):
                return path
        raise FileNotFoundError(f"Model in folder '{folder_name}' with filename '{filename}' not found.")

    return {name: value for name, value in locals().items() if name != "models"}


class _Input:
    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
        self.id, self.tooltip = id, tooltip


class _Output:
    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.display_name = display_name


def _custom(io_type):
    return type(io_type, (), {"io_type": io_type, "Input": _Input, "Output": _Output})


class _Combo:
    class Input(_Input):
        def __init__(
            self, id, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
            control_after_generate=None, upload=None, image_folder=None, remote=None, socketless=None,
        ):  # fmt: skip
            super().__init__(id)
            self.options, self.default = options, options[0] if default is None else default


class _Int:
    class Input(_Input):
        def __init__(
            self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
            step=None, control_after_generate=None, display_mode=None, socketless=None, force_input=None,
        ):  # fmt: skip
            super().__init__(id)
            self.default, self.min, self.max = default, min, max


class _Float:
    class Input(_Input):
        def __init__(
            self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
            step=None, round=None, display_mode=None, socketless=None, force_input=None,
        ):  # fmt: skip
            super().__init__(id)
            self.default, self.min, self.max, self.round = default, min, max, round


@dataclasses.dataclass
class _Schema:
    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list = None
    outputs: list = None
    hidden: list = None
    description: str = ""


class _NodeOutput:
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args = args


class _ComfyNode(ABC):
    @classmethod
    @abstractmethod
    def define_schema(cls): ...

    @classmethod
    @abstractmethod
    def execute(cls, **kwargs): ...


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self): ...


IO = SimpleNamespace(
    ComfyNode=_ComfyNode, Schema=_Schema, NodeOutput=_NodeOutput, Image=_custom("IMAGE"), Int=_Int, Float=_Float,
    Combo=_Combo, Custom=_custom,
)  # fmt: skip
