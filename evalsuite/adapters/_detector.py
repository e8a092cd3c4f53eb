"""ZOA's domain change detector: how far a batch's low-level statistics are from the recent ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

_OLD = 0.8
_LEAST_VARIANCE = 1e-8

Distance = Callable[[Tensor, Tensor, Tensor, Tensor], float]
"""How far one mean and variance of C channels are from another: (C,) each, the running ones first."""


def gaussian_distance(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> float:
    """Symmetric Kullback-Leibler divergence of two Gaussians a channel, averaged over (C,) channels."""
    gap = (mean - other_mean).square()
    there = (variance + gap) / (2 * (other_variance + 1e-8)) - 0.5
    back = (other_variance + gap) / (2 * (variance + 1e-8)) - 0.5
    return float((there + back).mean())


@dataclass(frozen=True)
class WhitenedDistance:
    """Squared difference of two batches' moments in the spread of single images', averaged over its 2C directions.

    A batch's moments are its channels' means and logarithms of variances. Channels of a first layer see much the same:
    their moments move together from image to image, by much along few directions and hardly at all along the others,
    where a change of domain shows best. The difference is therefore whitened by the covariance of what single images
    add to a batch's moments (*ours*); two batches of N images of one domain are at most about 2/N apart.

    Attributes
    ----------
    precision : (2C, 2C), the covariance's inverse.
    """

    precision: Tensor

    @classmethod
    @torch.no_grad()
    def of_images(cls, means: Tensor, variances: Tensor) -> WhitenedDistance:
        """Measure the covariance, shrunk as Ledoit and Wolf (2004) do, on single source images.

        Parameters
        ----------
        means, variances : (N, C), of each image over its positions.
        """
        mean = means.mean(dim=0)
        squares = variances + (means - mean).square()  # of each image around the mean of all
        variance = squares.mean(dim=0).clamp(min=_LEAST_VARIANCE)
        from sklearn.covariance import ledoit_wolf  # a second to import, for those who ask for this distance

        # Log variances are linear in these near the source; so a batch adds up its images.
        added = torch.cat([means - mean, squares / variance - 1], dim=1).double()
        scale = added.std(dim=0).clamp(min=1e-6)  # shrinking wants directions of one unit
        covariance, _ = ledoit_wolf((added / scale).cpu().numpy(), assume_centered=True)
        inverse = torch.linalg.inv(torch.from_numpy(covariance).to(added))
        return cls((inverse / scale / scale[:, None]).to(means))

    def __call__(self, mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> float:
        """Return the distance of (C,) moments."""
        logs = (moment.clamp(min=_LEAST_VARIANCE).log() for moment in (other_variance, variance))
        gap = torch.cat([other_mean - mean, next(logs) - next(logs)])
        return float(gap @ self.precision @ gap / len(gap))


@dataclass
class DomainDetector:
    """Compares every batch with a running mean and variance (0.8 old, 0.2 new) of the current domain.

    Attributes
    ----------
    threshold : distance above which a batch begins a new domain.
    min_batch : smaller batches are not judged, nor do they enter the running statistics: theirs are too noisy.
    distance : of the running moments and a batch's.
    distances : what was measured, one a judged batch that had a predecessor.
    judged : numbers of the batches, from 0, that were compared with an earlier one or with the source.
    unjudged : how many batches were too small.
    """

    threshold: float
    min_batch: int
    distance: Distance = gaussian_distance
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
        self.distances.append(self.distance(self.mean, self.variance, mean, variance))
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
