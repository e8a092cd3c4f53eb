"""Corruptions of images: one interface, every image with a generator of its own.

The list and its order are those of Hendrycks & Dietterich 2019 (arXiv 1903.12261): 15 common corruptions and
4 held out for development.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite.arguments import whole_number
from evalsuite.corruptions.constants import choose
from evalsuite.errors import RequestError, unknown_name
from evalsuite.randomness import numpy_generator

if TYPE_CHECKING:
    from evalsuite.plugins import IntArray, UInt8Array

FAMILIES: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
COMMON: tuple[str, ...] = tuple(name for names in FAMILIES.values() for name in names)
"""The 15 common corruptions in the usual order."""
HELD_OUT: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 on which hyper-parameters may be chosen; never a test corruption."""

_FAMILY = {name: family for family, names in FAMILIES.items() for name in names} | dict.fromkeys(HELD_OUT, "held out")

ENGINES = ("fast", "reference")


def family(name: str) -> str:
    """Return the family of a corruption: noise, blur, weather, digital, held out; ``clean`` is its own."""
    return _FAMILY.get(name, name)


def check(name: str, severity: int) -> None:
    """Raise RequestError unless there is such a corruption and severity."""
    if not isinstance(name, str) or name not in _FAMILY:
        raise unknown_name("corruption", str(name), _FAMILY)
    if isinstance(severity, bool) or severity not in (1, 2, 3, 4, 5):
        raise RequestError(f"severity {severity!r} of {name}: expected 1, 2, 3, 4 or 5")


def _array(images: Any) -> UInt8Array:
    try:
        array = np.asarray(images)
    except (ValueError, TypeError, RuntimeError) as error:
        raise RequestError(f"images: {error}; expected (N, H, W, 3) uint8, all of one size") from error
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or min(array.shape[1:3]) < 32:
        raise RequestError(
            f"images of shape {array.shape}, {array.dtype}: expected (N, H, W, 3) uint8 of at least 32 x 32 pixels"
        )
    return array


def corrupt(
    images: UInt8Array,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    first_index: int = 0,
    indices: IntArray | None = None,
    constants: str | None = None,
    engine: str = "fast",
    data_set: str = "",
) -> UInt8Array:
    """Corrupt images; an image's result depends on its index and the seed, not on the batch it comes in.

    Parameters
    ----------
    images : (N, H, W, 3) uint8, RGB, at least 32 pixels high and wide; a list of N such (H, W, 3) will do.
    name, severity : one of the 19 corruptions; 1..5. Floats without a fraction count as integers, here and as a seed.
    seed, first_index, data_set : image i uses the generator of (seed, data_set, name, severity, ``first_index + i``).
    indices : (N,) the images' own indices, where they are not consecutive; overrides ``first_index``.
    constants : ``cifar`` or ``imagenet``; by default ``cifar`` for images whose shorter side is below 64 pixels.
    engine : ``fast``, or ``reference``, the imagecorruptions package, which has the constants ``imagenet`` only. Both
        draw from the same distributions, not the same numbers.

    Returns
    -------
    (N, H, W, 3) uint8, a new array.

    Raises
    ------
    RequestError
        For an unknown name, severity, engine or constant set, or images or indices of another form.
    """
    check(name, severity)
    if engine not in ENGINES:
        raise unknown_name("corruption engine", engine, ENGINES)
    severity, seed, first_index = int(severity), whole_number("seed", seed), whole_number("first_index", first_index)
    images = _array(images)
    numbers = _image_numbers(len(images), first_index, indices)
    chosen = choose("imagenet" if engine == "reference" and constants is None else constants, *images.shape[1:3])
    if engine == "fast":
        from evalsuite.corruptions.fast import corrupt_images

        return corrupt_images(images, name, severity, chosen, numbers, seed, data_set)
    if chosen != "imagenet":
        raise RequestError(
            f"constant set {chosen!r} with the reference engine: expected 'imagenet', the only one it has"
        )
    return _by_reference(images, name, severity, numbers, seed, data_set)


def _image_numbers(count: int, first_index: int, indices: IntArray | None) -> IntArray:
    """Return the number of each image, (N,) int64, by which its generator is seeded."""
    if indices is None:
        whole_number("first_index + images", first_index + count)
        return np.arange(first_index, first_index + count, dtype=np.int64)
    numbers = np.asarray(indices)
    if numbers.shape != (count,):
        raise RequestError(f"indices of shape {numbers.shape}: expected one for each of {count} images")
    return np.array([whole_number("index", index) for index in numbers.tolist()], dtype=np.int64)


def _by_reference(
    images: UInt8Array, name: str, severity: int, numbers: IntArray, seed: int, data_set: str
) -> UInt8Array:
    from evalsuite.corruptions.reference import corrupt_image

    out = np.empty_like(images)
    for position, (image, index) in enumerate(zip(images, numbers, strict=True)):
        generator = numpy_generator(seed, data_set, name, severity, int(index))
        out[position] = corrupt_image(image, name, severity, generator)
    return out
