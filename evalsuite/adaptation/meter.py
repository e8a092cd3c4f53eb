"""What adaptation costs, counted by hooks on the network and by looking at what is kept; nothing is declared."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.execution import tensors_in


@dataclasses.dataclass(frozen=True)
class Spent:
    """Sums over batches.

    Attributes
    ----------
    batches, images : how many were adapted on.
    forwards, backwards : passes through the network's root; one over the whole batch counts 1, over a quarter of
        its images 1/4. A backward pass is one that reaches the root's output.
    seconds : wall time of the adapter's steps.
    forward_seconds : wall time of one pass over each batch, as measured on the passes the adapter made.
    """

    batches: int = 0
    images: int = 0
    forwards: float = 0.0
    backwards: float = 0.0
    seconds: float = 0.0
    forward_seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(a - b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


class Meter:
    """Counts passes through a network, and through every copy of it (a teacher counts as well).

    Deep copies of a meter are the meter itself: a reset restores a deep copy of the network, whose hooks must
    go on counting in the same place. Passes outside of :meth:`batch` are not counted.
    """

    def __init__(self) -> None:
        self.spent = Spent()
        self._batch = 0
        self._now = Spent()
        self._passed = 0
        self._passing = 0.0
        self._started: list[float] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def attach(self, model: nn.Module) -> None:
        """Hook a network's root."""
        model.register_forward_pre_hook(self._enter)
        model.register_forward_hook(self._leave)

    @contextlib.contextmanager
    def batch(self, images: Tensor, *, adapts: bool = True) -> Iterator[None]:
        """Count while one (N, C, H, W) batch is adapted on, or only predicted; a step that fails adds nothing."""
        self._batch, self._now, self._passed, self._passing, self._started = len(images), Spent(), 0, 0.0, []
        start = _clock(images.device)
        try:
            yield
            seconds = _clock(images.device) - start
            plain = self._passing / self._passed * self._batch if self._passed else 0.0
            images_adapted = self._batch if adapts else 0
            self.spent += self._now + Spent(int(adapts), images_adapted, seconds=seconds, forward_seconds=plain)
        finally:
            self._batch = 0

    def _enter(self, module: nn.Module, args: Any) -> None:
        if self._batch:
            self._started.append(_clock(_first(args).device))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._batch:
            return
        logits = _first(output)
        self._passing += _clock(logits.device) - self._started.pop()
        self._passed += len(logits)
        self._now += Spent(forwards=len(logits) / self._batch)
        if logits.requires_grad:
            logits.register_hook(functools.partial(self._returned, len(logits)))  # type: ignore[no-untyped-call]

    def _returned(self, images: int, gradient: Tensor) -> None:
        if self._batch:
            self._now += Spent(backwards=images / self._batch)


def _first(values: Any) -> Tensor:
    return tensors_in(values)[0]


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def changed_parameters(model: nn.Module, before: Mapping[str, Tensor]) -> dict[str, int]:
    """Count the scalars that differ from what its parameters were, by parameter; unchanged ones are left out."""
    counts = {}
    for name, parameter in model.named_parameters():
        old = before.get(name)
        if old is None or old.shape != parameter.shape:
            counts[name] = parameter.numel()
        else:
            counts[name] = int((parameter.detach() != old.detach()).sum())
    return {name: count for name, count in counts.items() if count}


def kept_bytes(state: Any, owned: Iterable[Tensor]) -> int:
    """Bytes of all tensors and arrays reachable from ``state`` that do not lie in the storage of ``owned`` ones.

    Containers, objects' attributes (dataclasses, modules, optimisers), bound methods and gradients are
    followed; memory that several tensors share counts once.
    """
    seen = {_storage(tensor) for tensor in owned}
    visited: set[int] = set()
    waiting = [state]
    count = 0
    while waiting:
        value = waiting.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, Tensor):
            if _storage(value) not in seen:
                seen.add(_storage(value))
                count += value.untyped_storage().nbytes()
            waiting.append(value.grad if value.is_leaf else None)
        elif isinstance(value, np.ndarray):
            count += value.nbytes if value.base is None else 0
            waiting.append(value.base)
        else:
            waiting.extend(_inside(value))
    return count


def _storage(tensor: Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage().data_ptr()


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset) or hasattr(value, "popleft"):
        return list(value)
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, type | types.ModuleType | types.FunctionType | str | bytes | int | float | None):
        return []
    slots = [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
    return [*getattr(value, "__dict__", {}).values(), *slots]
