"""Calibration-set size: how many images a PTQ method may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray, Pool


@dataclass(frozen=True)
class CalibrationSize:
    """So many images of the pool, drawn at random without replacement; the seed is the draw.

    Parameters
    ----------
    size : images; 256 (*choice*).
    """

    factor: ClassVar[str] = "size"

    size: int = 256

    def __str__(self) -> str:
        return f"{self.size} images"

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Draw ``size`` of the images. Raises RequestError if there are fewer."""
        if not 1 <= self.size <= len(indices):
            raise RequestError(f"calibration size {self.size}: expected 1 to {len(indices)}, what the pool holds")
        return generator.choice(indices, self.size, replace=False)
