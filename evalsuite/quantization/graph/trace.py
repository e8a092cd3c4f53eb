"""What a network executes, operation by operation, with the module in which each runs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# ATen's operations whose result holds values of their first argument, and no others.
_MOVES = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze"),
        *("permute", "transpose", "t", "expand", "roll", "flip", "select", "slice", "narrow", "unbind", "split"),
        *("split_with_sizes", "chunk", "clone", "contiguous", "alias", "detach", "_to_copy", "dropout"),
    }
)


@dataclass(frozen=True, eq=False)
class Operation:
    """One ATen operation: its name without overload, the innermost module, its arguments and its result."""

    name: str
    module: str
    args: tuple[Any, ...]
    result: Any

    def reads(self, tensor: Tensor) -> bool:
        """Whether the tensor is an argument."""
        return any(leaf is tensor for leaf in tree_leaves(self.args))

    @property
    def in_place(self) -> bool:
        """Whether the result is the first argument."""
        return bool(self.args) and self.result is self.args[0]


@dataclass(eq=False)
class Trace:
    """One execution: the operations in order, and the modules' calls.

    Attributes
    ----------
    calls : how often each module ran.
    outputs : what each module that returns one tensor returned last.
    inputs : the first argument of each module's last call, where it is a tensor.
    """

    operations: list[Operation] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)

    def only_reader(self, tensor: Tensor) -> Operation | None:
        """Return the one operation that reads a tensor, or overwrites it before all others; None if several do."""
        readers = [operation for operation in self.operations if operation.reads(tensor)]
        return readers[0] if readers and (len(readers) == 1 or readers[0].in_place) else None

    def source(self, tensor: Tensor) -> Operation | None:
        """Return the operation that computed a tensor's values, past those that only move them; None if none did."""
        for operation in reversed(self.operations):
            if any(leaf is tensor for leaf in tree_leaves(operation.result)):
                if operation.name not in _MOVES:
                    return operation
                tensor = operation.args[0]
        return None


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Run a model on (N, C, H, W) images without gradients and return what it executed.

    All intermediate tensors are kept as long as the trace is: use one image.
    """
    found = Trace()
    running = [""]
    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            enter = module.register_forward_pre_hook(_enter(found, running, name))
            leave = module.register_forward_hook(_leave(found, running, name))
            stack.callback(enter.remove)
            stack.callback(leave.remove)
        stack.enter_context(_Recorder(found, running))
        model(example)
    return found


def _enter(found: Trace, running: list[str], name: str) -> Any:
    def hook(module: nn.Module, args: Any) -> None:
        running.append(name)
        if args and isinstance(args[0], Tensor):
            found.inputs[name] = args[0]
        found.calls[name] = found.calls.get(name, 0) + 1

    return hook


def _leave(found: Trace, running: list[str], name: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()
        if isinstance(output, Tensor):
            found.outputs[name] = output

    return hook


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, found: Trace, running: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found
        self.running = running

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        arguments = (*args, *(kwargs or {}).values())
        self.found.operations.append(Operation(name, self.running[-1], arguments, result))
        return result
