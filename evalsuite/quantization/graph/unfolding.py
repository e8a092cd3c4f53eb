"""A convolution's input as its weights meet it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def unfolded_input(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Return what each output of a convolution is computed from, padded as the layer pads.

    Parameters
    ----------
    x : (N, channels, H, W), or (N, channels, L) of a Conv1d.

    Returns
    -------
    (N, groups, n, places), for the n weights of an output channel in the order of ``weight.flatten(1)``: what these are
    multiplied by in each place of the output.
    """
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if padded.ndim == 3:  # an image one pixel high
        padded, kernel, dilation, stride = padded[:, :, None], (1, *kernel), (1, *dilation), (1, *stride)
    patches = F.unfold(padded, kernel, dilation, stride=stride)
    return patches.reshape(len(x), layer.groups, -1, patches.shape[-1])
