"""RepQ-ViT: grids of many scales at calibration, moved into the weights around them for inference."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.number_formats import NumberFormat
from evalsuite.quantization.graph.trace import trace
from evalsuite.quantization.grids.affine import affine_parameters, integer_range
from evalsuite.quantization.grids.layers import QuantLinear, activation_quantizers, quantized_layers
from evalsuite.quantization.grids.nonuniform import (
    LogSqrt2Error,
    LogSqrt2Quantizer,
    quantizers_after,
    refuse_per_token,
    replace_quantizers,
)
from evalsuite.quantization.grids.range_setting import (
    batches,
    check_images,
    round_weights,
    set_activation_ranges,
    set_weight_ranges,
)
from evalsuite.quantization.grids.ranges import Percentile, RangeEstimator, RangeOptions, Sample
from evalsuite.quantization.insert import insert_quantizers

_TOLERANCE = 1e-3  # of the largest logit, for a network whose scales were moved
_LOG_BINS = 2**16  # values after softmax lie close to zero
_SPREAD = 1e-4  # the least scale of a channel, of the mean: a silent one must not blow up the others


@dataclass(frozen=True)
class Tails:
    """All but the rarest values on either side, of which there are 4^-(bits + spare_bits).

    Ours: a tail is worth cutting off while rare against the square of the step that it costs the others.
    """

    spare_bits: int = 1

    def __call__(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the percentiles."""
        return Percentile(100 * (1 - 4.0 ** -(bits + self.spare_bits)))(sample, bits, symmetric)


@dataclass(frozen=True)
class RepQViT(RangeOptions):
    """RepQ-ViT: per-channel grids after LayerNorm moved into the weights, log-sqrt(2) grids after softmax.

    Li et al. 2023, "RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers",
    arXiv 2212.08254; its authors calibrate with 32 images. Where linear layers alone read a LayerNorm, each channel
    gets the asymmetric grid of its own range; then the norm's weight and bias and the layers' weight and
    bias are changed so that one grid, the mean of these, serves all, and the network computes what it did. Where
    it would not, the layer keeps one plain grid. Activations after softmax are rounded to powers of sqrt(2), see
    :func:`evalsuite.quantization.grids.nonuniform.log_sqrt2_quantize`; the greatest is the fraction of the maximum with
    the least squared error. All other ranges are estimated as those of
    :class:`evalsuite.quantizers.rtn.RoundToNearest`; of activations by default with ``range`` = ``tails``, see
    :class:`Tails`: least squared error keeps the rare great values after GELU at the price of all others. The
    share was chosen on images that no test shows, by one draw of 100 (``benchmarks/choices/repq_vit_range.csv``):
    with no spare bit it is as good.

    The order: grids after LayerNorm, on what the full-precision network computes; rounding of all weights; grids after
    softmax; all others. A network without LayerNorm and softmax is rounded to nearest with estimated ranges.

    Parameters
    ----------
    range : the estimator of activations' ranges; ``tails`` (*ours*).
    weight_range : the estimator of weights' ranges, or ``same`` as ``range``; ``minmax`` (*choice*).
    log_steps : fractions of the maximum that are tried after softmax; 100 (*choice*).
    rows : tokens, at most, from which the grids after LayerNorm are chosen; 8,192 (*ours*).
    percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    range: Literal["tails", "minmax", "percentile", "mse", "kl", "cosine"] = "tails"  # type: ignore[assignment]
    weight_range: Literal["same", "minmax", "percentile", "mse", "kl", "cosine"] = "minmax"
    log_steps: int = 100
    rows: int = 8192

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("log_steps", "rows"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} = {getattr(self, name)}: expected at least 1")

    def activation_estimator(self) -> RangeEstimator:
        """Return the estimator for activations."""
        return Tails() if self.range == "tails" else super().activation_estimator()

    def weight_estimator(self) -> RangeEstimator:
        """Return the estimator for weights."""
        return Tails() if (self.weight_range, self.range) == ("same", "tails") else super().weight_estimator()

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy with log grids; Refused for ``per_token``, see also :func:`insert_quantizers`."""
        refuse_per_token(bits, "repq_vit")
        twin = insert_quantizers(model, bits, example)
        replace_quantizers(twin, quantizers_after(twin, example, "softmax"), lambda old: LogSqrt2Quantizer(old.bits))
        for norm, layers in _norms_and_readers(twin, example).items():
            _fill_parameters(norm)
            for layer in layers.values():
                if layer.bias is None:
                    layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))
        return twin

    @torch.no_grad()
    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Move scales, set all ranges and round the weights, in place; ``images``: (N, C, H, W) normalised."""
        check_images(images)
        groups = _norms_and_readers(model, images[:1])
        tokens = _tokens(model, images, [next(iter(layers)) for layers in groups.values()], self.rows)
        expected = model(images[:1])
        ranges: dict[str, tuple[Tensor, Tensor]] = {}
        for norm, layers in groups.items():
            sample = tokens[next(iter(layers))]
            ends = self._move_scales(norm, layers, sample, lambda: model(images[:1]), expected)
            if ends is not None:
                ranges |= {f"{name}.input_quantizer": ends for name in layers}
        set_weight_ranges(model, self.weight_estimator())
        round_weights(model)
        quantizers = activation_quantizers(model)
        log = {name for name, one in quantizers.items() if isinstance(one, LogSqrt2Quantizer)}
        set_activation_ranges(model, images, LogSqrt2Error(self.log_steps), bins=_LOG_BINS, only=log)
        rest = quantizers.keys() - log - ranges.keys()
        set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins, only=rest)
        for name, (low, high) in ranges.items():
            quantizers[name].set_range(low, high)

    def _move_scales(
        self,
        norm: nn.LayerNorm,
        layers: dict[str, QuantLinear],
        sample: Sample,
        logits: Callable[[], Tensor],
        expected: Tensor,
    ) -> tuple[Tensor, Tensor] | None:
        """Make one grid serve all channels of a norm's output, and return its ends; None where that is impossible."""
        first = next(iter(layers))
        quantizer = layers[first].input_quantizer
        if not sample.low.isfinite().all() or not sample.high.isfinite().all():
            return None
        ends = self.activation_estimator()(sample, quantizer.bits, quantizer.symmetric)
        scale, zero = affine_parameters(*ends, quantizer.bits, quantizer.symmetric)
        silent = (ends[0] == 0) & (ends[1] == 0)
        if silent.all():
            return None
        mean = scale[~silent].mean()
        scale = torch.where(silent, mean, scale).clamp(min=_SPREAD * mean)
        shared = scale.mean()
        shared_zero = zero.to(scale.dtype).mean().round()
        modules: list[nn.LayerNorm | QuantLinear] = [norm, *layers.values()]
        changed = [value for one in modules for value in (one.weight, one.bias)]
        kept = [value.clone() for value in changed]
        _reparameterise(norm, list(layers.values()), scale / shared, scale * (zero - shared_zero))
        if not torch.allclose(logits(), expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max())):
            for value, old in zip(changed, kept, strict=True):
                value.copy_(old)
            message = f"{first}: scales cannot be moved into the norm before it"
            warnings.warn(message, QuantizationWarning, stacklevel=2)
            return None
        integers = integer_range(quantizer.bits, quantizer.symmetric)
        return (integers.low - shared_zero) * shared, (integers.high - shared_zero) * shared


def _tokens(model: nn.Module, images: Tensor, layers: list[str], rows: int) -> dict[str, Sample]:
    """Return about ``rows`` evenly spaced tokens that reach each layer, as a channel per feature, with all extremes."""
    count = -(-rows // sum(1 for _ in batches(images)))
    kept: dict[str, list[Tensor]] = {name: [] for name in layers}
    ends: dict[str, list[Tensor]] = {name: [] for name in layers}

    def watch(name: str) -> Callable[[Tensor], None]:
        def observe(x: Tensor) -> None:
            x = x.flatten(0, -2)
            chosen = torch.linspace(0, len(x) - 1, min(count, len(x)), device=x.device).long()
            kept[name].append(x[chosen])
            ends[name].append(torch.stack(torch.aminmax(x, dim=0)))

        return observe

    every = activation_quantizers(model)
    quantizers = {name: every[f"{name}.input_quantizer"] for name in layers}
    try:
        for name, quantizer in quantizers.items():
            quantizer.observer = watch(name)
        for batch in batches(images):
            model(batch)
    finally:
        for quantizer in quantizers.values():
            quantizer.observer = None
    samples = {}
    for name in layers:
        values, extremes = torch.cat(kept[name]).t().contiguous(), torch.stack(ends[name])
        samples[name] = Sample(values, torch.ones_like(values[:1]), extremes[:, 0].amin(0), extremes[:, 1].amax(0))
    return samples


def _norms_and_readers(model: nn.Module, example: Tensor) -> dict[nn.LayerNorm, dict[str, QuantLinear]]:
    """Return each LayerNorm whose output's channels linear layers read, with these by name, in order of execution."""
    found = trace(model, example)
    modules = dict(model.named_modules())
    groups: dict[nn.LayerNorm, dict[str, QuantLinear]] = {}
    for name, layer in quantized_layers(model).items():
        x = found.inputs.get(f"{name}.input_quantizer")
        source = None if x is None else found.source(x)
        norm = None if source is None else modules[source.module]
        if not isinstance(layer, QuantLinear) or not isinstance(norm, nn.LayerNorm):
            continue
        if norm.normalized_shape == (layer.in_features,):
            groups.setdefault(norm, {})[name] = layer
    return groups


def _fill_parameters(norm: nn.LayerNorm) -> None:
    """Give a norm the weight and the bias that it lacks."""
    like = next(norm.parameters(), torch.zeros(()))
    if norm.weight is None:
        norm.weight = nn.Parameter(torch.ones(norm.normalized_shape, device=like.device))
    if norm.bias is None:
        norm.bias = nn.Parameter(torch.zeros(norm.normalized_shape, device=like.device))


def _reparameterise(norm: nn.LayerNorm, layers: list[QuantLinear], ratio: Tensor, shift: Tensor) -> None:
    """Change what a norm gives from x to (x + shift) / ratio, (C,) each; the layers after it undo it."""
    norm.bias.add_(shift).div_(ratio)
    norm.weight.div_(ratio)
    for layer in layers:
        layer.bias.sub_(layer.weight @ shift)
        layer.weight.mul_(ratio)
