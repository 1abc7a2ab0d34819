"""Which weights of a checkpoint are meant: it may hold several state dicts, nested, under prefixes, raw and averaged.

A set of weights is a mapping of tensors, or those of its tensors that share a prefix (``model.``, ``ema.module.``).
It is recognised by the names of a LIIF in it. Averaged weights (EMA, SWA) win over raw ones, because every program
that keeps them tests with them; that there were both is said in a note. Otherwise one set must be left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]

_DEPTH, _MAPPINGS = 5, 2_000  # how deep is looked, and at how many
# where a LIIF or an LTE begins in a name: the official and Lornatang's, mmagic's EDSR and RDN
_BEGIN = re.compile(r"(?:^|\.)(?:encoder\.|(?:conv_first|sfe1)\.weight$)")
_HEADS = ("imnet.", "mlp.", "coef.")  # what stands beside the encoder: LTE+ has neither MLP
_AVERAGED = re.compile(r"(?<![A-Za-z])(?:ema|swa|averaged?|polyak)(?![a-z])|EMA|SWA|(?:Ema|Averaged?)(?![a-z])")
_LORNATANG = "encoder.conv1.weight"  # its own inference takes ``state_dict``, though ``ema_state_dict`` lies beside it
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|^loops$|^training$", re.IGNORECASE)
# Where programs put a state dict, the likelier first: for weights that do not look like a LIIF
_WRAPPERS = ("state_dict", "model_state_dict", "model", "params", "net", "network", "generator", "weights")


@dataclass(frozen=True)
class WeightSet:
    """A state dict in a checkpoint. ``place``: the keys and the prefix that lead to it, "" for the whole."""

    place: str
    state: State
    averaged: bool

    @property
    def shown(self) -> str:
        return self.place or "its own tensors"


def choose(raw: Mapping[Any, Any]) -> tuple[State, tuple[str, ...]]:
    """The weights to use, and notes on what was left aside.

    Raises:
        ValueError: several sets of which none is preferred (it names them), or keys that are no names.
    """
    sets = list(_liifs(raw)) or list(_wrapped(raw))
    if not sets:
        return tensors_of(raw), ()
    if own := next((s for s in sets if s.place == "state_dict" and _LORNATANG in s.state), None):
        sets = [own, *(s for s in sets if s is not own and s.averaged)]
        wanted, reason = own, "as in the program that wrote it"
    else:
        wanted, reason = _one([s for s in sets if s.averaged] or sets), "as in the programs that keep both"
    others = [s.shown for s in sets if s.averaged != wanted.averaged]
    if not others:
        return wanted.state, () if wanted.averaged else _unknown_averages(raw)
    kinds = ("averaged", "raw") if wanted.averaged else ("raw", "averaged")
    left = ", ".join(others[:3])
    return wanted.state, (
        f"its {kinds[0]} weights ({wanted.shown}) are used, not the {kinds[1]} ones ({left}), {reason}",
    )


def beside(own: Mapping[Any, Any], raw: Mapping[Any, Any]) -> tuple[State, tuple[str, ...]]:
    """``choose`` for a checkpoint whose weights stand beside their spec: those, or averaged ones elsewhere in it.

    Checkpoints of liif_fast's own training with averaging are of this form with the averaged weights in its place.
    """
    found = list(_liifs(raw)) or list(_wrapped(raw))
    elsewhere = [s for s in found if s.averaged and not f"{s.place}.".startswith("model.sd.")]
    if not elsewhere:
        return tensors_of(own), ()
    wanted = _one(elsewhere)
    return wanted.state, (f"its averaged weights ({wanted.shown}) are used, not the raw ones (model)",)


def tensors_of(state: Mapping[Any, Any]) -> State:
    """Tensors only, without what DataParallel, an averaged model and torch.compile put into the names."""
    if not all(isinstance(key, str) for key in state):
        raise ValueError("a dictionary from names to tensors is wanted, but its keys are not all names")
    tensors = {key.replace("_orig_mod.", ""): t for key, t in state.items() if isinstance(t, Tensor)}
    while tensors and all(key.startswith("module.") or key == "n_averaged" for key in tensors):
        tensors = {key.removeprefix("module."): t for key, t in tensors.items() if key != "n_averaged"}
    return tensors


def without_prefix(state: State, wanted: Mapping[str, Any]) -> State:
    """The same weights under the names that are wanted, if a prefix before all of them is the only difference."""
    first = min(state, default="")
    for i, letter in enumerate(first):
        prefix = first[: i + 1]
        if letter == "." and all(key.startswith(prefix) for key in state) and first.removeprefix(prefix) in wanted:
            return {key.removeprefix(prefix): t for key, t in state.items()}
    return state


def _one(sets: list[WeightSet]) -> WeightSet:
    first = sets[0]
    if any(not _same(first.state, other.state) for other in sets[1:]):
        shown = ", ".join(s.shown for s in sets[:6])
        raise ValueError(
            f"it holds several sets of weights ({shown}), and which is meant cannot be seen; save that one alone"
        )
    return first


def _unknown_averages(raw: Mapping[Any, Any]) -> tuple[str, ...]:
    for path, mapping in _mappings(raw):
        names = (".".join([*path, key.split(".")[0]]) for key, value in mapping.items() if _has_tensors(value))
        if place := next(filter(_is_averaged, names), None):
            return (f"it has averaged weights too ({place[:80]}), in a form that is not known; the raw ones are used",)
    return ()


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(t, Tensor) for t in value)
    )


def _same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(
        t.shape == b[key].shape and t.dtype == b[key].dtype and not t.is_meta and torch.equal(t, b[key])
        for key, t in a.items()
    )


def _liifs(raw: Mapping[Any, Any]) -> Iterator[WeightSet]:
    """All that have the names of a LIIF."""
    for path, mapping in _mappings(raw):
        tensors = {key.replace("_orig_mod.", ""): t for key, t in mapping.items() if isinstance(t, Tensor)}
        prefixes = {key[: m.start()] + "." * (m.start() > 0) for key in tensors if (m := _BEGIN.search(key))}
        with_head = {p for p in prefixes if any(key.startswith(tuple(p + head for head in _HEADS)) for key in tensors)}
        prefixes = with_head or prefixes  # not those of an encoder elsewhere
        for prefix in sorted(prefixes):
            longer = tuple(p for p in prefixes if p.startswith(prefix) and p != prefix)
            keys = [k for k in tensors if k.startswith(prefix) and not (longer and k.startswith(longer))]
            place = ".".join([*path, *filter(None, [prefix.removesuffix(".")])])
            # beside the averaged weights of torch's AveragedModel stands their number, beside Lightning's the raw ones
            averaged = "n_averaged" in tensors or (place.startswith("state_dict") and "current_model_state" in raw)
            state = {k.removeprefix(prefix): tensors[k] for k in keys if k != "n_averaged"}
            yield WeightSet(place, state, averaged or _is_averaged(place))


def _wrapped(raw: Mapping[Any, Any]) -> Iterator[WeightSet]:
    """Averaged weights of any network under a usual key, and the likeliest raw ones."""
    found = [(path, tensors_of(m)) for path, m in _mappings(raw) if path]
    found = [(path, state) for path, state in found if state]
    plain = [(path, state) for path, state in found if path[-1] in _WRAPPERS and not _is_averaged(".".join(path))]
    yield from (WeightSet(".".join(p), state, True) for p, state in found if _is_averaged(".".join(p)))
    if plain:
        path, state = min(plain, key=lambda pair: _WRAPPERS.index(pair[0][-1]))
        yield WeightSet(".".join(path), state, False)


def _is_averaged(place: str) -> bool:
    return bool(_AVERAGED.search(place.replace("_", " ")))


def _mappings(raw: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """The mapping and those in it, each once, with the keys that lead there; none of the optimizer and the like."""
    todo: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), raw)]
    seen = {id(raw)}
    while todo and len(seen) <= _MAPPINGS:
        path, mapping = todo.pop(0)
        if all(isinstance(key, str) for key in mapping):
            yield path, mapping
        for key, value in mapping.items():
            known = not isinstance(value, Mapping) or id(value) in seen or len(path) >= _DEPTH
            if not known and isinstance(key, str) and not _NO_WEIGHTS.search(key):
                seen.add(id(value))
                todo.append(((*path, key), value))
