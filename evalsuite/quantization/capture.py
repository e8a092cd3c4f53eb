"""What one module of a network gives for many images, kept in memory or, where that is too much, in a file."""

from __future__ import annotations

import contextlib
import math
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import Refused
from evalsuite.quantization.calibration import batches


class Scratch:
    """Room for large tensors while a context lasts: memory up to a limit, memory-mapped temporary files beyond.

    Parameters
    ----------
    limit : bytes of memory.
    """

    def __init__(self, limit: float) -> None:
        self._left = limit
        self._files = 0
        self._folder = tempfile.TemporaryDirectory(prefix="evalsuite-")

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return an uninitialised tensor of a shape; on the device of ``like`` if it fits the memory."""
        needed = math.prod(shape) * like.element_size()
        if needed <= self._left:
            self._left -= needed
            return like.new_empty(shape)
        self._files += 1
        file = Path(self._folder.name) / str(self._files)
        return torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=like.dtype).reshape(shape)


class _Reached(Exception):
    """The module whose output is wanted has run."""


@torch.no_grad()
def outputs_of(model: nn.Module, name: str, images: Tensor, scratch: Scratch) -> Tensor:
    """Return what module ``name`` returns for (N, C, H, W) images: (N, ...).

    The network runs only as far as that module, so that one which runs several times is seen the first time.
    Raises Refused if some images do not reach it.
    """
    found: list[Tensor] = []

    def stop(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output)
        raise _Reached

    kept: Tensor | None = None
    done = 0
    handle = model.get_submodule(name).register_forward_hook(stop)
    try:
        for batch in batches(images):
            with contextlib.suppress(_Reached):
                model(batch)
            if not found:
                raise Refused(f"{name} is not reached by every calibration image; expected the same path for all")
            output = found.pop()
            if kept is None:
                kept = scratch.empty((len(images), *output.shape[1:]), output)
            kept[done : done + len(batch)] = output
            done += len(batch)
    finally:
        handle.remove()
    assert kept is not None
    return kept
