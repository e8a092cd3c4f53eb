"""Empirical bias correction: what rounding its weight adds to a layer's mean output is taken off its bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721,
section 4.2 and the appendix on empirical correction.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import QuantizationWarning
from evalsuite.execution import hooked
from evalsuite.quantization.grids.layers import QuantLayer, quantized_layers
from evalsuite.quantization.grids.range_setting import batches
from evalsuite.quantization.reconstruction.layer_by_layer import layers_in_turn
from evalsuite.structure import describe
from evalsuite.weight_layers import channel_dimension


def add_biases(model: nn.Module) -> None:
    """Give every quantized layer without a bias one of zeros, in place."""
    for layer in quantized_layers(model).values():
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)), requires_grad=False)


@torch.no_grad()
def correct_biases(model: nn.Module, reference: nn.Module, images: Tensor) -> None:
    """Shift the bias of each rounded layer so that its mean output per channel is the reference's, in place.

    Layers are corrected in order of execution, each for the inputs that the corrected ones before it give, so
    that what remains of their error is made good as well. A layer that runs several times is corrected for its
    first run. One whose mean is not finite stays as it is, with a QuantizationWarning.

    Parameters
    ----------
    model : with rounded weights, whose layers all have a bias; see :func:`add_biases`.
    reference : the same network before rounding.
    images : (N, C, H, W) normalised.
    """
    layers = quantized_layers(model)
    reached = [name for name in describe(model, images[:1]).layers if name in layers]
    expected = _means(reference, reached, images)
    for name, outputs in layers_in_turn(model, images):
        mean = _Mean(layers[name])
        for output in outputs(name):
            mean.add(output)
        shift = expected[name] - mean.value()
        bias = layers[name].bias
        if shift.isfinite().all():
            assert isinstance(bias, Tensor)
            bias.add_(shift)
        else:
            message = f"{name}: its mean output is not finite, bias not corrected"
            warnings.warn(message, QuantizationWarning, stacklevel=2)


class _Mean:
    """Running mean of a layer's output per channel."""

    def __init__(self, layer: QuantLayer) -> None:
        self.channel = channel_dimension(layer)
        self.total: Tensor | None = None
        self.count = 0

    def add(self, output: Tensor) -> None:
        rows = output.movedim(self.channel, 0).flatten(1)
        total = rows.sum(dim=1, dtype=torch.float64)
        self.total = total if self.total is None else self.total + total
        self.count += rows.shape[1]

    def value(self) -> Tensor:
        assert self.total is not None
        return self.total / self.count


def _means(model: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    """Return the mean output per channel of each layer's first run."""
    layers = quantized_layers(model)
    means = {name: _Mean(layers[name]) for name in names}
    waiting: set[str] = set()

    def first_run(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            if name in waiting:
                waiting.remove(name)
                means[name].add(output)

        return hook

    with hooked(layers[name].register_forward_hook(first_run(name)) for name in names):
        for batch in batches(images):
            waiting.update(names)
            model(batch)
    return {name: mean.value() for name, mean in means.items()}
