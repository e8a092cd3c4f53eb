"""What a network executes, operation by operation, with the module in which each runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.execution import Execution, tensors_in

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
        return any(leaf is tensor for leaf in tensors_in(self.args))

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
            if any(leaf is tensor for leaf in tensors_in(operation.result)):
                if operation.name not in _MOVES:
                    return operation
                tensor = operation.args[0]
        return None


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Run a model on (N, C, H, W) images without gradients and return what it executed.

    All intermediate tensors are kept as long as the trace is: use one image.
    """
    recorder = _Recorder(model)
    with torch.no_grad(), recorder.watching():
        model(example)
    return recorder.trace


class _Recorder(Execution):  # type: ignore[no-untyped-call]
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.trace = Trace()
        self.running = [""]

    def entered(self, name: str, args: Any, kwargs: Any) -> None:
        self.running.append(name)
        if args and isinstance(args[0], Tensor):
            self.trace.inputs[name] = args[0]
        self.trace.calls[name] = self.trace.calls.get(name, 0) + 1

    def left(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        self.running.pop()
        if isinstance(result, Tensor):
            self.trace.outputs[name] = result

    def computed(self, operation: Any, args: Any, kwargs: Any, result: Any) -> None:
        name = operation.overloadpacket.__name__
        self.trace.operations.append(Operation(name, self.running[-1], (*args, *kwargs.values()), result))
