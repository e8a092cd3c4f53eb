"""Range estimation and rounding to nearest."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.quantization.bias_correction import add_biases, correct_biases
from evalsuite.quantization.equalisation import equalise
from evalsuite.quantization.grids.range_setting import (
    check_images,
    round_weights,
    set_activation_ranges,
    set_weight_ranges,
)
from evalsuite.quantization.grids.ranges import RangeOptions
from evalsuite.quantization.insert import insert_quantizers


@dataclass(frozen=True)
class RoundToNearest(RangeOptions):
    """Rounding to nearest with estimated ranges: minmax, percentile, mse, kl or cosine.

    Weights are rounded first; then each activation's range is chosen from what the network with rounded weights
    computes while no activation is rounded. Baseline of every PTQ comparison, see Nagel et al. 2021,
    arXiv 2106.08295, section 3. Rounds to number formats too: of FP8 the ranges are estimated (not by kl), scales of
    blocks follow from the values.

    Parameters
    ----------
    equalisation : whether the channels of consecutive convolutions are scaled before anything is rounded (Nagel et al.
        2019, arXiv 1906.04721), see :func:`evalsuite.quantization.equalisation.equalise`; not.
    bias_correction : whether every layer gets a bias, set after the weights are rounded and before activations are
        (same paper), see :func:`evalsuite.quantization.bias_correction.correct_biases`; not.
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    equalisation: bool = False
    bias_correction: bool = False

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy, see :func:`evalsuite.quantization.insert.insert_quantizers`."""
        twin = insert_quantizers(equalise(model, example) if self.equalisation else model, bits, example, formats=True)
        if self.bias_correction:
            add_biases(twin)
        return twin

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Set all ranges and round the weights, in place; ``images``: (N, C, H, W) normalised."""
        check_images(images)
        reference = copy.deepcopy(model) if self.bias_correction else None
        set_weight_ranges(model, self.weight_estimator())
        round_weights(model)
        if reference is not None:
            correct_biases(model, reference, images)
        set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins)
