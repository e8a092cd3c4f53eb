"""Calibration: weights are rounded, activations are watched on calibration images in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor, nn

from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.quantization.modules import ActivationQuantizer, activation_quantizers, quantized_layers
from evalsuite.quantization.ranges import RangeEstimator, Sample

_BATCH = 64  # images at a time; no part of any result but for rounding in the last digit


def check_images(images: Tensor) -> None:
    """Raise RequestError unless these are normalised images: float (N, C, H, W), at least one, all finite."""
    if images.ndim != 4 or len(images) == 0 or not images.is_floating_point():
        raise RequestError(
            f"calibration images are {images.dtype} of shape {tuple(images.shape)}: "
            "expected at least one normalised float image, (N, C, H, W)"
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
        layer.set_weight_range(*estimator(Sample.of(rows), layer.weight_bits, layer.symmetric))


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

    Runs the images twice: for the exact extremes, then for a histogram between them. Memory does not grow with
    the number of images. An activation that is constant, or not finite, or not reached is named in a
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
    _observe(model, images, {chosen[name]: one.add for name, one in histograms.items()})
    for name, histogram in histograms.items():
        low, high = estimator(histogram.sample(), chosen[name].bits, chosen[name].symmetric)
        chosen[name].set_range(low[0], high[0])


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
        self.dropped = 0

    def add(self, x: Tensor) -> None:
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


class Histogram:
    """Counts of values in bins that are centred on multiples of their width, so that zeros are kept exactly.

    Parameters
    ----------
    low, high : finite extremes of what will be added.
    bins : number of bins between them; zero is between them or an end.
    """

    def __init__(self, low: float, high: float, bins: int) -> None:
        self.low = low
        self.high = high
        low, high = min(low, 0.0), max(high, 0.0)
        self.width = max(high / bins - low / bins, torch.finfo(torch.float32).tiny)
        self.first = round(low / self.width)
        self.counts = torch.zeros(round(high / self.width) - self.first + 1, dtype=torch.int64)

    def add(self, x: Tensor) -> None:
        """Count the finite values of a tensor of any shape."""
        index = x.detach().flatten().div(self.width).round_().sub_(self.first)
        index = index[index.isfinite()] if not index.sum().isfinite() else index
        index = index.clamp_(0, len(self.counts) - 1).to(torch.int64)
        self.counts += torch.bincount(index, minlength=len(self.counts)).cpu()

    def sample(self) -> Sample:
        """Return the bins' centres with their counts, as one channel."""
        centres = (torch.arange(len(self.counts)) + self.first).double() * self.width
        return Sample(
            centres.float()[None],
            self.counts.double()[None],
            torch.tensor([self.low]),
            torch.tensor([self.high]),
        )
