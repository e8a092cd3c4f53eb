"""Calibration noise: part of the calibration images is corrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evalsuite.corruptions import check, corrupt
from evalsuite.plugins import IntArray, Pool, UInt8Array
from evalsuite.randomness import numpy_generator
from protocols._fraction import check_fraction, draw_changed, number_changed, share


@dataclass(frozen=True)
class CalibrationNoise:
    """A fraction of the calibration images is corrupted; which ones is drawn at random.

    What a corrupted image looks like depends on the study's seed, its index in the pool, corruption and severity
    alone, and shares no random number with the test images.

    Parameters
    ----------
    corruption : one of the 19 of :mod:`evalsuite.corruptions`; ``gaussian_noise`` (*choice*).
    severity : 1..5; 3 (*choice*).
    fraction : share of the images that are corrupted, 0..1; all (*choice*).
    """

    factor: ClassVar[str] = "noise"

    corruption: str = "gaussian_noise"
    severity: int = 3
    fraction: float = 1.0
    """Rounded to the nearest whole number of images."""

    def __post_init__(self) -> None:
        check(self.corruption, self.severity)
        check_fraction(self.fraction)

    def __str__(self) -> str:
        return f"{self.corruption} {self.severity}{share(self.fraction)}"

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Keep all images. Raises RequestError if the fraction of them is none."""
        number_changed(self.fraction, len(indices), str(self))
        return indices

    def transform(
        self, pool: Pool, images: UInt8Array, indices: IntArray, generator: np.random.Generator
    ) -> UInt8Array:
        """Corrupt the chosen images."""
        chosen = draw_changed(self.fraction, len(images), str(self), generator)
        # Test images are corrupted by the seeds of their own indices, which must not be met again here.
        seed = int(numpy_generator(pool.seed, "calibration noise").integers(2**31))
        changed = images.copy()
        changed[chosen] = corrupt(images[chosen], self.corruption, self.severity, seed=seed, indices=indices[chosen])
        return changed
