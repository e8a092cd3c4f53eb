"""Layers that have a weight to quantize: the one place that says which kinds there are and how their tensors lie."""

from __future__ import annotations

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
WEIGHT_LAYERS = (*CONVOLUTIONS, nn.Linear)
KINDS = "Conv1d, Conv2d or Linear"


def channel_dimension(layer: nn.Module) -> int:
    """Return the dimension of a layer's input and output that holds channels, from the end: negative.

    (N, C, L) of Conv1d: -2; (N, C, H, W) of Conv2d: -3; (..., C) of Linear and of whatever else: -1.
    """
    return -1 - len(layer.kernel_size) if isinstance(layer, CONVOLUTIONS) else -1
