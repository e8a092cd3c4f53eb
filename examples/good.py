"""A good method: bias correction on ranges of least squared error."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.quantization.bias_correction import add_biases, correct_biases
from evalsuite.quantization.grids import range_setting
from evalsuite.quantization.grids.ranges import PowerError
from evalsuite.quantization.insert import insert_quantizers


@dataclass(frozen=True)
class BiasCorrected:
    """Rounding to nearest; then every layer's mean output on the calibration images is full precision's again.

    Parameters
    ----------
    norm : exponent of the rounding error by which ranges are chosen.
    """

    norm: float = 2.0

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy in which every layer has a bias to correct."""
        twin = insert_quantizers(model, bits, example)
        add_biases(twin)
        return twin

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Choose ranges, round, and correct, layer by layer, for what rounded weights and inputs add to the mean."""
        range_setting.check_images(images)
        full_precision, estimator = copy.deepcopy(model), PowerError(norm=self.norm)
        range_setting.set_weight_ranges(model, estimator)
        range_setting.round_weights(model)
        range_setting.set_activation_ranges(model, images, estimator)
        correct_biases(model, full_precision, images)
