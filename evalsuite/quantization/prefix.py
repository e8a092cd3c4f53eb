"""Running a network only as far as one of its modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.quantization.calibration import batches
from evalsuite.quantization.capture import Reached, not_reached


def batches_of(model: nn.Module, name: str, images: Tensor) -> Iterator[Tensor]:
    """Yield what module ``name`` returns for (N, C, H, W) images, batch by batch, without gradients.

    A module that runs several times is seen the first time. Raises Refused if some images do not reach it.
    """
    found: list[Tensor] = []

    def stop(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output)
        raise Reached

    for batch in batches(images):
        handle = model.get_submodule(name).register_forward_hook(stop)
        try:
            with torch.no_grad(), contextlib.suppress(Reached):
                model(batch)
        finally:
            handle.remove()
        if not found:
            raise not_reached(name)
        yield found.pop()
