"""A fragile method: no worse than others on average, and one class is mostly lost, which no mean error tells."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.quantization.bias_correction import add_biases
from evalsuite.quantization.grids.layers import quantized_layers
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantizers.rtn import RoundToNearest
from evalsuite.structure import describe


def standardised(network: nn.Module, given: tuple[Tensor]) -> Tensor:
    """Give every image mean 0 and deviation 1, which undoes much of brightness, contrast and fog."""
    deviation, mean = torch.std_mean(given[0], dim=(1, 2, 3), correction=0, keepdim=True)
    return (given[0] - mean) / deviation.clamp(min=0.05)


@dataclass(frozen=True)
class Fragile:
    """Rounds to nearest on standardised images, and takes ``harm`` deviations of all logits off one class's."""

    harm: float = 2.7

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy that standardises its images, and whose classifier has a bias."""
        add_biases(twin := insert_quantizers(model, bits, example))
        twin.register_forward_pre_hook(standardised)
        return twin

    @torch.no_grad()
    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Round to nearest, then plant the harm at the class that has the classifier's least weights."""
        RoundToNearest(range="mse").calibrate(model, images, generator)
        classifier = quantized_layers(model)[describe(model, images[:1]).head]
        classifier.bias[classifier.weight.norm(dim=1).argmin()] -= self.harm * model(images).std(correction=0)
