"""Watching a network run: hooks that go again on any exit, operations with the modules in which they run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle


@contextlib.contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Keep hooks while the context lasts.

    Parameters
    ----------
    handles : what registering them returns. From a generator they are registered here, so that the first ones are
        removed too where a later one cannot be registered.
    """
    with contextlib.ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


_PLAIN = frozenset({int, float, bool, str, bytes, type(None)})


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors that values hold, in order, as ``tree_leaves`` finds them.

    What hooks and dispatch see is nearly always a tensor, or a tuple of these: it is taken apart here, for a tree's
    flattening costs more than most operations of a small network.
    """
    if isinstance(values, Tensor):
        return [values]
    kind = type(values)
    if kind is tuple or kind is list:
        return [tensor for value in values for tensor in tensors_in(value)]
    if kind is dict:
        return [tensor for value in values.values() for tensor in tensors_in(value)]
    if kind in _PLAIN:
        return []
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode from which torch's compiler is not kept by loading it; to be entered within :func:`uncompiled`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no: to keep its compiler out of a class, torch loads it, which takes each process a second or two."""
        return False


class Execution(Watching):  # type: ignore[no-untyped-call]
    """One run of a network, watched: a subclass keeps what it wants of the modules' calls and the operations.

    Parameters
    ----------
    model : its modules are known by their qualified names, the model itself by the empty one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = dict(model.named_modules())

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the context lasts; what torch.compile made runs uncompiled, so that its operations are seen."""
        with hooked(self._handles()), uncompiled(), self:
            yield

    def _handles(self) -> Iterator[RemovableHandle]:
        for name, module in self.modules.items():
            yield module.register_forward_pre_hook(_named(self.entered, name), with_kwargs=True)
            yield module.register_forward_hook(_named(self.left, name), with_kwargs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.computed(func, args, kwargs, result)
        return result

    def entered(self, name: str, args: Any, kwargs: Any) -> None:
        """See a module called; a subclass says what for."""

    def left(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """See a module return; a subclass says what for."""

    def computed(self, operation: Any, args: Any, kwargs: Any, result: Any) -> None:
        """See what an ATen operation (an ``OpOverload``) computed; a subclass says what for."""


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Keep torch's compiler still while a context lasts; where nothing has loaded it there is nothing compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


def _named(record: Any, name: str) -> Any:
    return lambda module, *values: record(name, *values)
