"""Whether an MLP does what its weights say, so that its first layer may be folded: asked of every layer, not assumed.

What someone has put into a model (another class of layer, a ``forward`` of its own, hooks, a compiler) must have its
effect. Weights are read only where calling the layers could give nothing else; all the rest is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.modules.module as module_state
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

from ..head.unwatched import plain
from .mlp import MLP

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = tuple(f"_global{name}" for name in _HOOKS)
# as they are when this is imported: a later replacement on the class is a change too
_CALL = {name: getattr(nn.Module, name) for name in ("__call__", "_wrapped_call_impl", "_call_impl")}
_MLP, _SEQUENTIAL, _LINEAR, _RELU = MLP.forward, nn.Sequential.forward, nn.Linear.forward, nn.ReLU.forward
_ITERATION = {name: getattr(nn.Sequential, name) for name in ("__iter__", "__len__")}


def layers(imnet: Any) -> list[tuple[Tensor, Tensor]] | None:
    """Weight ``[out, in]`` and bias ``[out]`` (zeros where a layer has none) of each linear layer of liif_fast's MLP.

    None: another decoding function, or one in which something makes a layer do more than its weights say. Layers with
    ``torch.nn.utils.parametrizations`` are linear layers all the same: their weights are what these make of them.
    """
    tracing = torch.compiler.is_compiling()  # which puts in calls and tensors of its own
    if _changed_globally() or not (tracing or _are(nn.Module, _CALL)):
        return None
    if not isinstance(imnet, MLP) or not runs(imnet, _MLP):
        return None
    inner = members(imnet.layers)
    if len(inner) % 2 == 0 or not all(runs(m, _RELU if i % 2 else _LINEAR) for i, m in enumerate(inner)):
        return None
    found = [(m.weight, m.bias) for m in inner[::2]]
    if not tracing and not plain(t for layer in found for t in layer):
        return None
    return [(w, w.new_zeros(w.shape[0]) if b is None else b) for w, b in found]


def calls_are_torchs() -> bool:
    """Whether calling a module means for all modules of the process what torch has it mean."""
    return not _changed_globally() and _are(nn.Module, _CALL)


def members(module: Any) -> list[Any]:
    """The layers of a Sequential, if calling it calls these in turn and does nothing else; else none."""
    if not isinstance(module, nn.Sequential) or not runs(module, _SEQUENTIAL) or not _are(type(module), _ITERATION):
        return []
    return list(module)


def runs_relu(module: nn.Module) -> bool:
    return runs(module, _RELU)


def runs(module: nn.Module, forward: Callable[..., Any]) -> bool:
    """Whether calling a module runs this ``forward`` (as a function of its class) and nothing else."""
    own = vars(module)
    kind = type(module)
    if kind.forward is not forward or any(getattr(kind, n) is not getattr(nn.Module, n) for n in _CALL):
        return False
    if hooked(module):
        return False
    return "forward" not in own and "_call_impl" not in own and getattr(module, "_compiled_call_impl", None) is None


def hooked(module: nn.Module) -> bool:
    """Whether hooks are registered on a module that run when it is called or differentiated."""
    own = vars(module)
    return any([own.get(name) for name in _HOOKS])  # a list: renderer asks every module for every image


def watched(parameter: Tensor) -> bool:
    """Whether hooks are registered on a parameter that run when a gradient of it arrives."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def hooked_globally() -> bool:
    """Whether there are hooks on all modules of the process (``torch.nn.modules.module.register_module_*_hook``)."""
    return any(getattr(module_state, name) for name in _GLOBAL_HOOKS)


def _changed_globally() -> bool:
    """Whether one of them may change what modules compute: all but torch's ``ModuleTracker``, which follows which is at
    work so that ``FlopCounterMode`` can say it, and must not see another way taken than without it."""
    hooks = (hook for name in _GLOBAL_HOOKS for hook in getattr(module_state, name).values())
    return any(type(getattr(hook, "__self__", None)) is not ModuleTracker for hook in hooks)


def _are(kind: type, methods: Mapping[str, Any]) -> bool:
    return all(getattr(kind, name) is function for name, function in methods.items())
