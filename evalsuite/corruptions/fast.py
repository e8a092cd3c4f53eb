"""The fast engine: all 19 corruptions on batches of images, by numpy and OpenCV."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evalsuite.corruptions import blur, digital, noise, weather
from evalsuite.corruptions.constants import SETS, Constants
from evalsuite.corruptions.draws import Draws
from evalsuite.plugins import IntArray, UInt8Array

_PIXELS = 1 << 16  # images treated together: about as many pixels as a core's cache holds in single precision

FUNCTIONS: dict[str, Callable[[UInt8Array, Constants, int, Draws], UInt8Array]] = {
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}


def corrupt_images(
    images: UInt8Array, name: str, severity: int, constants: str, indices: IntArray, seed: int, data_set: str
) -> UInt8Array:
    """Corrupt (N, H, W, 3) uint8 images; image i draws from the generator of ``indices[i]``."""
    out = np.empty_like(images)
    size = max(1, _PIXELS // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        draws = Draws(indices[part], seed, data_set, name, severity)
        some = np.ascontiguousarray(images[part])
        if name in noise.NAMES:
            out[part] = noise.add_noise(some, name, severity, constants, draws)
        else:
            out[part] = FUNCTIONS[name](some, SETS[constants], severity, draws)
    return out
