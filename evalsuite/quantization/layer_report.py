"""Which layer loses most: the ratio of signal to quantization noise of each."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.quantization.graph.hooks import first_calls
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.grids.range_setting import batches, check_images
from evalsuite.quantization.insert import prepare

COLUMNS = ("layer", "weight_bits", "activation_bits", "weight_snr_db", "activation_snr_db", "snr_db")
_PART = 2**16  # values


@torch.no_grad()
def layer_report(model: nn.Module, quantized: nn.Module, images: Tensor) -> pd.DataFrame:
    """Say what quantization costs each layer of a network, in signal-to-noise ratios; higher is better.

    A ratio is the mean square of a signal over that of its error, in decibels: infinite without error, minus
    infinite for an error without a signal.

    Parameters
    ----------
    model : the network that ``quantized`` was made from; of an equalised one, what
        :func:`evalsuite.quantization.equalisation.equalise` makes of it.
    images : (N, C, H, W) normalised.

    Returns
    -------
    DataFrame
        A row per quantized layer in order of execution: ``layer``, ``weight_bits``, ``activation_bits``;
        ``weight_snr_db``, of its weight against the weight before; ``activation_snr_db``, of its input against the
        input before rounding, in the quantized network; ``snr_db``, of its output against the same layer's in
        full precision, which holds the errors of the layers before it too.
    """
    check_images(images)
    layers = quantized_layers(quantized)
    reference = prepare(model, images[:1], fold_norm=_is_folded(model, quantized))
    activations = {name: Ratio() for name in layers}
    outputs = {name: Ratio() for name in layers}
    order: dict[str, None] = {}
    for batch in batches(images, 16):
        expected = first_calls(reference, list(layers), batch)
        actual = first_calls(quantized, [*layers, *(f"{name}.input_quantizer" for name in layers)], batch)
        for name in expected:
            outputs[name].add(expected[name][1], actual[name][1])
            activations[name].add(*actual[f"{name}.input_quantizer"])
            order[name] = None
    rows = []
    for name in order:
        weight = reference.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        bits = (layers[name].weight_bits, layers[name].input_quantizer.bits)
        ratios = (activations[name].decibels(), outputs[name].decibels())
        rows.append((name, *bits, signal_to_noise(weight, layers[name].weight), *ratios))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def signal_to_noise(exact: Tensor, actual: Tensor) -> float:
    """Return the ratio of the mean square of a tensor to that of another's difference from it, in decibels."""
    ratio = Ratio()
    ratio.add(exact, actual)
    return ratio.decibels()


class Ratio:
    """Signal and noise, added up over pairs of tensors of one shape."""

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0

    def add(self, exact: Tensor, actual: Tensor) -> None:
        """Add a tensor and its difference from another."""
        self.signal += _square_sum(exact)
        self.noise += _square_sum(actual - exact)

    def decibels(self) -> float:
        """Return the ratio of all that was added."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf


def _square_sum(x: Tensor) -> float:
    flat = x.reshape(-1)  # in parts, whose sums float32 holds to a millionth, and as fast as memory is read
    parts = (flat[start : start + _PART] for start in range(0, len(flat), _PART))
    return math.fsum(float(torch.dot(part, part)) for part in parts)


def _is_folded(model: nn.Module, quantized: nn.Module) -> bool:
    kept = dict(quantized.named_modules())
    return any(
        isinstance(module, _BatchNorm) and isinstance(kept.get(name), nn.Identity)
        for name, module in model.named_modules()
    )
