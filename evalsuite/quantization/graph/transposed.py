"""Transposed convolutions as plain ones: zeros between the places of the input, then the kernel turned around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.execution import hooked
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.graph.plain_layers import computes_weight, layer_of

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)


class ZerosBetween(nn.Module):
    """Zeros between the places of an image, and around it.

    Parameters
    ----------
    strides : a place every so many, a value per dimension of the image.
    around : zeros before and behind each dimension, the last dimension first; negative ones cut places off.
    """

    def __init__(self, strides: Sequence[int], around: Sequence[int]) -> None:
        super().__init__()
        self.strides, self.around = tuple(strides), tuple(around)

    def forward(self, x: Tensor) -> Tensor:
        """Spread (N, C, places...)."""
        for dimension, (size, stride) in enumerate(zip(x.shape[2:], self.strides, strict=True), start=2):
            zeros = [torch.zeros_like(x)] * (stride - 1)
            spread = torch.stack([x, *zeros], dim=dimension + 1).flatten(dimension, dimension + 1)
            x = spread.narrow(dimension, 0, (size - 1) * stride + 1)
        return F.pad(x, self.around)

    def extra_repr(self) -> str:
        """Show strides and edges."""
        return f"strides={self.strides}, around={self.around}"


def turn_transposed(model: nn.Module, example: Tensor) -> nn.Module:
    """Replace, in place, transposed convolutions by zeros and a plain convolution that compute the same.

    Each becomes a Sequential of ``spread`` and ``layer``. One of a class of its own, with a weight that is computed, or
    that is called with the size of its output stays as it is.

    Parameters
    ----------
    model : in eval mode; it is returned.
    example : (N, C, H, W).
    """
    candidates = [module for module in model.modules() if type(module) in _TRANSPOSED and not computes_weight(module)]
    called: set[nn.Module] = set()
    otherwise: set[nn.Module] = set()

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        (called if len(args) == 1 and not kwargs else otherwise).add(module)

    if candidates:
        handles = (module.register_forward_pre_hook(note, with_kwargs=True) for module in candidates)
        with torch.no_grad(), hooked(handles):
            model(example)
    return replace_modules(model, {module: _plain(module) for module in called - otherwise})


def _plain(layer: Any) -> nn.Sequential:
    """Return the zeros and the convolution that compute what a transposed convolution does."""
    reach = [d * (size - 1) for d, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    edges = zip(reach, layer.padding, layer.output_padding, strict=True)
    around = [n for own, padding, more in reversed(list(edges)) for n in (own - padding, own - padding + more)]
    weight = layer.weight.detach()
    grouped = weight.view(layer.groups, weight.shape[0] // layer.groups, *weight.shape[1:])
    turned = grouped.transpose(1, 2).flatten(0, 1).flip(tuple(range(2, weight.ndim)))
    trainable = layer.weight.requires_grad
    plain = layer_of(turned, layer.bias, {"dilation": layer.dilation, "groups": layer.groups}, trainable=trainable)
    both = nn.Sequential()
    both.add_module("spread", ZerosBetween(layer.stride, around))
    both.add_module("layer", plain)
    return both.eval()
