"""Why a quantized network breaks: which codes of each layer's grids its images use, and how much noise it adds. Ours.

Both networks see the same images once, in parts. Hooks count on the way, so that no activation is kept but those of one
part of the images in full precision.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evalsuite.execution import hooked
from evalsuite.quantization.grids.layers import ActivationQuantizer, QuantLayer, QuantMatMul, activation_quantizers
from evalsuite.quantization.grids.range_setting import batches, check_images
from evalsuite.quantization.layer_report import Ratio, signal_to_noise
from evalsuite.structure import NORM_LAYERS
from evalsuite.weight_layers import channel_dimension

WEIGHT_COLUMNS = ("weight_bits", "weight_snr_db", "weight_unused", "weight_clipped")
ACTIVATION_COLUMNS = (
    *("activation_bits", "snr_db", "activation_snr_db", "unused", "code_entropy", "clipped_low", "clipped_high"),
    "dead_channels",
)
COLUMNS = ("layer", *WEIGHT_COLUMNS, *ACTIVATION_COLUMNS)
PIXELS = 2**16
"""Of images that pass together: 64 of 32 x 32, one of 224 x 224; ours."""

Values = dict[str, Any]


@torch.no_grad()
def weight_diagnosis(reference: nn.Module | None, quantized: nn.Module) -> dict[str, Values]:
    """Say what became of each layer's weight; see :func:`diagnose` for the columns and the networks.

    Where a normalisation layer is not what it was, a method may have moved scales between it and the weights behind it
    (RepQ-ViT does, arXiv 2212.08254): weights cannot be compared with those of full precision then, and ratios and
    clipped shares are empty.
    """
    comparable = reference is not None and not _norms_changed(reference, quantized)
    return {
        name: _weight_values(layer, _weight_of(reference, name) if comparable else None)
        for name, layer in quantized.named_modules()
        if isinstance(layer, QuantLayer)
    }


@torch.no_grad()
def diagnose(
    reference: nn.Module | None, quantized: nn.Module, images: Tensor, weights: Mapping[str, Values] | None = None
) -> pd.DataFrame:
    """Say of each layer of a quantized network what some images make of its grids.

    Parameters
    ----------
    reference : the same network in full precision, with the same names of layers, as ``insert`` of a method makes it
        before it is calibrated; None: nothing is compared with it.
    quantized : in eval mode.
    images : (N, C, H, W) normalised, at least two; of more images fewer codes stay unused, so that shares compare only
        between equal numbers.
    weights : what :func:`weight_diagnosis` said of these networks, where that is known.

    Returns
    -------
    DataFrame
        A row per quantized layer in order of execution, two per product of activations (``NAME.left``,
        ``NAME.right``). NaN where there is no such number.

        - ``weight_bits``, ``activation_bits``: of the grids.
        - ``weight_snr_db``, ``activation_snr_db``, ``snr_db``: signal over quantization noise in decibels, of its
          weight, of its input against the same before it was rounded, and of its output against full precision's,
          which holds the errors of the layers before it too; infinite without noise.
        - ``weight_unused``, ``unused``: share of the integers of the grid that no weight, or no input, is rounded to.
          Of weights with a grid for each channel an integer counts as used where any channel uses it.
        - ``code_entropy``: of the integers that its input is rounded to, in bits; ``activation_bits`` where all are
          used equally often.
        - ``weight_clipped``, ``clipped_low``, ``clipped_high``: share of the values beyond the ends of the grid.
        - ``dead_channels``: share of its output channels that are the same number everywhere, for all of the images.

        Number formats and grids that are not uniform, or each token's own, have no integers to count: ``unused`` and
        the clipped shares are empty.
    """
    return pd.DataFrame(layer_rows(reference, quantized, images, weights), columns=list(COLUMNS))


@torch.no_grad()
def layer_rows(
    reference: nn.Module | None, quantized: nn.Module, images: Tensor, weights: Mapping[str, Values] | None = None
) -> list[Values]:
    """Return the rows of :func:`diagnose`, as values by column: of many small networks tables take a while to make."""
    check_images(images)
    if weights is None:
        weights = weight_diagnosis(reference, quantized)
    watched = _watch(quantized, reference, images)
    return [
        {"layer": name, **weights.get(each.layer, {}), **each.values(watched.outputs[each.layer])}
        for name, each in watched.inputs.items()
    ]


class _Input:
    """What a grid of activations is given: how often each of its integers is used, and the noise of rounding."""

    def __init__(self, layer: str, quantizer: ActivationQuantizer) -> None:
        self.layer = layer
        self.bits = quantizer.bits
        self.ratio = Ratio()
        low, high = quantizer.reach
        # Grids of other kinds are subclasses; only a plain one has integers.
        plain = type(quantizer) is ActivationQuantizer and quantizer.ready
        self.counts = torch.zeros(high - low + 3, dtype=torch.int64) if plain else None

    def add(self, quantizer: ActivationQuantizer, x: Tensor, rounded: Tensor) -> None:
        self.ratio.add(x, rounded)
        if self.counts is not None:
            low, high = quantizer.reach
            # Place 0 counts what is below the grid, the last one what is above it.
            steps = torch.div(x, quantizer.scale).round_().sub_(low - 1).clamp_(0, high - low + 2)
            places = steps.to(torch.int32)  # from there to a byte takes a third of the time that it takes from a float
            if len(self.counts) <= 256:
                places = places.to(torch.uint8)  # counted in half the time
            self.counts += torch.bincount(places.flatten(), minlength=len(self.counts)).cpu()

    def values(self, output: _Output) -> Values:
        found: Values = {"activation_bits": self.bits, "activation_snr_db": self.ratio.decibels()}
        found |= {"snr_db": output.decibels(), "dead_channels": output.dead}
        if self.counts is not None:
            counts = self.counts.numpy()
            below, above, whole = int(counts[0]), int(counts[-1]), max(1, int(counts.sum()))
            used = counts[1:-1].copy()
            used[0] += below
            used[-1] += above
            found |= {"unused": float((used == 0).mean()), "code_entropy": _entropy(used)}
            found |= {"clipped_low": below / whole, "clipped_high": above / whole}
        return found


class _Output:
    """What a layer gives: its noise against full precision, and which of its channels never vary."""

    def __init__(self, axis: int | None) -> None:
        self.axis = axis
        self.ratio = Ratio()
        self.compared = False
        self.channels = 0
        self.constant: Tensor | None = None
        self.first: Tensor | None = None

    def add(self, actual: Tensor, expected: Tensor | None) -> None:
        if expected is not None and expected.shape == actual.shape:
            self.ratio.add(expected, actual)
            self.compared = True
        if self.axis is not None:
            self._look_for_constants(actual.movedim(self.axis, -1))

    def _look_for_constants(self, actual: Tensor) -> None:
        """Strike out the channels (..., C) that vary: nearly all do within a row of an image, and are done with."""
        if self.constant is None or self.first is None:
            self.channels = actual.shape[-1]
            self.first = actual[(0,) * (actual.ndim - 1)].clone()
            self.constant = torch.arange(self.channels, device=actual.device)
        for fixed in reversed(range(actual.ndim - 1)):
            if len(self.constant):
                part = actual[(0,) * fixed][..., self.constant].flatten(0, -2)
                self.constant = self.constant[(part == self.first[self.constant]).all(0)]

    def decibels(self) -> float:
        return self.ratio.decibels() if self.compared else math.nan

    @property
    def dead(self) -> float:
        return math.nan if self.constant is None else len(self.constant) / self.channels


class _Watched:
    """Everything that is counted while images pass, in order of execution."""

    def __init__(self) -> None:
        self.inputs: dict[str, _Input] = {}
        self.outputs: dict[str, _Output] = {}


def _watch(quantized: nn.Module, reference: nn.Module | None, images: Tensor) -> _Watched:
    layers = {name: each for name, each in quantized.named_modules() if isinstance(each, QuantLayer | QuantMatMul)}
    found = _Watched()
    for batch in batches(images, max(1, PIXELS // (images.shape[-2] * images.shape[-1]))):
        expected = {} if reference is None else _outputs(reference, layers, batch)
        with _counting(quantized, layers, found, expected):
            quantized(batch)
    return found


def _outputs(reference: nn.Module, layers: Mapping[str, nn.Module], batch: Tensor) -> dict[str, list[Tensor]]:
    """Return what each of these layers gives in full precision, call by call."""
    calls: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Any:
        # A copy: an activation function behind it may overwrite it.
        return lambda module, args, output: calls[name].append(output.clone())

    with hooked(reference.get_submodule(name).register_forward_hook(keep(name)) for name in layers):
        reference(batch)
    return calls


@contextlib.contextmanager
def _counting(
    quantized: nn.Module, layers: Mapping[str, nn.Module], found: _Watched, expected: Mapping[str, list[Tensor]]
) -> Iterator[None]:
    """Count what passes through layers and their quantizers while the context lasts; uses ``expected`` up."""

    def given(layer: str, operand: str) -> Any:
        def hook(module: ActivationQuantizer, args: Any, rounded: Tensor) -> None:
            name = f"{layer}.{operand}" if operand else layer
            found.inputs.setdefault(name, _Input(layer, module)).add(module, args[0], rounded)

        return hook

    def gave(layer: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            axis = None if isinstance(module, QuantMatMul) else channel_dimension(module)
            calls = expected.get(layer)
            found.outputs.setdefault(layer, _Output(axis)).add(output, calls.pop(0) if calls else None)

        return hook

    def hooks() -> Iterator[Any]:
        for name, layer in layers.items():
            yield layer.register_forward_hook(gave(name))
            for child, quantizer in layer.named_children():
                if isinstance(quantizer, ActivationQuantizer):
                    operand = child if isinstance(layer, QuantMatMul) else ""
                    yield quantizer.register_forward_hook(given(name, operand))

    with hooked(hooks()):
        yield


def _entropy(counts: NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return -float(shares @ np.log2(shares)) + 0.0


def _weight_values(layer: QuantLayer, before: Tensor | None) -> Values:
    found: Values = {"weight_bits": layer.weight_bits}
    if before is not None:
        found["weight_snr_db"] = signal_to_noise(before, layer.weight.detach())
    if layer.weight_format is None:
        low, high = layer.integers
        used = len(torch.unique(layer.integer_weight()))
        found["weight_unused"] = 1 - used / (high - low + 1)
        if before is not None:
            rows = before.reshape(len(layer.weight_scale), -1)
            steps = rows.div(layer.weight_scale[:, None]).round_().add_(layer.weight_zero_point[:, None])
            found["weight_clipped"] = float(((steps < low) | (steps > high)).double().mean())
    return found


def _weight_of(reference: nn.Module | None, name: str) -> Tensor | None:
    if reference is None:
        return None
    weight = reference.get_submodule(name).weight
    return weight.detach() if isinstance(weight, Tensor) else None


def _norms_changed(reference: nn.Module, quantized: nn.Module) -> bool:
    kept = dict(quantized.named_modules())
    for name, module in reference.named_modules():
        if isinstance(module, NORM_LAYERS):
            state, other = module.state_dict(), kept[name].state_dict() if name in kept else {}
            if any(key not in other or not torch.equal(value, other[key]) for key, value in state.items()):
                return True
    return False


def rounds(network: nn.Module) -> bool:
    """Whether a network rounds anything, so that it is no reference."""
    return any(each.ready for each in activation_quantizers(network).values())
