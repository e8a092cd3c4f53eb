"""Out-of-distribution calibration: images that are nothing like the task's take the place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray, Pool, TaskData, UInt8Array
from evalsuite.registry import configure
from protocols._fraction import check_fraction, draw_changed, number_changed, share
from protocols._synthetic import coloured_noise, fractals, gaussian_noise


@dataclass(frozen=True)
class OtherDataSet:
    """Another task's images, resized to this one's, take the place of a fraction of the images.

    They come from the other task's pool, none twice; its test images stay unseen.

    Parameters
    ----------
    task : name of the other task (*choice*: the digits, which ship).
    options : of that task; its defaults.
    fraction : share of the images that are replaced, 0..1; all (*choice*).
    """

    factor: ClassVar[str] = "out of distribution"

    task: str = "digits/resnet"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of that task."""
    fraction: float = 1.0
    """Rounded to the nearest whole number of images."""

    def __post_init__(self) -> None:
        configure("tasks", self.task, self.options)
        check_fraction(self.fraction)

    def __str__(self) -> str:
        return f"images of {self.task}{share(self.fraction)}"

    @property
    def reads(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """The other task."""
        return ((self.task, self.options),)

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Keep all images. Raises RequestError if the other task's data are missing or too few."""
        self._enough(pool.load(self.task, self.options), number_changed(self.fraction, len(indices), str(self)))
        return indices

    def transform(
        self, pool: Pool, images: UInt8Array, indices: IntArray, generator: np.random.Generator
    ) -> UInt8Array:
        """Put the other images in place of the chosen ones."""
        other = pool.load(self.task, self.options)
        chosen = draw_changed(self.fraction, len(images), str(self), generator)
        self._enough(other, len(chosen))
        drawn = np.sort(generator.choice(len(other.pool_images), len(chosen), replace=False))
        changed = images.copy()
        changed[chosen] = resize(other.pool_images[generator.permutation(drawn)], images.shape[1], images.shape[2])
        return changed

    def _enough(self, other: TaskData, count: int) -> None:
        if count > len(other.pool_images):
            raise RequestError(
                f"{count} {self}: its pool has {len(other.pool_images)}; expected a smaller calibration set, chosen "
                "by a step before this one"
            )


@dataclass(frozen=True)
class SyntheticImages:
    """Fractals, coloured noise or Gaussian noise take the place of a fraction of the images.

    Parameters
    ----------
    kind : of image; ``fractals`` (*choice*).
    fraction : share of the images that are replaced, 0..1; all (*choice*).
    """

    factor: ClassVar[str] = "out of distribution"

    kind: Literal["fractals", "coloured_noise", "gaussian_noise"] = "fractals"
    fraction: float = 1.0
    """Rounded to the nearest whole number of images."""

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    def __str__(self) -> str:
        return f"only {self.kind}" if self.fraction == 1 else f"{self.kind}{share(self.fraction)}"

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Keep all images. Raises RequestError if the fraction of them is none."""
        number_changed(self.fraction, len(indices), str(self))
        return indices

    def transform(
        self, pool: Pool, images: UInt8Array, indices: IntArray, generator: np.random.Generator
    ) -> UInt8Array:
        """Put synthetic images in place of the chosen ones."""
        chosen = draw_changed(self.fraction, len(images), str(self), generator)
        shape = (len(chosen), *images.shape[1:3])
        changed = images.copy()
        if self.kind == "fractals":
            changed[chosen] = fractals(shape, generator)
        elif self.kind == "coloured_noise":
            changed[chosen] = coloured_noise(shape, pool.mean, pool.std, generator)
        else:
            changed[chosen] = gaussian_noise(shape, pool.mean, pool.std, generator)
        return changed


def resize(images: UInt8Array, height: int, width: int) -> UInt8Array:
    """Resize (N, H, W, 3) images: by area where they shrink, bilinearly where they grow."""
    import cv2

    if images.shape[1:3] == (height, width):
        return np.asarray(images)
    shrinks = height * width < images.shape[1] * images.shape[2]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    made: UInt8Array = np.stack([cv2.resize(image, (width, height), interpolation=method) for image in images])
    return made
