"""Range estimation: which part of the real line a grid should cover.

An estimator sees a :class:`Sample`, weighted values per channel, whether these are a layer's weights one by one or
the histogram of an activation. So each method is written once, for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from evalsuite.errors import RequestError
from evalsuite.quantization.affine import affine_parameters, fake_quantize, integer_range


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of C channels, each with the number of times it occurred.

    Attributes
    ----------
    values : (C, n) finite.
    counts : (C, n), or (1, n) for all channels alike.
    low, high : (C,) the exact extremes, where ``values`` may be the centres of bins.
    """

    values: Tensor
    counts: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Sample:
        """Return the sample in which each of the (C, n) values occurs once."""
        low, high = torch.aminmax(values, dim=1)
        return cls(values, torch.ones_like(values[:1]), low, high)


class RangeEstimator(Protocol):
    """Chooses the range of each channel of a sample."""

    def __call__(self, sample: Sample, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper end, (C,) each, of what a grid of so many bits should cover."""
        ...


@dataclass(frozen=True)
class MinMax:
    """Everything that occurred."""

    def __call__(self, sample: Sample, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Return the extremes."""
        return sample.low, sample.high


@dataclass(frozen=True)
class Percentile:
    """All but the rarest values on either side: the range between two percentiles, 0..100.

    Interpolates linearly between neighbouring values, as ``numpy.percentile`` does.
    """

    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise RequestError(f"percentile = {self.percentile}: expected above 50, at most 100")

    def __call__(self, sample: Sample, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Return the percentiles 100 - p and p."""
        values, order = sample.values.sort(dim=1)
        counts = sample.counts.expand_as(values).gather(1, order).double().cumsum(dim=1)
        low = _quantile(values, counts, 1 - self.percentile / 100)
        high = _quantile(values, counts, self.percentile / 100)
        # The centre of an outermost bin may lie outside of what occurred.
        return torch.maximum(low, sample.low), torch.minimum(high, sample.high)


def _quantile(values: Tensor, cumulative: Tensor, q: float) -> Tensor:
    rank = (cumulative[:, -1:] - 1) * q
    below = torch.searchsorted(cumulative, rank.floor(), right=True)
    above = torch.searchsorted(cumulative, rank.ceil(), right=True)
    start, stop = values.gather(1, below), values.gather(1, above)
    return (start + (rank - rank.floor()).to(values.dtype) * (stop - start)).squeeze(1)


@dataclass(frozen=True)
class PowerError:
    """The fraction of the full range whose quantization error is least, error meaning the mean |x - x̂|^norm.

    Both ends shrink together, to 1/steps, 2/steps ... 1 of the extremes, as in BRECQ (Li et al. 2021,
    arXiv 2102.05426).
    """

    steps: int = 100
    norm: float = 2.4

    def __post_init__(self) -> None:
        if self.steps < 1 or self.norm <= 0:
            raise RequestError(f"steps = {self.steps}, norm = {self.norm}: expected at least 1, and above 0")

    def __call__(self, sample: Sample, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
        """Return the ends with the least error."""
        best_low, best_high = sample.low, sample.high
        best = self.error(sample, best_low, best_high, bits, symmetric)
        for step in range(self.steps - 1, 0, -1):
            low, high = sample.low * (step / self.steps), sample.high * (step / self.steps)
            error = self.error(sample, low, high, bits, symmetric)
            better = error < best
            best = torch.where(better, error, best)
            best_low, best_high = torch.where(better, low, best_low), torch.where(better, high, best_high)
        return best_low, best_high

    def error(self, sample: Sample, low: Tensor, high: Tensor, bits: int, symmetric: bool) -> Tensor:
        """Return the sum over the sample of |x - x̂|^norm for each channel's (C,) range: (C,)."""
        scale, zero_point = affine_parameters(low, high, bits, symmetric)
        integers = integer_range(bits, symmetric)
        rounded = fake_quantize(sample.values, scale.unsqueeze(1), zero_point.unsqueeze(1), integers)
        return rounded.sub_(sample.values).abs_().pow_(self.norm).mul_(sample.counts).sum(dim=1)


@dataclass(frozen=True)
class RangeOptions:
    """How a method chooses ranges: the options that PTQ methods with uniform grids share.

    ``range`` is of the activations, and of the weights too unless ``weight_range`` says otherwise. ``percentile``,
    ``steps`` and ``norm`` belong to the estimators of those names; ``bins`` is the resolution of the activations'
    histograms.
    """

    range: Literal["minmax", "percentile", "mse"] = "mse"
    weight_range: Literal["same", "minmax", "percentile", "mse"] = "same"
    percentile: float = 99.99
    steps: int = 100
    norm: float = 2.4
    bins: int = 2048

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise RequestError(f"bins = {self.bins}: expected at least 2")
        self.activation_estimator()
        self.weight_estimator()

    def activation_estimator(self) -> RangeEstimator:
        """Return the estimator for activations."""
        return self._estimator(self.range)

    def weight_estimator(self) -> RangeEstimator:
        """Return the estimator for weights."""
        return self._estimator(self.range if self.weight_range == "same" else self.weight_range)

    def _estimator(self, name: str) -> RangeEstimator:
        estimators: dict[str, RangeEstimator] = {
            "minmax": MinMax(),
            "percentile": Percentile(self.percentile),
            "mse": PowerError(self.steps, self.norm),
        }
        return estimators[name]
