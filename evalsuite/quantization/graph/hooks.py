"""Modules replaced, and what they got and gave when they first ran."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from evalsuite.errors import Refused
from evalsuite.execution import hooked


class Reached(Exception):
    """The module whose input or output is wanted has run."""


def not_reached(name: str) -> Refused:
    """Build the error for a module that some images pass by."""
    return Refused(f"{name} is not reached by every calibration image; expected the same path for all")


@contextlib.contextmanager
def stand_ins(model: nn.Module, forwards: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Let other functions run in place of modules, by name, while the context lasts."""
    before: dict[nn.Module, Any] = {}
    try:
        for name, forward in forwards.items():
            module = model.get_submodule(name)
            before[module] = module.__dict__.get("forward")
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


def first_calls(model: nn.Module, names: Iterable[str], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what each module got and gave when it first ran."""
    calls: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            if name not in calls:
                calls[name] = (args[0].clone(), output.clone())  # what runs later may overwrite them

        return hook

    with hooked(model.get_submodule(name).register_forward_hook(keep(name)) for name in names):
        model(images)
    return calls


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put new modules in the place of old ones, in place and under every name that the old ones had.

    Returns the model, or what replaces it.
    """
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
    return replacements.get(model, model)
