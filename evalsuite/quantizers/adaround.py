"""Learned rounding, layer by layer."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.quantization.calibration import batches, check_images, set_activation_ranges, set_weight_ranges
from evalsuite.quantization.capture import Scratch, outputs_of
from evalsuite.quantization.insert import insert_quantizers, norm_after, norm_as_affine
from evalsuite.quantization.modules import QuantLayer, quantized_layers
from evalsuite.quantization.policy import BitPolicy
from evalsuite.quantization.ranges import RangeOptions
from evalsuite.quantization.trace import Trace, trace
from evalsuite.structure import describe

_ZETA, _GAMMA = 1.1, -0.1  # the paper's stretch, which lets the sigmoid reach 0 and 1


@dataclass(frozen=True)
class AdaRound(RangeOptions):
    """AdaRound: learns to round each weight up or down so that its layer's output changes least.

    Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv 2004.10568. Layers are
    learnt in order of execution: the target is what the layer gives in full precision on full-precision input,
    the input what reaches it through the layers already rounded (the paper's asymmetric reconstruction). A ReLU or
    ReLU6 that alone reads the layer's output is part of both, as in the paper; so is, ours, a BatchNorm in
    between, which the paper has folded. A layer that runs several times is learnt on its first run.

    The error is summed over output channels and averaged over images and places; ``regulariser`` weighs the sum of
    1 - abs(2h - 1)^b over the weights, absent during the first ``warmup`` of the iterations, then with b falling from
    ``b_start`` to ``b_end`` along half a cosine. Ranges of activations are chosen after all weights are rounded;
    with ``quantize_inputs`` before, and the weights are learnt on rounded inputs. Where a layer's inputs and
    targets exceed ``cache_gigabytes`` they are kept in temporary files.
    """

    iterations: int = 20_000
    batch_size: int = 32
    learning_rate: float = 1e-3
    regulariser: float = 0.01
    warmup: float = 0.2
    b_start: float = 20.0
    b_end: float = 2.0
    quantize_inputs: bool = False
    cache_gigabytes: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1 or self.batch_size < 1:
            raise RequestError(
                f"iterations = {self.iterations}, batch_size = {self.batch_size}: expected at least 1 of each"
            )
        if self.learning_rate <= 0:
            raise RequestError(f"learning_rate = {self.learning_rate}: expected above 0")
        if not 0 <= self.warmup < 1:
            raise RequestError(f"warmup = {self.warmup}: expected a fraction of the iterations, 0 to below 1")

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy, see :func:`evalsuite.quantization.insert.insert_quantizers`."""
        return insert_quantizers(model, bits, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Learn the rounding and set all ranges, in place; ``images``: (N, C, H, W) normalised."""
        check_images(images)
        reference = copy.deepcopy(model)
        set_weight_ranges(model, self.weight_estimator())
        if self.quantize_inputs:
            set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins)
        layers = quantized_layers(model)
        tails = tails_of(reference, images[:1])
        for name, tail in tails.items():
            with Scratch(self.cache_gigabytes * 2**30) as scratch:
                data = (
                    outputs_of(model, f"{name}.input_quantizer", images, scratch),
                    outputs_of(reference, name, images, scratch),
                )
                if all(map(_finite, data)):
                    self._learn(layers[name], *data, tail, generator)
                else:
                    layers[name].round_weight()
                    message = f"{name}: NaN or infinity reaches it, rounded to nearest instead"
                    warnings.warn(message, QuantizationWarning, stacklevel=2)
                del data  # before the next layer's is made
        for name in layers.keys() - tails.keys():  # not reached by the first image
            layers[name].round_weight()
        if not self.quantize_inputs:
            set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins)

    def _learn(
        self, layer: QuantLayer, inputs: Tensor, targets: Tensor, tail: Tail, generator: torch.Generator
    ) -> None:
        rounding = SoftRounding(layer)
        optimiser = torch.optim.Adam([rounding.logit], lr=self.learning_rate)
        channels = 1 if isinstance(layer, nn.Conv2d) else -1
        with torch.enable_grad():
            for step in range(self.iterations):
                chosen = torch.randperm(len(inputs), generator=generator)[: self.batch_size]
                x = inputs[chosen.to(inputs.device)].to(layer.weight.device)
                y = targets[chosen.to(targets.device)].to(layer.weight.device)
                output = layer.apply_weight(x, rounding.weight())
                loss = (tail(output) - tail(y)).square().sum(dim=channels).mean()
                b = self._annealed(step)
                if b is not None:
                    loss = loss + self.regulariser * rounding.indecision(b)
                optimiser.zero_grad()
                loss.backward(inputs=[rounding.logit])  # type: ignore[no-untyped-call]
                optimiser.step()
        layer.set_integers(rounding.integers())

    def _annealed(self, step: int) -> float | None:
        """Return the regulariser's exponent at a step, None during warm-up."""
        progress = (step / self.iterations - self.warmup) / (1 - self.warmup)
        if progress < 0:
            return None
        return self.b_end + (self.b_start - self.b_end) * (1 + math.cos(progress * math.pi)) / 2


class SoftRounding:
    """A layer's weight between the lower and the upper neighbour on its grid.

    The rectified sigmoid of arXiv 2004.10568 gives the part h of the way up, 0..1; it begins at the
    weight itself.

    Attributes
    ----------
    logit : (rows, n) the parameter, see :meth:`QuantLayer.rows`.
    """

    def __init__(self, layer: QuantLayer) -> None:
        self._shape = layer.weight.shape
        self._integers = layer.integers
        self._scale = layer.weight_scale[:, None]
        self._zero = layer.weight_zero_point[:, None]
        steps = layer.rows() / self._scale
        self._floor = steps.floor()
        part = (steps - self._floor - _GAMMA) / (_ZETA - _GAMMA)
        self.logit = nn.Parameter(torch.logit(part))

    def up(self) -> Tensor:
        """Return h, (rows, n)."""
        return (torch.sigmoid(self.logit) * (_ZETA - _GAMMA) + _GAMMA).clamp(0, 1)

    def weight(self) -> Tensor:
        """Return the soft weight, of the layer's weight's shape."""
        low, high = self._integers
        steps = (self._floor + self.up()).clamp(low - self._zero, high - self._zero)
        return (steps * self._scale).reshape(self._shape)

    def indecision(self, b: float) -> Tensor:
        """Return the regulariser, the sum of 1 - abs(2h - 1)^b: 0 once every h is 0 or 1."""
        return (1 - (2 * self.up() - 1).abs().pow(b)).sum()

    def integers(self) -> Tensor:
        """Return the decision, (rows, n) int32."""
        up = (self.logit.detach() >= 0).to(self._floor.dtype)
        return (self._floor + up + self._zero).clamp(*self._integers).to(torch.int32)


@dataclass(frozen=True, eq=False)
class Tail:
    """What follows a layer directly and belongs to its reconstruction: a frozen norm, a clipping activation."""

    scale: Tensor | None = None
    shift: Tensor | None = None
    bounds: tuple[float, float | None] | None = None

    @classmethod
    def after(cls, layer: str, modules: dict[str, nn.Module], found: Trace) -> Tail:
        """Find the tail of a layer in a trace of its network."""
        output = found.outputs[layer]
        scale = shift = None
        norm = norm_after(modules, found, layer)
        if norm is not None:
            bn = modules[norm]
            assert isinstance(bn, _BatchNorm)
            scale, shift = norm_as_affine(bn)
            reader = found.only_reader(output)
            assert reader is not None
            output = reader.result[0]
        follower = found.only_reader(output)
        bounds: Any = None
        if follower is not None and follower.name in ("relu", "relu_"):
            bounds = (0.0, None)
        elif follower is not None and follower.name in ("hardtanh", "hardtanh_"):
            bounds = tuple(follower.args[1:3])
        return cls(scale, shift, bounds)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to a layer's output, channels second where there is a norm."""
        if self.scale is not None and self.shift is not None:
            broadcast = (1, -1, *[1] * (x.ndim - 2))
            x = x * self.scale.reshape(broadcast) + self.shift.reshape(broadcast)
        return x if self.bounds is None else x.clamp(*self.bounds)


def tails_of(model: nn.Module, example: Tensor) -> dict[str, Tail]:
    """Return what follows each quantized layer, in order of execution; ``example``: (1, C, H, W)."""
    modules = dict(model.named_modules())
    found = trace(model, example)
    order = describe(model, example).layers
    return {name: Tail.after(name, modules, found) for name in order if isinstance(modules[name], QuantLayer)}


def _finite(x: Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in batches(x))
