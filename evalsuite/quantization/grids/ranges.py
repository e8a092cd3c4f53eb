"""Range estimation: which part of the real line a grid should cover.

An estimator sees a :class:`Sample`, weighted values per channel, whether these are a layer's weights one by one or
the histogram of an activation. So each method is written once, for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from evalsuite.errors import Refused, RequestError
from evalsuite.number_formats import NumberFormat
from evalsuite.quantization.grids.affine import affine_parameters, fake_quantize, integer_range, quantize
from evalsuite.quantization.grids.formats import chosen_scale, round_to

RARE = 0.01  # of the values that are not zero: so many may lie beyond the bulk
_AT_ONCE = 2**15  # values for which several ranges are tried in one go: what fits a cache, and one thread's share
FAR = 17  # times as far as the bulk lies what is beyond it; odd, so that bins centred on zero divide evenly


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of C channels, each with the number of times it occurred.

    Attributes
    ----------
    values : (C, n) finite.
    counts : (C, n), or (1, n) for all channels alike.
    low, high : (C,) the exact extremes, where ``values`` may be the centres of bins.
    spacing : of the bulk of the values where other bins than theirs would leave gaps; 0 where they would not.
    """

    values: Tensor
    counts: Tensor
    low: Tensor
    high: Tensor
    spacing: float = 0.0

    @classmethod
    def of(cls, values: Tensor) -> Sample:
        """Return the sample in which each of the (C, n) values occurs once."""
        low, high = torch.aminmax(values, dim=1)
        return cls(values, torch.ones_like(values[:1]), low, high)


def bulk(sample: Sample) -> Tensor:
    """Return the magnitude that 99 % of each channel's values that are not zero do not exceed, (C,); 0 without any."""
    magnitudes, order = sample.values.abs().sort(dim=1)
    counts = sample.counts.expand_as(magnitudes).gather(1, order).double() * (magnitudes > 0)
    cumulative = counts.cumsum(dim=1)
    total = cumulative[:, -1:]
    needed = total - (RARE * total).floor()
    return magnitudes.gather(1, torch.searchsorted(cumulative, needed).clamp(max=magnitudes.shape[1] - 1)).squeeze(1)


def _clipped(sample: Sample) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the extremes, then those up to 1/17, 1/17² ... of the largest magnitude while the bulk is inside.

    (C,) each; a channel whose bulk would not be inside keeps the ends that it had.
    """
    low, high = sample.low, sample.high
    yield low, high
    limit, inside = torch.maximum(high, -low), bulk(sample)
    while True:
        far = (inside > 0) & (inside <= limit / FAR)
        if not far.any():
            return
        limit = torch.where(far, limit / FAR, limit)
        within = (sample.values.abs() <= limit.unsqueeze(1)) & (sample.counts > 0)
        low = torch.where(far, sample.values.where(within, torch.inf).amin(dim=1), low)
        high = torch.where(far, sample.values.where(within, -torch.inf).amax(dim=1), high)
        yield low, high


class RangeEstimator(Protocol):
    """Chooses the range of each channel of a sample."""

    def __call__(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper end, (C,) each, of what a grid of so many bits should cover.

        ``format`` stands in the place of the integers where one is given, and has no blocks.
        """
        ...


@dataclass(frozen=True)
class MinMax:
    """Everything that occurred."""

    def __call__(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> tuple[Tensor, Tensor]:
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

    @property
    def beyond(self) -> float:
        """The part of all values that lies above, 0..0.5."""
        return 1 - self.percentile / 100

    def __call__(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> tuple[Tensor, Tensor]:
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


class _Shrinking:
    """Picks the fraction of the full range that loses least.

    Both ends shrink together, to 1/steps, 2/steps ... 1 of the extremes, as in BRECQ (Li et al. 2021,
    arXiv 2102.05426); of equally good ranges the widest is chosen. Ours: where a hundredth of the values or less lies
    17 times as far out as all others, fractions of these others' range are tried as well.
    """

    steps: int

    def __call__(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the ends with the least loss."""
        best_low, best_high = sample.low, sample.high
        loss = self.losses(sample, bits, symmetric, format)
        best = loss(best_low.unsqueeze(0), best_high.unsqueeze(0))[0]
        at_once = max(1, _AT_ONCE // sample.values.numel())
        for number, (lowest, highest) in enumerate(_clipped(sample)):
            steps = range(self.steps if number else self.steps - 1, 0, -1)
            for start in range(0, len(steps), at_once):
                fractions = [step / self.steps for step in steps[start : start + at_once]]
                low, high = (torch.stack([end * fraction for fraction in fractions]) for end in (lowest, highest))
                errors = loss(low, high)
                errors = torch.where(errors.isnan(), torch.inf, errors)
                least = errors.argmin(dim=0, keepdim=True)  # the first of several, which is the widest
                error, low, high = (each.gather(0, least)[0] for each in (errors, low, high))
                better = error < best
                best = torch.where(better, error, best)
                best_low, best_high = torch.where(better, low, best_low), torch.where(better, high, best_high)
        return best_low, best_high

    def losses(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function that tells what K ranges, (K, C) lower and upper ends, lose of a sample: (K, C)."""
        raise NotImplementedError


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise RequestError(f"steps = {steps}: expected at least 1")


def _rounded(
    sample: Sample, low: Tensor, high: Tensor, bits: int, symmetric: bool, format: NumberFormat | None
) -> Tensor:
    """Return the sample's values on the grids that cover ``low``..``high``, (K, C): (K, C, n)."""
    if format is not None:
        return round_to(sample.values, chosen_scale(low, high, format).unsqueeze(-1), format)
    scale, zero_point = affine_parameters(low, high, bits, symmetric)
    return fake_quantize(sample.values, scale.unsqueeze(-1), zero_point.unsqueeze(-1), integer_range(bits, symmetric))


@dataclass(frozen=True)
class PowerError(_Shrinking):
    """The fraction of the full range whose quantization error is least, error meaning the mean |x - x̂|^norm."""

    steps: int = 100
    norm: float = 2.4

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if self.norm <= 0:
            raise RequestError(f"norm = {self.norm}: expected above 0")

    def losses(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the sum over the sample of |x - x̂|^norm."""

        def error(low: Tensor, high: Tensor) -> Tensor:
            difference = _rounded(sample, low, high, bits, symmetric, format).sub_(sample.values)
            return difference.abs_().pow_(self.norm).mul_(sample.counts).sum(dim=-1)

        return error


@dataclass(frozen=True)
class CosineSimilarity(_Shrinking):
    """The fraction of the full range whose quantized values point most nearly the way of the values themselves.

    Largest cosine of the angle between x and x̂; EasyQuant (Wu et al. 2020, arXiv 2006.16669) takes it between a
    layer's outputs instead.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def losses(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return one minus the cosine; 1 where all of x̂ is zero."""
        values, counts = sample.values.double(), sample.counts.double()
        length = (values.square() * counts).sum(dim=1).sqrt()

        def angle(low: Tensor, high: Tensor) -> Tensor:
            rounded = _rounded(sample, low, high, bits, symmetric, format).double()
            product = (values * rounded * counts).sum(dim=-1)
            lengths = length * (rounded.square() * counts).sum(dim=-1).sqrt()
            # The last digits are rounding, and must not decide between ranges that are equally good.
            return (1 - torch.where(lengths > 0, product / lengths, 0)).round(decimals=12)

        return angle


_BINS_AT_ONCE = 2**17
"""Bins of candidates that are looked at together: few enough to stay in a processor's cache."""


@dataclass(frozen=True)
class Divergence(_Shrinking):
    """The fraction of the full range that loses least information: least Kullback-Leibler divergence.

    TensorRT's entropy calibration (Migacz 2017, "8-bit Inference with TensorRT"). The reference is the histogram
    with what lies outside the range put into its outermost bins; the candidate is the histogram inside the range
    alone, the mass of each level of the grid spread evenly over the level's bins that are not empty. Candidates
    have at least as many bins as the grid has levels.

    Ours: both ends of an asymmetric range shrink together; bins belong to the level they round to; zero, which
    every grid holds exactly, counts as much as its neighbouring bins on average, so that the zeros after a ReLU
    do not decide; values seen one by one (weights) are put into as many bins as there are values, ``bins`` at the
    most, so that a channel with fewer values than levels keeps its full range; where a hundredth of the values or
    less lies far beyond all others, the bins cover these others alone, and no wider range is tried.
    """

    steps: int = 100
    bins: int = 2048

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def losses(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the divergence in nats; infinite where the candidate calls impossible what occurs.

        Raises Refused for a format: its levels are no equal parts of the range, which the bins' mass is spread over.
        """
        if format is not None:
            raise Refused(f"range = kl with {format.name}: expected minmax, percentile, mse or cosine")
        width, first, last, mass, outside = _histogram(sample, self.bins)
        index = first + torch.arange(mass.shape[1], device=mass.device)
        centres = index * width
        total = mass.sum(dim=1, keepdim=True) + outside[0] + outside[1]
        integers = integer_range(bits, symmetric)

        def divergence(low: Tensor, high: Tensor) -> Tensor:
            start = (low.unsqueeze(2).clamp(max=0) / width).round()
            stop = (high.unsqueeze(2).clamp(min=0) / width).round()
            inside = (index >= start) & (index <= stop)
            held = mass * inside
            below = (mass * (index < start)).sum(2, True) + outside[0]
            above = (mass * (index > stop)).sum(2, True) + outside[1]
            reference = (held + below * (index == start) + above * (index == stop)) / total
            scale, zero_point = affine_parameters(low, high, bits, symmetric)
            level = quantize(centres, scale.unsqueeze(2), zero_point.unsqueeze(2), integers).long() - integers.low
            occupied = (reference > 0).double()
            empty = mass.new_zeros(*low.shape, integers.high - integers.low + 1)
            share = empty.scatter_add(2, level, held) / empty.scatter_add(2, level, occupied).clamp(min=1)
            candidate = share.gather(2, level) * occupied / held.sum(dim=2, keepdim=True)
            result = torch.where(occupied > 0, reference * (reference / candidate).log(), 0).sum(dim=2)
            eligible = (stop - start + 1 >= empty.shape[2]) | ((start <= first) & (stop >= last))
            eligible &= (start >= first) & (stop <= last)
            return torch.where(eligible.squeeze(2) & result.isfinite(), result, torch.inf)

        at_once = max(1, _BINS_AT_ONCE // mass.numel())

        def losses(low: Tensor, high: Tensor) -> Tensor:
            return torch.cat(list(map(divergence, torch.split(low, at_once), torch.split(high, at_once))))

        return losses


def _histogram(sample: Sample, bins: int) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return bins centred on multiples of a width, which hold zero and the extremes, or the bulk where it lies far in.

    Returns
    -------
    width, first, last : (C, 1) the bins' width, the numbers of the outermost ones; bin k is centred on k * width.
    mass : (C, m) what is in the bins, that of zero replaced by its neighbours' mean.
    outside : (C, 1) each, what is below and above them.
    """
    bins = min(bins, sample.values.shape[1])
    *_, (lowest, highest) = _clipped(sample)
    low, high = (end.double().unsqueeze(1) for end in (lowest.clamp(max=0), highest.clamp(min=0)))
    width = (high / bins - low / bins).clamp(min=torch.finfo(torch.float32).tiny)
    if sample.spacing:
        width = (width / sample.spacing).ceil() * sample.spacing
    first, last = (low / width).round(), (high / width).round()
    count = int((last - first).max()) + 1
    below = (sample.values < lowest.unsqueeze(1)) & (lowest > sample.low).unsqueeze(1)
    above = (sample.values > highest.unsqueeze(1)) & (highest < sample.high).unsqueeze(1)
    index = ((sample.values.double() / width).round() - first).clamp(0, count - 1).long()
    counts = sample.counts.double().expand_as(index)
    mass = torch.zeros(len(index), count, dtype=torch.float64, device=index.device)
    mass.scatter_add_(1, index, counts * ~(below | above))
    # Zero's neighbours, where there are any.
    around = torch.cat([-first - 1, 1 - first], dim=1)
    held = ((around >= 0) & (around <= last - first)).double()
    beside = mass.gather(1, around.clamp(0, count - 1).long()) * held
    mean = beside.sum(dim=1, keepdim=True) / held.sum(dim=1, keepdim=True).clamp(min=1)
    outside = (counts * below).sum(dim=1, keepdim=True), (counts * above).sum(dim=1, keepdim=True)
    return width, first, last, mass.scatter(1, -first.long(), mean), outside


@dataclass(frozen=True)
class RangeOptions:
    """How a method chooses ranges: the options that PTQ methods with uniform grids share.

    Parameters
    ----------
    range : the estimator of activations' ranges, and of weights' too unless ``weight_range`` says otherwise; ``mse``
        (*choice*).
    weight_range : the estimator of weights' ranges; ``same`` as ``range``.
    percentile : per cent of the values that lie inside, of the estimator of that name; 99.99 (*choice*).
    steps : fractions of the range that the estimators ``mse``, ``kl`` and ``cosine`` try; 100 (*choice*).
    norm : exponent of the error that ``mse`` makes least; 2.4, as BRECQ's and QDrop's programs.
    bins : of the activations' histograms; 2,048 (*choice*).
    """

    range: Literal["minmax", "percentile", "mse", "kl", "cosine"] = "mse"
    weight_range: Literal["same", "minmax", "percentile", "mse", "kl", "cosine"] = "same"
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
            "kl": Divergence(self.steps, self.bins),
            "cosine": CosineSimilarity(self.steps),
        }
        return estimators[name]
