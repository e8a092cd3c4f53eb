"""Images made of nothing but random numbers: fractals, coloured noise, Gaussian noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evalsuite.plugins import UInt8Array

Shape = tuple[int, int, int]
"""(N, H, W)"""
Triple = tuple[float, float, float]

_WALKERS = 1024
_FORGET = 20  # steps until a walker is on the attractor
_POINTS_PER_PIXEL = 4


def gaussian_noise(shape: Shape, mean: Triple, std: Triple, generator: np.random.Generator) -> UInt8Array:
    """Draw every pixel and channel from a normal distribution: (N, H, W, 3).

    ``mean`` and ``std`` are the channels', on the scale 0..1, so that the network's input is standard normal but for
    the cut at black and white.
    """
    return _pixels(generator.standard_normal((*shape, 3)), mean, std)


def coloured_noise(shape: Shape, mean: Triple, std: Triple, generator: np.random.Generator) -> UInt8Array:
    """Draw images whose amplitude spectrum falls off as 1 / f^a: (N, H, W, 3).

    Natural images have a near 1 (Field 1987); networks learn from such noise (Baradad et al. 2021, arXiv 2106.05963).
    Ours: a is drawn from 0.5..2 for each image, the channels are independent, and each has the mean and standard
    deviation that is given, but for the cut at black and white.
    """
    count, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # no mean
    exponent = generator.uniform(0.5, 2, (count, 1, 1, 1))
    spectrum = np.fft.rfft2(generator.standard_normal((count, 3, height, width))) * frequency**-exponent
    noise = np.fft.irfft2(spectrum, s=(height, width))
    noise /= noise.std(axis=(2, 3), keepdims=True)
    return _pixels(noise.transpose(0, 2, 3, 1), mean, std)


def fractals(shape: Shape, generator: np.random.Generator) -> UInt8Array:
    """Draw attractors of random iterated function systems, in colour: (N, H, W, 3).

    The idea is that of Kataoka et al. 2020 (arXiv 2101.08515), who train on such images; how ours are drawn is our
    own: three to eight affine maps that contract, each taken with a probability in proportion to its area and painting
    its points in a colour of its own, on a dim ground.
    """
    count, height, width = shape
    return np.stack([_fractal(height, width, generator) for _ in range(count)])


def _fractal(height: int, width: int, generator: np.random.Generator) -> UInt8Array:
    maps = int(generator.integers(3, 9))
    # Singular values below 1 make every map a contraction, whatever the turns on either side.
    values = generator.uniform([0.5, 0.2], [0.85, 0.7], (maps, 2))
    linear = _turns(maps, generator) @ (values[:, :, None] * _turns(maps, generator))
    shift = generator.uniform(-1, 1, (maps, 2))
    area = values.prod(axis=1)
    steps = _FORGET + -(-_POINTS_PER_PIXEL * height * width // _WALKERS)
    taken = generator.choice(maps, (steps, _WALKERS), p=area / area.sum())
    point, path = np.zeros((_WALKERS, 2)), np.empty((steps, _WALKERS, 2))
    for step, which in enumerate(taken):
        point = np.einsum("wij,wj->wi", linear[which], point) + shift[which]
        path[step] = point
    points, painted = path[_FORGET:].reshape(-1, 2), taken[_FORGET:].ravel()
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    unit = (points - low) / np.maximum(high - low, 1e-9)
    inside = ((unit >= 0) & (unit < 1)).all(axis=1)
    row, column = (unit[inside] * [height, width]).astype(np.int64).T
    visits = np.bincount((row * width + column) * maps + painted[inside], minlength=height * width * maps)
    colours = generator.uniform(0.2, 1, (maps, 3))
    bright = np.log1p(visits.reshape(height, width, maps) @ colours)
    light = np.minimum(bright / np.quantile(bright[bright > 0], 0.95), 1)
    ground = generator.uniform(0, 0.25, 3)
    painting: UInt8Array = np.rint(255 * (ground + (1 - ground) * light)).astype(np.uint8)
    return painting


def _turns(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw (count, 2, 2) rotations, half of them with a reflection, on average."""
    angle = generator.uniform(0, 2 * np.pi, count)
    mirror = generator.choice([-1.0, 1.0], count)
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.stack([np.stack([cosine, -mirror * sine], 1), np.stack([sine, mirror * cosine], 1)], 1)


def _pixels(noise: NDArray[np.float64], mean: Triple, std: Triple) -> UInt8Array:
    """Give standard (N, H, W, 3) noise a mean and standard deviation and turn it into grey levels."""
    pixels: UInt8Array = np.rint(255 * (noise * np.array(std) + np.array(mean))).clip(0, 255).astype(np.uint8)
    return pixels
