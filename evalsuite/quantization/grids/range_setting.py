"""Calibration: weights are rounded, activations are watched on calibration images in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.networks import HALF
from evalsuite.number_formats import NumberFormat
from evalsuite.quantization.grids.layers import ActivationQuantizer, activation_quantizers, quantized_layers
from evalsuite.quantization.grids.ranges import FAR, RARE, RangeEstimator, Sample, bulk

_BATCH = 64  # images at a time; no part of any result but for rounding in the last digit
_COARSE = 120  # bins on either side of zero: what all lies within is not resolved
_LEVELS = 6  # of finer bins that are added at once: to run the network again costs more


def check_images(images: Tensor) -> None:
    """Raise RequestError unless these are normalised images: float (N, C, H, W), at least one, all finite."""
    if images.ndim != 4 or len(images) == 0 or not images.is_floating_point():
        raise RequestError(
            f"calibration images are {images.dtype} of shape {tuple(images.shape)}: "
            "expected at least one normalised float image, (N, C, H, W)"
        )
    if images.dtype in HALF:
        raise RequestError(
            f"calibration images are {images.dtype}: expected float32 where a plugin is called by itself "
            "(evalsuite.quantize takes half precision and computes in float32)"
        )
    broken = (~images.isfinite().flatten(1).all(dim=1)).nonzero()
    if len(broken):
        raise RequestError(f"calibration image {int(broken[0])} holds NaN or infinity: expected finite values")


def batches(images: Tensor, size: int = _BATCH) -> Iterator[Tensor]:
    """Cut (N, C, H, W) images into batches of at most ``size``."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def set_weight_ranges(model: nn.Module, estimator: RangeEstimator) -> None:
    """Choose every weight's grid; rounds nothing yet. Warns of channels that hold nothing but zeros.

    Where blocks of a number format have scales of their own, the extremes are covered whatever the estimator.

    Raises
    ------
    RequestError
        For a weight that is not finite, with the layer's name.
    """
    for name, layer in quantized_layers(model).items():
        rows = layer.rows()
        if not rows.isfinite().all():
            raise RequestError(f"{name}: its weight holds NaN or infinity: expected finite values")
        empty = int((rows == 0).all(dim=1).sum())
        if empty:
            _warn(f"{name}: {empty} of {len(rows)} output channels have only zero weights")
        grid = layer.weight_bits, layer.symmetric, layer.weight_format
        layer.set_weight_range(*_chosen(estimator, Sample.of(rows), *grid))


def _chosen(
    estimator: RangeEstimator, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None
) -> tuple[Tensor, Tensor]:
    """Return the range that an estimator chooses, or the extremes where blocks choose their own scales."""
    if format is None:
        return estimator(sample, bits, symmetric)
    return estimator(sample, bits, symmetric, format) if format.is_searched else (sample.low, sample.high)


def round_weights(model: nn.Module) -> None:
    """Round every weight to the nearest point of its grid."""
    for layer in quantized_layers(model).values():
        layer.round_weight()


def set_activation_ranges(
    model: nn.Module,
    images: Tensor,
    estimator: RangeEstimator,
    *,
    bins: int = 2048,
    only: Collection[str] | None = None,
    within: str = "",
) -> None:
    """Choose the range of every activation quantizer, from what reaches it while none of them rounds.

    Runs the images twice: for the exact extremes, then for a histogram between them; and again for a finer one where
    few values lie far beyond all others. Memory does not grow with the number of images. An activation that is
    constant, or not finite, or not reached, or of which hardly anything but zeros would remain, is named in a
    QuantizationWarning; one that has no finite value at all stays unquantized.

    Parameters
    ----------
    images : (N, C, H, W) normalised.
    bins : of the histograms.
    only : names of the quantizers to calibrate; the others go on rounding if they are calibrated. All by default.
    within : name of the model in a larger one, for warnings.
    """
    quantizers = activation_quantizers(model)
    chosen = {name: quantizers[name] for name in (quantizers if only is None else only)}
    extremes = {name: _Extremes() for name in chosen}
    _observe(model, images, {chosen[name]: one.add for name, one in extremes.items()})
    for name, one in extremes.items():
        title = f"{within}.{name}" if within else name
        if one.count == 0:
            _warn(f"{title}: not reached by the calibration images or no finite value, stays unquantized")
        elif one.dropped:
            _warn(f"{title}: {one.dropped} values were NaN or infinite and are left out")
        if one.count and one.low == one.high:
            _warn(f"{title}: constant, always {one.low:.6g}")
    histograms = {name: Histogram(one.low, one.high, bins) for name, one in extremes.items() if one.count}
    waiting = histograms
    while waiting:
        _observe(model, images, {chosen[name]: one.add for name, one in waiting.items()})
        finer = {name: one.finer(*extremes[name].wanted(estimator)) for name, one in waiting.items()}
        waiting = {name: one for name, one in finer.items() if one is not None}
        histograms |= waiting
    for name, histogram in histograms.items():
        sample, quantizer = histogram.sample(), chosen[name]
        low, high = _chosen(estimator, sample, quantizer.bits, quantizer.symmetric, quantizer.format)
        quantizer.set_range(low[0], high[0])
        if type(quantizer) is ActivationQuantizer and 0 < float(bulk(sample)) < float(quantizer.scale) / 2:
            title = f"{within}.{name}" if within else name
            span = f"{float(low):.6g} to {float(high):.6g}"
            _warn(f"{title}: of {quantizer.bits} bits over {span} all but the largest 1 % of its values become 0")


def _warn(message: str) -> None:
    warnings.warn(message, QuantizationWarning, stacklevel=3)


@torch.no_grad()
def _observe(model: nn.Module, images: Tensor, observers: dict[ActivationQuantizer, Callable[[Tensor], None]]) -> None:
    try:
        for quantizer, observer in observers.items():
            quantizer.observer = observer
        for batch in batches(images):
            model(batch)
    finally:
        for quantizer in observers:
            quantizer.observer = None


class _Extremes:
    """Running least and greatest finite value."""

    def __init__(self) -> None:
        self.low = float("inf")
        self.high = float("-inf")
        self.count = 0
        self.nonzero = 0
        self.dropped = 0

    def add(self, x: Tensor) -> None:
        x = x.detach()
        low, high = torch.aminmax(x)
        if not (low.isfinite() and high.isfinite()):  # NaN shows in both
            finite = x[x.isfinite()]
            self.dropped += x.numel() - finite.numel()
            if finite.numel() == 0:
                return
            x = finite
            low, high = torch.aminmax(x)
        self.low = min(self.low, float(low))
        self.high = max(self.high, float(high))
        self.count += x.numel()
        self.nonzero += int(x.count_nonzero())

    def wanted(self, estimator: RangeEstimator) -> tuple[int, float]:
        """Return how many values are not zero, and which part of these may lie beyond what an estimator looks at."""
        rare = getattr(estimator, "beyond", 0.0) * self.count / max(self.nonzero, 1)
        return self.nonzero, rare if RARE < rare < 1 else RARE


@dataclass(eq=False)
class _Bins:
    """Counts in bins that are centred on multiples of a width, the first on ``first`` times it."""

    width: float
    first: int
    counts: Tensor

    @classmethod
    def between(cls, first: int, last: int, width: float) -> _Bins:
        return cls(width, first, torch.zeros(last - first + 1, dtype=torch.int64))

    @property
    def last(self) -> int:
        return self.first + len(self.counts) - 1

    def nested(self) -> _Bins:
        """Return finer bins, ``FAR`` in the place of each of those around zero."""
        reach, width = FAR * self.around + FAR // 2, self.width / FAR
        return _Bins.between(max(FAR * self.first - FAR // 2, -reach), min(FAR * self.last + FAR // 2, reach), width)

    @property
    def around(self) -> int:
        """The number of bins beside that of zero which finer ones may replace."""
        return min(max(-self.first, self.last) // FAR, _COARSE)

    def add(self, index: Tensor) -> None:
        index = index.sub_(self.first)
        index = index[index.isfinite()] if not index.sum().isfinite() else index
        index = index.clamp_(0, len(self.counts) - 1).to(torch.int64)
        self.counts += torch.bincount(index, minlength=len(self.counts)).cpu()

    def inner(self) -> int:
        """Return the number of values around zero."""
        return int(self.counts[max(-self.around - self.first, 0) : self.around - self.first + 1].sum())

    def take(self, nested: _Bins) -> None:
        """Add what finer bins count."""
        index = torch.arange(nested.first, nested.last + 1).add_(FAR // 2).div_(FAR, rounding_mode="floor")
        self.counts.index_add_(0, index.sub_(self.first).clamp_(0, len(self.counts) - 1), nested.counts)


class Histogram:
    """Counts of values in bins that are centred on multiples of their width, so that zeros are kept exactly.

    Where all but a hundredth of the values (or all up to the percentile that is wanted) would share the few bins around
    zero, because some lie far out, finer bins take the place of these, and still finer ones the place of their middle:
    ``levels`` times (ours). So bins are small beside what they count at any quantile above.

    Parameters
    ----------
    low, high : finite extremes of what will be added.
    bins : number of bins between them; zero is between them or an end.
    """

    def __init__(self, low: float, high: float, bins: int, levels: int = 0) -> None:
        self.low = low
        self.high = high
        self.bins = bins
        low, high = min(low, 0.0), max(high, 0.0)
        self.width = max(high / bins - low / bins, torch.finfo(torch.float32).tiny)
        self._levels = [_Bins.between(round(low / self.width), round(high / self.width), self.width)]
        for _ in range(levels):
            self._levels.append(self._levels[-1].nested())

    def add(self, x: Tensor) -> None:
        """Count the finite values of a tensor of any shape."""
        x = x.detach().flatten().float()
        for level in self._levels[:-1]:
            index = x.div(level.width).round_()
            outside = index.abs() > level.around
            level.add(index[outside])
            x = x[~outside]
        self._levels[-1].add(x.div(self._levels[-1].width).round_())

    def finer(self, nonzero: int, rare: float = RARE) -> Histogram | None:
        """Return an empty histogram of more levels if this one's do not suffice; else give up those that need not be.

        ``nonzero`` values are not zero of those that were added; more than a ``rare`` part of them should lie outside
        of the finest bins' middle.
        """
        *_, last = self._levels
        if self._coarse(nonzero, rare) and last.width / FAR**_LEVELS >= torch.finfo(torch.float32).tiny:
            return Histogram(self.low, self.high, self.bins, len(self._levels) - 1 + _LEVELS)
        while len(self._levels) > 1:
            nested = self._levels.pop()
            before = self._levels[-1].counts.clone()
            self._levels[-1].take(nested)
            if self._coarse(nonzero, rare):
                self._levels[-1].counts = before
                self._levels.append(nested)
                break
        return None

    def _coarse(self, nonzero: int, rare: float) -> bool:
        """Whether all values but a few lie in the middle of the finest bins."""
        total = sum(int(level.counts.sum()) for level in self._levels)
        beyond = total - self._levels[-1].inner()
        return beyond < nonzero and beyond <= rare * nonzero

    def sample(self) -> Sample:
        """Return the bins' centres with their counts, as one channel; of several levels those that hold anything."""
        centres = torch.cat([(torch.arange(len(one.counts)) + one.first).double() * one.width for one in self._levels])
        counts = torch.cat([one.counts for one in self._levels]).double()
        ends = torch.tensor([self.low]), torch.tensor([self.high])
        if len(self._levels) == 1:
            return Sample(centres.float()[None], counts[None], *ends)
        held = counts > 0
        return Sample(centres[held].float()[None], counts[held][None], *ends, self._levels[-1].width)
