"""Which images of the pool a calibration set is made of: at random, by class, by uncertainty, or by coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray, Pool
from protocols.calibration import CalibrationSize
from protocols.composition import Balanced

Method = Literal["random", "class_balanced", "high_entropy", "low_entropy", "k_centre", "herding"]


@dataclass(frozen=True)
class Sampling:
    """Images drawn at random, class-balanced, by entropy, as k centres, or by herding.

    The last four look at the pool through the full-precision network: its softmax's entropy (high or low), or the
    features that its classifier reads (:func:`k_centre`, :func:`herding`). They would choose the same images in every
    draw, so each draw offers them a random part of the pool only; that part is ours.

    Parameters
    ----------
    size : images; 256 (*choice*).
    method : how they are chosen; ``random`` (*choice*).
    candidates : share of the pool, 0..1, that a draw offers to the methods that look at it; 0.5 (*ours*).
    """

    factor: ClassVar[str] = "sampling"

    size: int = 256
    method: Method = "random"
    candidates: float = 0.5
    """Share of the images offered to the methods that look at them; never fewer than ``size`` images."""

    def __post_init__(self) -> None:
        if not 0 < self.candidates <= 1:
            raise RequestError(f"candidates {self.candidates}: expected more than 0 and at most 1")

    def __str__(self) -> str:
        return f"{self.size} images, {self.method}"

    def select(self, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
        """Choose ``size`` of the images. Raises RequestError if there are fewer."""
        if self.method == "random":
            return CalibrationSize(self.size).select(pool, indices, generator)
        if self.method == "class_balanced":
            return Balanced(self.size).select(pool, indices, generator)
        if not 1 <= self.size <= len(indices):
            raise RequestError(f"{self}: expected 1 to {len(indices)}, what the pool holds")
        offered = generator.choice(indices, max(self.size, round(self.candidates * len(indices))), replace=False)
        outputs = pool.outputs()
        if self.method == "k_centre":
            chosen = k_centre(outputs.features[offered], self.size)
        elif self.method == "herding":
            chosen = herding(outputs.features[offered], self.size)
        else:
            sign = -1 if self.method == "high_entropy" else 1
            chosen = np.argsort(sign * entropy(outputs.logits[offered]), kind="stable")[: self.size]
        return generator.permutation(offered[chosen])


def entropy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Entropy of the softmax of (N, classes) logits, in nats: (N,)."""
    from scipy.special import log_softmax  # slow to import, and studies name this protocol to plan as well

    log_p = log_softmax(logits.astype(np.float64), axis=1)
    found: NDArray[np.float64] = -(np.exp(log_p) * log_p).sum(axis=1)
    return found


def k_centre(features: NDArray[np.floating], size: int) -> IntArray:
    """Choose rows of (N, D) features so that every row is near a chosen one: (size,) positions.

    Greedy k-centre (Gonzalez 1985; for core sets Sener & Savarese 2018, arXiv 1708.00489): the first row, then each
    time the row farthest from those chosen, by Euclidean distance. The largest distance that is left is at most
    twice the smallest possible. Time in proportion to ``size`` x N x D.
    """
    points = features.astype(np.float64)
    norms = (points**2).sum(axis=1)
    nearest = np.full(len(points), np.inf)  # squared distance to the nearest chosen row
    chosen = np.zeros(size, dtype=np.int64)
    for number in range(1, size + 1):
        last = chosen[number - 1]
        nearest = np.minimum(nearest, norms - 2 * points @ points[last] + norms[last])
        nearest[last] = -np.inf  # rows that are equal must not be chosen twice
        if number < size:
            chosen[number] = nearest.argmax()
    return chosen


def herding(features: NDArray[np.floating], size: int) -> IntArray:
    """Choose rows of (N, D) features whose mean follows the mean of all: (size,) positions.

    Herding (Welling 2009) as iCaRL chooses exemplars (Rebuffi et al. 2017, arXiv 1611.07725), but over all classes
    together: rows are scaled to length 1; each time the row that brings the mean of the chosen nearest to the mean
    of all.
    """
    points = features.astype(np.float64)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    mean = points.mean(axis=0)
    lengths = (points**2).sum(axis=1)  # 1, or 0 for a row of zeros
    total = np.zeros_like(mean)
    free = np.ones(len(points), dtype=np.bool_)
    chosen = np.empty(size, dtype=np.int64)
    for number in range(size):
        distance = lengths - 2 * points @ ((number + 1) * mean - total)
        chosen[number] = np.where(free, distance, np.inf).argmin()
        total += points[chosen[number]]
        free[chosen[number]] = False
    return chosen
