"""What a network makes of images: its logits, and the features that its classifier reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite import checksums
from evalsuite.errors import RequestError
from evalsuite.files import read_arrays
from evalsuite.plugins import PoolOutputs
from evalsuite.structure import describe
from evalsuite.weight_layers import CONVOLUTIONS

_MOST = 2**36  # bytes of outputs that are read; their checksum has been compared


@torch.no_grad()
def look(model: nn.Module, batches: Iterable[Tensor]) -> PoolOutputs:
    """Run a network in eval mode over batches of normalised (n, C, H, W) images, on the device where they are.

    The classifier is the last weight layer that the network runs (:func:`evalsuite.structure.describe`); its input
    is averaged over the pixels of a map and over tokens, where it has them. Raises RequestError if there is no
    batch, or the network cannot be run on the first.
    """
    head: str | None = None
    read: list[Tensor] = []
    logits: list[Tensor] = []
    features: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        read.append(args[0])

    for batch in batches:
        head = head or describe(model, batch).head
        read.clear()
        handle = model.get_submodule(head).register_forward_pre_hook(keep)
        try:
            logits.append(model(batch).float().cpu())
        finally:
            handle.remove()
        features.append(_vectors(read[-1], is_map=isinstance(model.get_submodule(head), CONVOLUTIONS)).float().cpu())
    if not logits:
        raise RequestError("no image to look at: expected at least one batch")
    return PoolOutputs(np.asarray(torch.cat(logits)), np.asarray(torch.cat(features)))


def kept(file: Path, images: int, make: Callable[[], PoolOutputs]) -> PoolOutputs:
    """Read the outputs of so many images from a file, or make them and keep them there; a damaged file is made again.

    Raises RequestError if what is made has another number of rows, or is not finite.
    """
    try:
        checksums.verify(file, required=True)
        arrays = read_arrays(file, _MOST)
        return _checked(PoolOutputs(arrays["logits"], arrays["features"]), images)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, KeyError) as error:
        checksums.warn_of(file, error, "the network looks at the pool again")
    outputs = _checked(make(), images)
    with checksums.sealing(file) as temporary:
        np.savez(temporary, logits=outputs.logits, features=outputs.features)
        checksums.append_blank(temporary)
    return outputs


def _checked(outputs: PoolOutputs, images: int) -> PoolOutputs:
    for name, array in (("logits", outputs.logits), ("features", outputs.features)):
        if array.ndim != 2 or len(array) != images or not np.issubdtype(array.dtype, np.floating):
            raise RequestError(f"{name} of the pool: {array.dtype} of shape {array.shape}: expected {images} rows")
        if not np.isfinite(array).all():
            raise RequestError(f"{name} of the pool hold values that are not finite: expected finite ones")
    return outputs


def _vectors(read: Tensor, is_map: bool) -> Tensor:
    """Average (N, D, H, W) or (N, T, D) over all but images and channels."""
    if is_map:
        return read.flatten(2).mean(2)
    return read.flatten(1, -2).mean(1) if read.ndim > 2 else read
