"""What a network keeps outside of its parameters and buffers, which no ``state_dict`` brings back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_SKIPPED = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"})
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_NOTHING = object()


def plain_attributes(model: nn.Module) -> dict[str, Any]:
    """Return copies of the attributes of all modules, by qualified name, and of buffers that are not persistent.

    Only tensors, arrays, numbers, texts and containers of these; other objects are left out.
    """
    found = {}
    for name, module in model.named_modules():
        hidden = {key: module._buffers.get(key) for key in module._non_persistent_buffers_set}
        for key, value in {**vars(module), **hidden}.items():
            if key not in _SKIPPED and (kept := _copied(value)) is not _NOTHING:
                found[f"{name}.{key}" if name else key] = kept
    return found


def differing_attributes(model: nn.Module, other: nn.Module) -> list[str]:
    """Name the :func:`plain_attributes` that one of two networks lacks or that differ."""
    ours, theirs = plain_attributes(model), plain_attributes(other)
    return sorted(
        name
        for name in ours.keys() | theirs.keys()
        if name not in ours or name not in theirs or not _same(ours[name], theirs[name])
    )


@torch.no_grad()
def lost_attributes(model: nn.Module, before: Mapping[str, Any], images: Tensor) -> list[str]:
    """Name the attributes that a network would lack if its state was restored into what it was before.

    None where it would compute the same without: what a forward pass sets anew is no loss.

    Parameters
    ----------
    before : its :func:`plain_attributes` then.
    images : (N, C, H, W) normalised, to compare its output on.
    """
    now = plain_attributes(model)
    changed = [name for name in now if name not in before or not _same(now[name], before[name])]
    if not changed:
        return []
    twin = copy.deepcopy(model)
    for name in changed:
        owner, _, key = name.rpartition(".")
        module, value = twin.get_submodule(owner), copy.deepcopy(before.get(name))
        (module._buffers if key in module._buffers else vars(module))[key] = value
    twin.load_state_dict(model.state_dict())
    restored = plain_attributes(twin)
    lost = [name for name in changed if not _same(restored.get(name), now[name])]
    return lost if lost and not _gives_the_same(model, twin, images) else []


def _gives_the_same(model: nn.Module, twin: nn.Module, images: Tensor) -> bool:
    expected = model(images)
    try:
        found = twin(images)
    except Exception:  # whatever a network does that lacks what it learnt
        return False
    return isinstance(found, Tensor) and torch.equal(found, expected)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray | np.generic):
        return value.copy()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        kept = {key: _copied(one) for key, one in value.items()}
        return _NOTHING if any(one is _NOTHING for one in kept.values()) else kept
    if isinstance(value, list | tuple):
        items = [_copied(one) for one in value]
        return _NOTHING if any(one is _NOTHING for one in items) else items
    return _NOTHING


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a.nan_to_num(), b.nan_to_num()))
    if isinstance(a, np.ndarray | np.generic) and isinstance(b, np.ndarray | np.generic):
        return bool(np.array_equal(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b or a != a)
