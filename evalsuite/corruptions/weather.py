"""Weather: snow, frost, fog, brightness, and the held-out spatter."""

from __future__ import annotations

import functools
import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from evalsuite.corruptions.blur import enlarge, smooth, streak
from evalsuite.corruptions.constants import Constants
from evalsuite.corruptions.draws import Draws, FloatArray
from evalsuite.errors import RequestError
from evalsuite.plugins import UInt8Array

ICE = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The pictures that are drawn from; the originals bring a sixth and never use it."""


def snow(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Whiten the image and lay streaks of flakes over it, twice: as drawn and turned by half a turn."""
    mean, deviation, zoom, threshold, radius, sigma, kept = c.snow[severity - 1]
    fields = np.float32(mean) + np.float32(deviation) * draws.normal(*images.shape[1:3])
    angles = 90 * draws.uniform(1)[:, 0] - 135
    out = np.empty_like(images)
    for image, field, angle, made in zip(images, fields, angles, out, strict=True):
        flakes = enlarge(field, zoom, c.zoom_centred)
        flakes = np.minimum(np.where(flakes < threshold, 0, flakes), 1) * np.float32(255)
        if c.snow_cut:
            flakes = np.floor(streak(np.floor(flakes), int(radius), sigma, float(angle)))
        else:
            flakes = np.round(streak(flakes, int(radius), sigma, float(angle)))
        tones = image.astype(np.float32)
        white = cv2.cvtColor(tones, cv2.COLOR_RGB2GRAY)
        white *= np.float32(1.5)
        white += np.float32(127.5)
        bright = np.maximum(tones, _three(white))
        bright *= np.float32(1 - kept)
        tones *= np.float32(kept)
        tones += bright
        tones += _three(flakes + flakes[::-1, ::-1])
        made[:] = np.minimum(tones, 255, out=tones)
    return out


def _three(field: FloatArray) -> FloatArray:
    """Return a field as an image of three equal channels: faster than numpy's broadcasting along a short axis."""
    out: FloatArray = cv2.cvtColor(field, cv2.COLOR_GRAY2RGB)
    return out


def frost(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Lay a random part of a picture of ice over the image."""
    height, width = images.shape[1:3]
    own, ice = c.frost[severity - 1]
    pictures = [_ice(name, height, width, c.frost_scale, c.frost_cubic) for name in ICE]
    limits = np.array([(picture.shape[0] - height, picture.shape[1] - width) for picture in pictures])
    which = draws.below(np.full((len(images), 1), len(ICE)))[:, 0]
    place = draws.below(limits[which])
    out = np.empty_like(images)
    for image, number, (top, left), made in zip(images, which, place, out, strict=True):
        cut = pictures[number][top : top + height, left : left + width]
        made[:] = np.minimum(np.float32(own) * image + np.float32(ice) * cut, 255)
    return out


@functools.lru_cache(maxsize=32)
def _ice(name: str, height: int, width: int, scale: float, cubic: bool) -> UInt8Array:
    """Return a picture of ice, RGB, resized; a little larger than the images where it would be smaller."""
    picture = cv2.imread(str(_ice_folder() / name))
    rows, columns = picture.shape[:2]
    scale = max(scale, 1.1 * height / rows, 1.1 * width / columns)
    if cubic:
        size = (math.ceil(columns * scale), math.ceil(rows * scale))
        large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    else:
        large = cv2.resize(picture, None, fx=scale, fy=scale)
    return np.ascontiguousarray(large[..., ::-1])


def _ice_folder() -> Path:
    """Return where the imagecorruptions package keeps its pictures; found without importing it."""
    package = importlib.util.find_spec("imagecorruptions")
    if package is None or package.origin is None:
        raise RequestError("frost: expected the package imagecorruptions, which brings its pictures, to be installed")
    return Path(package.origin).parent / "frost"


def fog(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Mix with a cloud of fractal density."""
    amount, decay = c.fog[severity - 1]
    height, width = images.shape[1:3]
    clouds = _clouds(draws, 1 << (max(height, width) - 1).bit_length(), decay)[:, :height, :width]
    clouds *= np.float32(255 * amount)
    out = np.empty_like(images)
    for image, cloud, made in zip(images, clouds, out, strict=True):
        brightest = float(image.max()) / 255
        mixed = _three(cloud)
        mixed += image
        mixed *= np.float32(brightest / (brightest + amount))
        made[:] = mixed
    return out


def _clouds(draws: Draws, size: int, decay: float) -> FloatArray:
    """Heights by the diamond-square algorithm on a torus, scaled to 0..1: (N, size, size), size a power of two.

    Each octave puts a point into the middle of every square and then of every diamond of known points: their mean
    plus noise, whose range falls by ``decay`` squared.
    """
    noise = 2 * draws.uniform(size * size - 1) - 1
    heights = np.zeros((len(noise), 1, 1), np.float32)
    roughness, used = np.float32(100**2), 0
    while (side := heights.shape[1]) < size:
        fresh = noise[:, used : used + 3 * side * side].reshape(-1, 3, side, side) * roughness
        used += 3 * side * side
        pairs = heights + np.roll(heights, -1, 1)
        centre = (pairs + np.roll(pairs, -1, 2)) / 4 + fresh[:, 0]
        finer = np.empty((len(noise), 2 * side, 2 * side), np.float32)
        finer[:, ::2, ::2] = heights
        finer[:, 1::2, 1::2] = centre
        finer[:, ::2, 1::2] = (centre + np.roll(centre, 1, 1) + heights + np.roll(heights, -1, 2)) / 4 + fresh[:, 1]
        finer[:, 1::2, ::2] = (centre + np.roll(centre, 1, 2) + pairs) / 4 + fresh[:, 2]
        heights = finer
        roughness /= np.float32(decay**2)
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights


def brightness(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Raise the HSV value."""
    value = np.maximum(np.maximum(images[..., 0], images[..., 1]), images[..., 2]).astype(np.uint16) << 8
    table = _brighter(c.brightness[severity - 1])
    out = np.empty_like(images)
    for channel in range(3):
        out[..., channel] = table.take(value | images[..., channel])
    return out


@functools.lru_cache(maxsize=16)
def _brighter(amount: float) -> UInt8Array:
    """Flat table of 256 x 256: what a channel becomes, by its pixel's largest channel and its own value."""
    levels = np.arange(256) / 255.0
    value = levels[:, None]
    saturation = np.where(value > 0, (value - levels) / np.where(value > 0, value, 1), 0)
    raised = np.clip(value + amount, 0, 1)
    table: UInt8Array = (np.clip(raised * (1 - saturation), 0, 1) * 255).astype(np.uint8).ravel()
    return table


def spatter(images: UInt8Array, c: Constants, severity: int, draws: Draws) -> UInt8Array:
    """Splash water or mud on the lens."""
    mean, deviation, sigma, threshold, strength, mud = c.spatter[severity - 1]
    fields = mean + deviation * draws.normal(*images.shape[1:3])
    out = np.empty_like(images)
    for image, field, made in zip(images, fields, out, strict=True):
        liquid = smooth(field, sigma)
        tones = image.astype(np.float32)
        if mud:
            drops = smooth((liquid > threshold).astype(np.float32), strength)
            drops = np.where(drops < 0.8, 0, drops)[..., None]
            made[:] = np.clip(tones * (1 - drops) + drops * np.array([63, 42, 20], np.float32), 0, 255)
        else:
            drops = _water(np.where(liquid < threshold, 0, liquid)) * np.float32(strength)
            made[:] = np.clip(tones + drops[..., None] * np.array([175, 238, 238], np.float32), 0, 255)
    return out


def _water(liquid: FloatArray) -> FloatArray:
    """Return how much light the drops reflect: (H, W), largest 1."""
    grey = (liquid * 255).astype(np.uint8)
    far: NDArray[np.float32] = cv2.distanceTransform(255 - cv2.Canny(grey, 50, 150), cv2.DIST_L2, 5)
    edge = cv2.equalizeHist(cv2.blur(np.minimum(far, 20), (3, 3)).astype(np.uint8))
    relief = cv2.filter2D(edge, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    light: FloatArray = grey * cv2.blur(relief, (3, 3)).astype(np.float32)
    largest = light.max()
    return light / largest if largest > 0 else light
