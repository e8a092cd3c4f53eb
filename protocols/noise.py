"""Calibration noise: part of the calibration images is corrupted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalsuite.corruptions import check, corrupt
from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray, Pool, UInt8Array


@dataclass(frozen=True)
class CalibrationNoise:
    """A fraction of the calibration images is corrupted; which ones is drawn at random."""

    corruption: str = "gaussian_noise"
    severity: int = 3
    fraction: float = 1.0

    def __post_init__(self) -> None:
        check(self.corruption, self.severity)
        if not 0 < self.fraction <= 1:
            raise RequestError(f"contaminated fraction {self.fraction}: expected more than 0 and at most 1")

    def __str__(self) -> str:
        share = "" if self.fraction == 1 else f" on {100 * self.fraction:g} %"
        return f"{self.corruption} {self.severity}{share}"

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Keep all images."""
        return indices

    def transform(self, images: UInt8Array, indices: IntArray, generator: np.random.Generator) -> UInt8Array:
        """Corrupt the nearest whole number of images to ``fraction``, at least one."""
        count = max(1, round(self.fraction * len(images)))
        chosen = np.sort(generator.choice(len(images), count, replace=False))
        changed = images.copy()
        changed[chosen] = corrupt(
            images[chosen],
            self.corruption,
            self.severity,
            seed=int(generator.integers(2**31)),
            indices=indices[chosen],
        )
        return changed
