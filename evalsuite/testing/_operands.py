"""What convolutions and linear layers really multiply, seen where torch computes it, whatever modules hold it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.execution import Watching, uncompiled

_PRODUCTS = {
    torch.ops.aten.convolution.default: (0, 1, False),
    torch.ops.aten.addmm.default: (1, 2, True),
    torch.ops.aten.mm.default: (0, 1, True),
}  # position of input and weight, and whether the weight comes transposed


class _Recorder(Watching):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.levels: list[tuple[int, int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in _PRODUCTS:
            read, held, transposed = _PRODUCTS[function]
            weight = args[held].T if transposed else args[held]
            rows = weight.reshape(len(weight), -1)
            self.levels.append((max(_distinct(row) for row in rows), _distinct(args[read])))
        return result


@torch.no_grad()
def levels(network: nn.Module, images: Tensor) -> list[tuple[int, int]]:
    """Return, for each product in order, the most distinct values of a weight's row and those of its input."""
    with uncompiled(), _Recorder() as recorder:
        network(images)
    seen: list[tuple[int, int]] = recorder.levels
    return seen


def _distinct(values: Tensor) -> int:
    return len(np.unique(values.numpy(force=True)))
