"""Whether a task's network is what the harness can measure: normalised images in, finite logits out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError


@torch.no_grad()
def check_network(name: str, network: Any, images: Tensor, classes: int) -> None:
    """Run a network in eval mode on (N, C, H, W) images.

    Raises
    ------
    RequestError
        If it fails, or returns anything but (N, classes) finite logits.
    """
    expected = f"expected a tensor ({len(images)}, {classes}) of logits, one per class"
    if not isinstance(network, nn.Module):
        raise RequestError(f"{name} is a {type(network).__name__}: expected a torch.nn.Module")
    try:
        logits = network(images)
    except Exception as error:  # whatever a foreign network does
        reason = " ".join(str(error).split())
        raise RequestError(f"{name} fails on {tuple(images.shape)}: {type(error).__name__}: {reason}") from error
    if not isinstance(logits, Tensor):
        raise RequestError(f"{name} returns a {type(logits).__name__}: {expected}")
    if tuple(logits.shape) != (len(images), classes):
        raise RequestError(f"{name} returns {tuple(logits.shape)}: {expected}")
    if not logits.is_floating_point() or not torch.isfinite(logits).all():
        raise RequestError(f"{name} returns {logits.dtype} that are not all finite floats: {expected}")
    if _probabilities(logits.float()):
        raise RequestError(f"{name} returns probabilities (every row sums to 1): {expected}, before any softmax")


def _probabilities(logits: Tensor) -> bool:
    sums = logits.sum(dim=1)
    return bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-5)
