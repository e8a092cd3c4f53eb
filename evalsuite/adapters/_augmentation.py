"""Random label-preserving changes of normalised images, on tensors and with the generator that is passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Views = Literal["batch", "image"]


@dataclass(frozen=True)
class PixelScale:
    """Where black and white lie in normalised images, (C, 1, 1) each.

    Adapters see normalised images only; natural photographs nearly always reach both ends of the scale, so the
    extremes of the source images serve (*choice*).
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, images: Tensor) -> PixelScale:
        """Read the extremes of each channel off (N, C, H, W) images."""
        low, high = images.amin(dim=(0, 2, 3)), images.amax(dim=(0, 2, 3))
        return cls(low[:, None, None], torch.maximum(high, low + 1e-6)[:, None, None])

    def pixels(self, images: Tensor) -> Tensor:
        """Return images on the scale 0..1, clipped."""
        return ((images - self.low) / (self.high - self.low)).clamp(0, 1)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return 0..1 pixels as the network expects them."""
        return pixels * (self.high - self.low) + self.low


@dataclass(frozen=True)
class Jitter:
    """Strengths of the augmentation by which CoTTA and RoTTA make a teacher's views (arXiv 2203.13591, appendix).

    Brightness, contrast, saturation and gamma are factors drawn within 1 ± the value, hue a shift within ± the
    value of the circle, applied in random order; then a random rotation (degrees), shift (share of the side) and scale,
    a slight blur (largest sigma, pixels), a flip, and Gaussian noise, which alone differs from pixel to pixel.

    Attributes
    ----------
    views : ``batch``: one draw for all images of a call, as in both authors' programs; ``image``: one for each
        (*ours*).
    """

    brightness: float = 0.4
    contrast: float = 0.3
    saturation: float = 0.5
    hue: float = 0.06
    gamma: float = 0.3
    degrees: float = 15.0
    shift: float = 1 / 8  # the authors' 1/16 is of the padded picture, twice as large
    scale: float = 0.1
    blur: float = 0.5
    noise: float = 0.005
    views: Views = "batch"

    def __call__(self, images: Tensor, scale: PixelScale, generator: torch.Generator) -> Tensor:
        """Change (N, C, H, W) normalised images."""
        pixels = scale.pixels(images)
        draw = _Draw(len(images) if self.views == "image" else 1, generator, images)
        colours = [self._hue, self._brightness, self._contrast, self._saturation, self._gamma]
        for index in torch.randperm(len(colours), generator=generator, device=generator.device).tolist():
            pixels = colours[index](pixels, draw)
        pixels = self._move(pixels, draw)
        pixels = _blurred(pixels, float(draw.one(1e-3, self.blur))) if self.blur > 0 else pixels
        noise = torch.randn(pixels.shape, generator=generator, device=generator.device).to(pixels)
        return scale.normalised((pixels + self.noise * noise).clamp(0, 1))

    def _hue(self, pixels: Tensor, draw: _Draw) -> Tensor:
        return _turned(pixels, draw(-self.hue, self.hue)) if pixels.shape[1] == 3 else pixels

    def _brightness(self, pixels: Tensor, draw: _Draw) -> Tensor:
        return (pixels * draw(1 - self.brightness, 1 + self.brightness)).clamp(0, 1)

    def _contrast(self, pixels: Tensor, draw: _Draw) -> Tensor:
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        return _towards(pixels, mean, draw(1 - self.contrast, 1 + self.contrast))

    def _saturation(self, pixels: Tensor, draw: _Draw) -> Tensor:
        grey = pixels.mean(dim=1, keepdim=True)
        return _towards(pixels, grey, draw(1 - self.saturation, 1 + self.saturation))

    def _gamma(self, pixels: Tensor, draw: _Draw) -> Tensor:
        return pixels.clamp(min=1e-8) ** draw(1 - self.gamma, 1 + self.gamma)

    def _move(self, pixels: Tensor, draw: _Draw) -> Tensor:
        angle = draw(-self.degrees, self.degrees).flatten() * (math.pi / 180)
        size = draw(1 - self.scale, 1 + self.scale).flatten()
        across, down = (draw(-2 * self.shift, 2 * self.shift).flatten() for _ in range(2))
        flip = torch.where(draw(0, 1).flatten() < 0.5, -1.0, 1.0)
        cosine, sine = angle.cos() / size, angle.sin() / size
        rows = [torch.stack([flip * cosine, -sine, across], 1), torch.stack([flip * sine, cosine, down], 1)]
        moves = torch.stack(rows, 1).expand(len(pixels), -1, -1)
        grid = F.affine_grid(moves, list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


class _Draw:
    """Uniform numbers, one for each of n images, shaped to broadcast."""

    def __init__(self, n: int, generator: torch.Generator, like: Tensor) -> None:
        self.n, self.generator, self.like = n, generator, like

    def __call__(self, low: float, high: float) -> Tensor:
        uniform = torch.rand(self.n, generator=self.generator, device=self.generator.device).to(self.like)
        return (low + (high - low) * uniform).reshape(-1, 1, 1, 1)

    def one(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((), generator=self.generator, device=self.generator.device)


def _towards(pixels: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    return (base + factor * (pixels - base)).clamp(0, 1)


def _turned(pixels: Tensor, turn: Tensor) -> Tensor:
    """Rotate the colour plane of (N, 3, H, W) pixels about the grey axis by (N or 1, 1, 1, 1) parts of the circle."""
    angle = (2 * math.pi * turn).reshape(-1, 1, 1)
    axis = torch.full((3, 3), 1 / 3, dtype=pixels.dtype, device=pixels.device)
    identity = torch.eye(3, dtype=pixels.dtype, device=pixels.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=pixels.dtype, device=pixels.device)
    rotation = angle.cos() * (identity - axis) + axis + angle.sin() * cross / math.sqrt(3)
    return torch.einsum("nij,njhw->nihw", rotation.expand(len(pixels), -1, -1), pixels).clamp(0, 1)


def _blurred(pixels: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of five pixels."""
    kernel = torch.exp(-0.5 * (torch.arange(-2, 3, dtype=pixels.dtype, device=pixels.device) / sigma).square())
    kernel = kernel / kernel.sum()
    channels = pixels.shape[1]
    padded = F.pad(pixels, (2, 2, 2, 2), mode="replicate")
    across = F.conv2d(padded, kernel.reshape(1, 1, 1, 5).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(across, kernel.reshape(1, 1, 5, 1).repeat(channels, 1, 1, 1), groups=channels)
