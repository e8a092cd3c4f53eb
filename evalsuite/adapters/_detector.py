"""ZOA's domain change detector: how far a batch's low-level statistics are from the recent ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

_OLD = 0.8


def gaussian_distance(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> float:
    """Symmetric Kullback-Leibler divergence of two Gaussians a channel, averaged over (C,) channels."""
    gap = (mean - other_mean).square()
    there = (variance + gap) / (2 * (other_variance + 1e-8)) - 0.5
    back = (other_variance + gap) / (2 * (variance + 1e-8)) - 0.5
    return float((there + back).mean())


@dataclass
class DomainDetector:
    """Compares every batch with a running mean and variance (0.8 old, 0.2 new) of the current domain.

    Attributes
    ----------
    threshold : distance above which a batch begins a new domain.
    min_batch : smaller batches are not judged, nor do they enter the running statistics: theirs are too noisy.
    distances : what was measured, one a judged batch that had a predecessor.
    judged : numbers of the batches, from 0, that were compared with an earlier one or with the source.
    unjudged : how many batches were too small.
    """

    threshold: float
    min_batch: int
    mean: Tensor | None = None
    variance: Tensor | None = None
    distances: list[float] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    unjudged: int = 0
    batches: int = 0

    def changed(self, images: int, mean: Tensor, variance: Tensor) -> bool:
        """Judge a batch of so many images by its (C,) moments; a change starts the running ones from this batch."""
        number, self.batches = self.batches, self.batches + 1
        if images < self.min_batch:
            self.unjudged += 1
            return False
        if self.mean is None or self.variance is None:
            self.mean, self.variance = mean, variance
            return False
        self.judged.append(number)
        self.distances.append(gaussian_distance(self.mean, self.variance, mean, variance))
        change = self.distances[-1] > self.threshold
        if change:
            self.mean, self.variance = mean, variance
        else:
            self._follow(mean, variance)
        return change

    def follow(self, images: int, mean: Tensor, variance: Tensor) -> None:
        """Take the (C,) moments of so many images into the running ones without judging them."""
        if images >= self.min_batch:
            self._follow(mean, variance)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        old = (mean, variance) if self.mean is None or self.variance is None else (self.mean, self.variance)
        self.mean = _OLD * old[0] + (1 - _OLD) * mean
        self.variance = _OLD * old[1] + (1 - _OLD) * variance
