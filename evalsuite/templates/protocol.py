"""A step that makes calibration sets, to begin with: which images of the pool, and how they are changed.

Does it keep its contract? ``pytest test_mine.py``.
In a study: ``protocol = "mine.py:Mine"`` under ``[[calibration]]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray, Pool, UInt8Array


@dataclass(frozen=True)
class Mine:
    """Images drawn at random, darkened.

    Parameters
    ----------
    size : images.
    brightness : what pixels are multiplied by, 0..1.
    """

    # Options are fields. Each has to change something, and one without a default has to be given.
    size: int = 64
    brightness: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RequestError(f"size = {self.size}: expected at least 1")
        if not 0 <= self.brightness <= 1:
            raise RequestError(f"brightness = {self.brightness}: expected 0..1")

    def __str__(self) -> str:
        return f"{self.size} images x {self.brightness:g}"  # what reports call the set

    # A step has select, transform or both.

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Return which of the pool's images ``indices`` to keep, none twice.

        What cannot be is refused here, before a run begins. ``pool`` also has labels, class names and, by
        ``pool.outputs()``, what the full-precision network makes of its images.
        """
        if self.size > len(indices):
            raise RequestError(f"{self.size} images: expected at most {len(indices)}")
        return generator.choice(indices, self.size, replace=False)

    def transform(
        self, pool: Pool, images: UInt8Array, indices: IntArray, generator: np.random.Generator
    ) -> UInt8Array:
        """Return (n, H, W, 3) images changed, of the same shape and type; image k is ``indices[k]`` of the pool."""
        changed: UInt8Array = np.rint(self.brightness * images).astype(np.uint8)
        return changed
