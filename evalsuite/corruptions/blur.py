"""Blurs: gaussian, defocus, glass, motion and zoom."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from evalsuite.corruptions.constants import Constants
from evalsuite.corruptions.draws import Draws, FloatArray
from evalsuite.plugins import IntArray, UInt8Array


def gaussian_blur(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Smooth by a gaussian, in double precision: the cut to whole levels shows the last bit of plain areas."""
    blurred = ndimage.gaussian_filter(images / 255.0, c.gaussian_blur[severity - 1], mode="nearest", axes=(1, 2))
    out: UInt8Array = (np.clip(blurred, 0, 1) * 255).astype(np.uint8)
    return out


@functools.lru_cache(maxsize=64)
def gaussian_kernel(sigma: float, truncate: float = 4.0) -> FloatArray:
    """Return scipy's sampled gaussian, cut at ``truncate`` standard deviations: (2r + 1, 1) float32, sum 1."""
    radius = int(truncate * sigma + 0.5)
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1
    return ndimage.gaussian_filter1d(impulse, sigma, truncate=truncate, mode="constant")[:, None].astype(np.float32)


def smooth(image: FloatArray, sigma: float) -> FloatArray:
    """Smooth one float32 image or field by a gaussian, its borders continued by their last pixel."""
    kernel = gaussian_kernel(sigma)
    if len(kernel) == 1:
        return image
    out: FloatArray = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return out


def defocus_blur(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Average over a disk with a softened edge, in double precision for the same reason."""
    kernel = _disk(*c.defocus_blur[severity - 1])
    out = np.empty_like(images)
    for image, made in zip(images, out, strict=True):
        for channel in range(3):
            blurred = cv2.filter2D(image[..., channel].astype(np.float64), -1, kernel)
            made[..., channel] = np.clip(blurred, 0, 255, out=blurred)
    return out


@functools.lru_cache(maxsize=16)
def _disk(radius: float, softness: float) -> FloatArray:
    """Return the disk's kernel, without its empty rim.

    The softening acts on a square that ends where the largest small disk (8 pixels) ends and reflects at its edge,
    so kernels of 8 pixels and more have a sum that is not quite 1, as in the original.
    """
    half = 8 if radius <= 8 else int(radius)
    steps = np.arange(-half, half + 1)
    inside = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.float32)
    inside /= inside.sum()
    side = 3 if radius <= 8 else 5
    kernel: FloatArray = cv2.GaussianBlur(inside, (side, side), sigmaX=softness)
    rim = int(np.flatnonzero(kernel.any(axis=0))[0])
    return kernel[rim : len(kernel) - rim, rim : len(kernel) - rim]


def glass_blur(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Smooth, let every pixel take the place of a near one, smooth again.

    The original means to swap pixels but copies them, because its arrays are views; so does this.
    """
    sigma, reach, passes = c.glass_blur[severity - 1]
    count, height, width = images.shape[:3]
    # A fourth channel makes a pixel one 32-bit number, which can be moved at once.
    before = np.empty((count, height, width, 4), np.uint8)
    for image, made in zip(images, before, strict=True):
        cv2.cvtColor(smooth(image.astype(np.float32), sigma).astype(np.uint8), cv2.COLOR_RGB2RGBA, dst=made)
    source = _one_pass(draws, height, width, reach)
    for _ in range(passes - 1):
        source = source.take(_one_pass(draws, height, width, reach))
    moved = before.view(np.uint32).ravel().take(source).view(np.uint8).reshape(before.shape)
    out = np.empty_like(images)
    for image, made in zip(moved, out, strict=True):
        made[:] = smooth(cv2.cvtColor(image, cv2.COLOR_RGBA2RGB).astype(np.float32), sigma)
    return out


def _one_pass(draws: Draws, height: int, width: int, reach: int) -> IntArray:
    """Return where each pixel's value comes from after one pass of copies: (N * H * W,) flat indices.

    The pass visits pixels from the lower right to the upper left, and each takes the present value of a neighbour up
    to ``reach`` above or left and ``reach`` - 1 below or right. A neighbour visited before has a value from elsewhere
    by then, and so on; such chains are followed by doubling: each round lets all pixels look twice as far.
    """
    count, sides = len(draws), 2 * reach
    rows, columns = slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1)
    steps = np.arange(-reach, reach)
    offsets = (steps[:, None] * width + steps).ravel()
    source = np.arange(count * height * width).reshape(count, height, width)
    visited = np.zeros(source.shape, bool)
    visited[:, rows, columns] = True
    inner = source[:, rows, columns]
    words = draws.words(inner[0].size).reshape(inner.shape)
    inner += offsets.take(words.astype(np.uint32) * sides**2 >> 16)
    if reach > 1:  # else only neighbours not yet visited can be taken
        _follow(source.reshape(-1), visited.reshape(-1))
    return source.reshape(-1)


def _follow(source: IntArray, visited: NDArray[np.bool_]) -> None:
    """Follow chains of copies in place: wherever ``source`` points to a pixel that was visited before, go on."""
    chained = np.flatnonzero(source > np.arange(len(source)))
    chained = chained[visited[source[chained]]]
    again = np.zeros(len(source), bool)
    again[chained] = True
    while chained.size:
        via = source[chained]
        source[chained], more = source[via], again[via]
        again[chained] = more
        chained = chained[more]


def motion_blur(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Smear along a line, at most 45 degrees from the horizontal, by half a gaussian."""
    radius, sigma = c.motion_blur[severity - 1]
    angles = 90 * draws.uniform(1)[:, 0] - 45
    out = np.empty_like(images)
    for image, angle, made in zip(images, angles, out, strict=True):
        made[:] = np.clip(streak(image.astype(np.float32), radius, sigma, float(angle)), 0, 255)
    return out


def streak(image: FloatArray, radius: int, sigma: float, angle: float) -> FloatArray:
    """Smear one float32 image or field: up to 2 ``radius`` + 1 steps in the direction ``angle`` (degrees)."""
    height, width = image.shape[:2]
    weights = _half_gaussian(radius, sigma)
    down = [math.ceil(step * math.sin(math.radians(angle)) - 0.5) for step in range(len(weights))]
    across = [math.ceil(step * math.cos(math.radians(angle)) - 0.5) for step in range(len(weights))]
    top, left = max(0, -min(down)), max(0, -min(across))
    padded = cv2.copyMakeBorder(image, top, max(0, *down), left, max(0, *across), cv2.BORDER_REPLICATE)
    out: FloatArray = np.zeros_like(image)
    for weight, dy, dx in zip(weights, down, across, strict=True):
        if abs(dy) >= height or abs(dx) >= width:
            break
        cv2.scaleAdd(padded[top + dy : top + dy + height, left + dx : left + dx + width], weight, out, dst=out)
    return out


@functools.lru_cache(maxsize=32)
def _half_gaussian(radius: int, sigma: float) -> tuple[float, ...]:
    """Return the weights of the steps, sum 1, but for those below 1/10,000 of the first."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights = weights[weights > 1e-4]
    return tuple(weights / weights.sum())


def zoom_blur(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Average the image with enlargements of its centre."""
    last, step = c.zoom_blur[severity - 1]
    factors = [float(factor) for factor in np.arange(1, last, step)]
    out = np.empty_like(images)
    layer = np.empty((*images.shape[1:3], 4), np.float32)
    for image, made in zip(images, out, strict=True):
        # OpenCV interpolates four channels more than twice as fast as three.
        tones = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).astype(np.float32)
        tones /= np.float32(255)
        total = tones.copy()  # the first factor is 1
        for factor in factors[1:]:
            cv2.add(total, enlarge(tones, factor, c.zoom_centred, layer), dst=total)
        total += tones
        total /= np.float32(len(factors) + 1)
        np.minimum(total, 1, out=total)
        total *= np.float32(255)
        cv2.cvtColor(total.astype(np.uint8), cv2.COLOR_RGBA2RGB, dst=made)
    return out


def enlarge(image: FloatArray, factor: float, centred: bool, out: FloatArray | None = None) -> FloatArray:
    """Enlarge the centre of one float32 image or field by linear interpolation, to the image's own size.

    The centre's corner pixels become the corner pixels of the result (scipy's ``zoom``), which can be a little too
    large; ``centred`` says whether it is cut on all sides or right and below.
    """
    height, width = image.shape[:2]
    made: FloatArray = cv2.warpAffine(
        image,
        _grid(height, width, factor, centred),
        (width, height),
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return made


@functools.lru_cache(maxsize=256)
def _grid(height: int, width: int, factor: float, centred: bool) -> NDArray[np.float64]:
    """Return the map from an enlarged image's pixels (x, y, 1) to the original's: (2, 3)."""
    matrix = np.zeros((2, 3))
    for axis, size in enumerate((width, height)):
        kept = math.ceil(size / factor)
        large = round(kept * factor)
        step = (kept - 1) / (large - 1)
        cut = (large - size) // 2 if centred else 0
        matrix[axis, axis], matrix[axis, 2] = step, (size - kept) // 2 + cut * step
    return matrix
