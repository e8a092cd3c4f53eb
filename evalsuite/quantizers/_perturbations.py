"""Small label-preserving changes of images, from the families that no test corruption belongs to."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_SIDE = 32  # pixels for which blur and shift are given; they grow with the image
_SPECKLE, _BLUR, _SATURATION, _COLOUR, _SHIFT = 0.3, 0.8, 0.8, 0.15, 2.0


def perturb(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Return (N, C, H, W) images, each changed in one way drawn for it: speckle, light blur, saturation or jitter.

    Works on normalised images: a channel's least value in the batch stands for black. With strength s, magnitudes
    are drawn evenly from 0 (for blur: 0.3 pixels) to: speckle noise, deviation 0.3·s of the brightness; Gaussian
    blur, 0.8·s pixels of 32; saturation, 1 ± 0.8·s; jitter, shifts of up to 2·s pixels of 32 in either direction, and
    of colour by up to 0.15·s of a channel's range, summing to 0 over channels. All constants are ours.
    """
    low, high = images.amin(dim=(0, 2, 3), keepdim=True), images.amax(dim=(0, 2, 3), keepdim=True)
    kinds = torch.randint(4, (len(images),), generator=generator)
    out = images.clone()
    for kind in range(4):
        chosen = (kinds == kind).nonzero().flatten()
        if len(chosen) == 0:
            continue
        x = images[chosen.to(images.device)]
        magnitude = torch.rand(len(chosen), 1, 1, 1, generator=generator).to(images) * strength
        if kind == 0:
            noise = torch.randn(x.shape, generator=generator).to(images)
            x = x + (x - low) * noise * magnitude * _SPECKLE
        elif kind == 1:
            x = _blur(x, (0.3 + magnitude.flatten() * _BLUR) * min(x.shape[2:]) / _SIDE)
        elif kind == 2:
            side = torch.randint(2, (len(chosen), 1, 1, 1), generator=generator).to(images) * 2 - 1
            grey = x.mean(dim=1, keepdim=True)
            x = grey + (x - grey) * (1 + side * magnitude * _SATURATION)
        else:
            x = _jitter(x, magnitude, high - low, strength, generator)
        out[chosen.to(images.device)] = torch.minimum(torch.maximum(x, low), high)
    return out


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur each (C, H, W) image by its own Gaussian, cut at three deviations of the widest."""
    n, channels, height, width = x.shape
    radius = min(math.ceil(3 * float(sigma.max())), min(height, width) - 1)
    places = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = (-(places**2) / (2 * sigma[:, None] ** 2)).exp()
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = F.pad(x.reshape(1, n * channels, height, width), (radius, radius, radius, radius), mode="reflect")
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    return F.conv2d(flat, kernel[:, None, :, None], groups=n * channels).reshape(x.shape)


def _jitter(x: Tensor, magnitude: Tensor, extent: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    colour = torch.rand(len(x), x.shape[1], 1, 1, generator=generator).to(x) * 2 - 1
    x = x + (colour - colour.mean(dim=1, keepdim=True)) * magnitude * _COLOUR * extent
    reach = min(round(_SHIFT * strength * min(x.shape[2:]) / _SIDE), min(x.shape[2:]) - 1)
    padded = F.pad(x, (reach, reach, reach, reach), mode="reflect")
    offsets = torch.randint(2 * reach + 1, (len(x), 2), generator=generator).tolist()
    height, width = x.shape[2:]
    return torch.stack([one[:, i : i + height, j : j + width] for one, (i, j) in zip(padded, offsets, strict=True)])
