"""A post-training quantization method, to begin with.

Does it keep its contract? ``pytest test_mine.py``.
Is it better than others, and where does it break? ``evalsuite audit mine.py:Mine``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.grids import range_setting
from evalsuite.quantization.grids.ranges import PowerError
from evalsuite.quantization.insert import insert_quantizers


@dataclass(frozen=True)
class Mine:
    """Rounding to nearest, on the ranges that lose least.

    Parameters
    ----------
    norm : exponent of the rounding error by which ranges are chosen, above 0; 2 is the mean squared error.
    """

    # Options are fields. Each has to change something, and one without a default has to be given.
    norm: float = 2.4

    def __post_init__(self) -> None:
        if not 0 < self.norm < float("inf"):
            raise RequestError(f"norm = {self.norm}: expected a finite number above 0")

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a copy of a network with quantizers in it that round nothing yet; the network stays untouched."""
        return insert_quantizers(model, bits, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Fill what ``insert`` returned, in place, from (N, C, H, W) normalised images.

        All that is learnt has to end in parameters or buffers; all that is drawn has to come from ``generator``.
        """
        range_setting.check_images(images)  # refuses NaN and what is no batch of images
        estimator = PowerError(norm=self.norm)
        range_setting.set_weight_ranges(model, estimator)
        # An idea of your own goes here, or in place of the next line. evalsuite.quantization.grids.layers:
        # quantized_layers(model) gives the layers by name; a layer's set_integers() rounds its weight otherwise.
        range_setting.round_weights(model)
        # Last, so that ranges are those of the network with rounded weights.
        range_setting.set_activation_ranges(model, images, estimator)
