"""A convolution's input as its weights meet it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def unfolded_input(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return what each output of a convolution is computed from, padded as the layer pads.

    Parameters
    ----------
    x : (N, channels, H, W).

    Returns
    -------
    (N, groups, n, places), for the n weights of an output channel in the order of ``weight.flatten(1)``: what these are
    multiplied by in each place of the output.
    """
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    patches = F.unfold(padded, layer.kernel_size, layer.dilation, stride=layer.stride)
    return patches.reshape(len(x), layer.groups, -1, patches.shape[-1])
