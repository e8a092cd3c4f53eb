"""Augmentation of calibration images: every image is replaced by one augmented version of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from evalsuite.plugins import IntArray, Pool, UInt8Array

FloatArray = NDArray[np.float32]

_JITTER = 0.4
_HUE = 0.1  # of the circle of hues
_CHAINS = 3
_SEVERITY = 0.3  # of an operation's strongest setting, AugMix's severity 3 of 10


@dataclass(frozen=True)
class Augmentation:
    """Images are flipped and cropped, recoloured, mixed (mixup, CutMix) or put through AugMix-like chains.

    Parameters
    ----------
    method : what is done to each image; ``none`` leaves it; ``flip_crop`` (*choice*).
    """

    factor: ClassVar[str] = "augmentation"

    method: Literal["none", "flip_crop", "colour_jitter", "mixup", "cutmix", "augmix"] = "flip_crop"

    def __str__(self) -> str:
        return "not augmented" if self.method == "none" else self.method

    def transform(
        self, pool: Pool, images: UInt8Array, indices: IntArray, generator: np.random.Generator
    ) -> UInt8Array:
        """Augment each image once."""
        return images if self.method == "none" else _METHODS[self.method](images, generator)


def flip_crop(images: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Mirror every second image, on average, and cut it out of itself with a black border of an eighth.

    The border of 4 pixels on 32 is the usual one for CIFAR-10 (He et al. 2016, arXiv 1512.03385).
    """
    count, height, width, _ = images.shape
    down, right = height // 8, width // 8
    padded = np.pad(images, ((0, 0), (down, down), (right, right), (0, 0)))
    corners = generator.integers(0, [2 * down + 1, 2 * right + 1], (count, 2))
    made = np.stack([p[y : y + height, x : x + width] for p, (y, x) in zip(padded, corners, strict=True)])
    mirrored = generator.random(count) < 0.5
    made[mirrored] = made[mirrored, :, ::-1]
    return made


def colour_jitter(images: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Change brightness, contrast and saturation by factors of 0.6..1.4 and hue by up to a tenth, in random order.

    The jitter of SimCLR's weaker setting (Chen et al. 2020, arXiv 2002.05709). Brightness and contrast are test
    corruptions too: this augmentation is no stranger to them.
    """
    made = np.empty_like(images)
    for k, image in enumerate(images):
        pixels = image.astype(np.float32) / 255
        for change in generator.permutation(4):
            pixels = _JITTERS[change](pixels, generator).clip(0, 1).astype(np.float32)
        made[k] = np.rint(255 * pixels)
    return made


def mixup(images: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Blend every image with another one in shares drawn evenly from 0..1 (Zhang et al. 2018, arXiv 1710.09412)."""
    own = generator.random((len(images), 1, 1, 1))
    return np.rint(own * images + (1 - own) * images[_partners(len(images), generator)]).astype(np.uint8)


def cutmix(images: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Put a rectangle of another image into every image (Yun et al. 2019, arXiv 1905.04899).

    Its area is drawn evenly from 0..1 of the image's, its shape is the image's, its centre lies anywhere; what would
    stick out is cut off.
    """
    count, height, width, _ = images.shape
    side = np.sqrt(generator.random(count))
    centres = generator.random((count, 2)) * [height, width]
    made = images.copy()
    for k, partner in enumerate(_partners(count, generator)):
        top, bottom = np.rint(centres[k, 0] + np.array([-0.5, 0.5]) * side[k] * height).clip(0, height).astype(int)
        left, right = np.rint(centres[k, 1] + np.array([-0.5, 0.5]) * side[k] * width).clip(0, width).astype(int)
        made[k, top:bottom, left:right] = images[partner, top:bottom, left:right]
    return made


def augmix(images: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Blend every image with a mixture of three chains of one to three operations on it.

    After AugMix (Hendrycks et al. 2020, arXiv 1912.02781), with weights from Dirichlet(1, 1, 1) and a share from
    Beta(1, 1). As there, no operation is a test corruption: autocontrast, equalisation, posterising, solarising,
    rotation, shear and translation. Strengths are ours: up to 9 degrees, 9 % of shear, 10 % of translation.
    """
    made = np.empty_like(images)
    for k, image in enumerate(images):
        weights = generator.dirichlet(np.ones(_CHAINS))
        mixture = np.zeros(image.shape)
        for weight in weights:
            chained = image
            for operation in generator.integers(len(_OPERATIONS), size=generator.integers(1, 4)):
                chained = _OPERATIONS[operation](chained, generator)
            mixture += weight * chained
        own = generator.random()
        made[k] = np.rint(own * image + (1 - own) * mixture)
    return made


_METHODS: dict[str, Callable[[UInt8Array, np.random.Generator], UInt8Array]] = {
    "flip_crop": flip_crop,
    "colour_jitter": colour_jitter,
    "mixup": mixup,
    "cutmix": cutmix,
    "augmix": augmix,
}


def _partners(count: int, generator: np.random.Generator) -> IntArray:
    """Draw another image for each; an image that is alone is its own partner."""
    return (np.arange(count) + generator.integers(1, max(count, 2), count)) % count


def _factor(generator: np.random.Generator) -> float:
    return float(generator.uniform(1 - _JITTER, 1 + _JITTER))


def _grey(pixels: FloatArray) -> FloatArray:
    """Luma of (H, W, 3) by ITU-R BT.601: (H, W, 1)."""
    grey: FloatArray = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return grey


def _brightness(pixels: FloatArray, generator: np.random.Generator) -> FloatArray:
    return pixels * _factor(generator)


def _contrast(pixels: FloatArray, generator: np.random.Generator) -> FloatArray:
    mean = float(_grey(pixels).mean())
    return mean + (pixels - mean) * _factor(generator)


def _saturation(pixels: FloatArray, generator: np.random.Generator) -> FloatArray:
    grey = _grey(pixels)
    return grey + (pixels - grey) * _factor(generator)


def _hue(pixels: FloatArray, generator: np.random.Generator) -> FloatArray:
    import cv2

    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * generator.uniform(-_HUE, _HUE)) % 360
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


_JITTERS = (_brightness, _contrast, _saturation, _hue)


def _strength(generator: np.random.Generator) -> float:
    """Draw how strong an operation is: 0 is nothing, 1 its strongest setting."""
    return float(generator.uniform(0.01, _SEVERITY))


def _signed(strongest: float, generator: np.random.Generator) -> float:
    return strongest * _strength(generator) * float(generator.choice([-1, 1]))


def _autocontrast(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Stretch every channel to 0..255; one that is flat stays as it is."""
    low, high = (bound(image, axis=(0, 1)).astype(np.float64) for bound in (np.min, np.max))
    stretched = np.rint((image - low) * (255 / np.maximum(high - low, 1)))
    return np.where(high > low, stretched, image).astype(np.uint8)


def _equalise(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    import cv2

    return np.stack([cv2.equalizeHist(np.ascontiguousarray(image[..., c])) for c in range(3)], axis=-1)


def _posterise(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Keep the highest 4 bits of a level, or 3."""
    lost = 4 + int(4 * _strength(generator))
    return image & np.uint8(0xFF << lost & 0xFF)


def _solarise(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    """Turn the brightest levels into their negative."""
    threshold = 256 - int(256 * _strength(generator))
    return np.where(image < threshold, image, 255 - image).astype(np.uint8)


def _rotate(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    angle = np.deg2rad(_signed(30, generator))
    return _warp(image, [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], (0, 0))


def _shear_x(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    return _warp(image, [[1, _signed(0.3, generator)], [0, 1]], (0, 0))


def _shear_y(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    return _warp(image, [[1, 0], [_signed(0.3, generator), 1]], (0, 0))


def _translate_x(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    return _warp(image, [[1, 0], [0, 1]], (_signed(1 / 3, generator) * image.shape[1], 0))


def _translate_y(image: UInt8Array, generator: np.random.Generator) -> UInt8Array:
    return _warp(image, [[1, 0], [0, 1]], (0, _signed(1 / 3, generator) * image.shape[0]))


def _warp(image: UInt8Array, linear: list[list[float]], shift: tuple[float, float]) -> UInt8Array:
    """Map (x, y) linearly about the image's centre and shift it, bilinearly; what comes in is black."""
    import cv2

    height, width = image.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - np.array(linear) @ centre + shift
    matrix = np.column_stack([np.array(linear), offset])
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR))


_OPERATIONS = (
    _autocontrast,
    _equalise,
    _posterise,
    _solarise,
    _rotate,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
