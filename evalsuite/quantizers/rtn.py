"""Range estimation and rounding to nearest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.quantization.calibration import check_images, round_weights, set_activation_ranges, set_weight_ranges
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.policy import BitPolicy
from evalsuite.quantization.ranges import RangeOptions


@dataclass(frozen=True)
class RoundToNearest(RangeOptions):
    """Rounding to nearest with estimated ranges: minmax, percentile or least mean error.

    Weights are rounded first; then each activation's range is chosen from what the network with rounded weights
    computes while no activation is rounded. Baseline of every PTQ comparison, see Nagel et al. 2021,
    arXiv 2106.08295, section 3.
    """

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy, see :func:`evalsuite.quantization.insert.insert_quantizers`."""
        return insert_quantizers(model, bits, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Set all ranges and round the weights, in place; ``images``: (N, C, H, W) normalised."""
        check_images(images)
        set_weight_ranges(model, self.weight_estimator())
        round_weights(model)
        set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins)
