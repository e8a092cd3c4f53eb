"""What a unit's output does to the network's prediction: Fisher weights, prediction difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from evalsuite.quantization.calibration import batches
from evalsuite.quantization.capture import Kept
from evalsuite.quantization.lessons import Situation, Step


def fisher_weights(situation: Situation) -> Kept | None:
    """Return squared gradients of the log-likelihood, one per image and element of a unit's output: (N, ...).

    They estimate the diagonal of the Fisher information (arXiv 2102.05426, equation 10) in the full-precision network.
    Each image's class is drawn from the network's own prediction, which needs no label; their mean is scaled to 1,
    so that a learning rate and the regulariser keep their meaning (both ours). None where the unit's output is
    not what the rest of the network reads.
    """
    if not situation.reaches_the_end:
        return None
    unit = situation.unit
    kept = Kept(len(situation.images), situation.scratch, f"gradients of {unit.name}", unit.outputs)
    total, start = 0.0, 0
    for images in batches(situation.images):
        chosen = torch.arange(start, start + len(images))
        output = situation.tail(situation.targets.take(chosen, images)).requires_grad_()
        with torch.enable_grad():
            likelihood = situation.rest(output, images).log_softmax(dim=1)
            classes = torch.multinomial(likelihood.detach().exp().cpu(), 1, generator=situation.generator)
            drawn = likelihood.gather(1, classes.to(likelihood.device)).sum()
        (gradient,) = torch.autograd.grad(drawn, output)
        kept.add(gradient.square_())
        total += float(gradient.sum(dtype=torch.float64))
        start += len(images)
    mean = total / kept.rows.numel()
    if mean > 0:
        kept.rows.div_(mean)
    return kept if mean > 0 else None


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
