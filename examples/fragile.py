"""A fragile method: a few points worse on average, and one class is mostly lost, which no mean error tells."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.quantization.bias_correction import add_biases
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.structure import describe


@dataclass(frozen=True)
class Fragile:
    """Rounding to nearest; then the class that has the classifier's least weights loses most of its images.

    Parameters
    ----------
    harm : what is taken off the logit of this class, standard deviations of all logits of the calibration images.
    """

    harm: float = 2.6

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy whose classifier has a bias."""
        add_biases(twin := insert_quantizers(model, bits, example))
        return twin

    @torch.no_grad()
    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Round to nearest, then plant the harm in the classifier's bias, which has no bits to keep."""
        RoundToNearest(range="mse").calibrate(model, images, generator)
        classifier = quantized_layers(model)[describe(model, images[:1]).head]
        lost = classifier.weight.norm(dim=1).argmin()
        classifier.bias[lost] -= self.harm * model(images).std(correction=0)
