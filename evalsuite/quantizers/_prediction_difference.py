"""What a unit's output does to the network's prediction: Fisher weights, prediction difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from evalsuite.quantization.grids.range_setting import batches
from evalsuite.quantization.reconstruction.losses import Situation, Step


@dataclass(frozen=True)
class PredictionDifference:
    """KL divergence of the network's prediction from the full-precision one, the rest of it in full precision.

    Liu et al. 2023, arXiv 2212.07048, section 3.2.

    Parameters
    ----------
    weight : of the divergence beside the reconstruction error.
    temperature : of both predictions.
    """

    weight: float
    temperature: float

    def prepare(self, situation: Situation) -> Callable[[Step], Tensor] | None:
        """Return the divergence of a step; None where the unit's output is not what the rest reads."""
        if not situation.reaches_the_end:
            return None
        images = situation.images
        expected = torch.cat([situation.reference(batch) for batch in batches(images)])
        expected = (expected / self.temperature).log_softmax(dim=1)

        def loss(step: Step) -> Tensor:
            logits = situation.rest(step.output, images[step.chosen.to(images.device)])
            found = (logits / self.temperature).log_softmax(dim=1)
            wanted = expected[step.chosen.to(images.device)]
            return F.kl_div(found, wanted, log_target=True, reduction="batchmean") * self.weight

        return loss
