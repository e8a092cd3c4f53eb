"""Losses that keep a quantized network steady under small changes of its input: TTAQ's PEM and PCR.

Both are an interpretation of the published abstract (Xiao et al., arXiv 2412.09899), which says what each part is for
and gives no formula: every formula here is this project's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.quantization.graph.hooks import first_calls, not_reached
from evalsuite.quantization.graph.unfolding import unfolded_input
from evalsuite.quantization.grids.layers import QuantLayer, quantized_layers
from evalsuite.quantization.grids.range_setting import batches
from evalsuite.quantization.reconstruction.losses import Situation, Step, squared_error
from evalsuite.quantization.reconstruction.scratch import Kept
from evalsuite.quantization.reconstruction.units import input_of
from evalsuite.quantizers._perturbations import perturb
from evalsuite.weight_layers import CONVOLUTIONS

Covariance = Literal["diagonal", "full"]


class PerturbationErrorMitigation:
    """PEM: adds tr(Ŵ Σ Ŵᵀ) over a unit's layers, by which each soft weight Ŵ amplifies changes of its input.

    E‖Wx - Ŵ(x+δ)‖² = E‖(W-Ŵ)x‖² + tr(Ŵ Σ Ŵᵀ) for a change δ of mean zero and covariance Σ. Σ is the second moment
    of the change at the layer's input in the full-precision network when images are perturbed, measured once. A
    convolution's is per input channel where it is ``diagonal``, over whole patches where it is ``full``; a grouped
    convolution's is always diagonal.

    Parameters
    ----------
    weight : of the term beside the reconstruction error, both at the unit's beginning with weights rounded to nearest.
    perturbation : strength, see :func:`evalsuite.quantizers._perturbations.perturb`.
    """

    def __init__(self, weight: float, perturbation: float, covariance: Covariance, generator: torch.Generator) -> None:
        self.weight = weight
        self.perturbation = perturbation
        self.covariance = covariance
        self.generator = generator
        self._moments: dict[str, Tensor] | None = None

    def prepare(self, situation: Situation) -> Callable[[Step], Tensor] | None:
        """Return the term of a unit; None where no weights are learnt or nothing changes."""
        if not situation.weights:
            return None
        if self._moments is None:
            images = situation.images
            changed = perturb(images, self.perturbation, self.generator)
            self._moments = moments_of_change(situation.reference, images, changed, self.covariance)
        moments = {name: self._moments[name] for name in situation.weights}

        def term() -> Tensor:
            parts = [amplification(weight, moments[name]) for name, weight in situation.weights.items()]
            return torch.stack(parts).sum()

        with situation.rounded_to_nearest(), torch.no_grad():
            beginning, error = float(term()), situation.error(64)
        if beginning <= 0:
            return None
        return lambda step: term() * (self.weight * error / beginning)


def amplification(weight: Tensor, moment: Tensor) -> Tensor:
    """Return tr(Ŵ Σ Ŵᵀ) of a layer's weight, a scalar.

    Parameters
    ----------
    weight : (outputs, inputs / groups, ...).
    moment : Σ, (n, n) for the n weights of an output; or its diagonal, which broadcasts against ``weight``.
    """
    if moment.ndim == 2 and moment.shape[0] == moment.shape[1]:
        rows = weight.flatten(1)
        return ((rows @ moment) * rows).sum()
    return (weight.square() * moment).sum()


@torch.no_grad()
def moments_of_change(model: nn.Module, images: Tensor, changed: Tensor, covariance: Covariance) -> dict[str, Tensor]:
    """Return for each quantized layer the second moment of its input's change, see :func:`amplification`.

    Parameters
    ----------
    model : a network whose quantizers round nothing.
    images, changed : (N, C, H, W) normalised.
    """
    layers = quantized_layers(model)
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(layers, 0)
    for before, after in zip(batches(images), batches(changed), strict=True):
        first, second = (first_calls(model, layers, shown) for shown in (before, after))
        for name in first.keys() & second.keys():
            total, count = _moment(layers[name], second[name][0] - first[name][0], covariance)
            sums[name] = sums[name] + total if name in sums else total
            counts[name] += count
    return {name: total / counts[name] for name, total in sums.items()}


def _moment(layer: QuantLayer, change: Tensor, covariance: Covariance) -> tuple[Tensor, int]:
    """Return the sum of the outer products, or squares, and of how many."""
    if not isinstance(layer, CONVOLUTIONS):
        rows = change.flatten(0, -2)
        return (rows.T @ rows if covariance == "full" else rows.square().sum(dim=0, keepdim=True)), len(rows)
    if covariance == "full" and layer.groups == 1:
        rows = unfolded_input(layer, change)[:, 0].transpose(1, 2).flatten(0, 1)
        return rows.T @ rows, len(rows)
    total = change.square().sum(dim=(0, *range(2, change.ndim))).reshape(layer.groups, -1)
    per_output = total.repeat_interleave(layer.out_channels // layer.groups, dim=0) if layer.groups > 1 else total
    return per_output.reshape(*per_output.shape, *[1] * (change.ndim - 2)), change[:, 0].numel()


class PerturbationConsistency:
    """PCR: adds how far a unit's output for a perturbed image is from its output for the image itself.

    The perturbed images are drawn afresh for each unit and reach it through the part already quantized. The output
    for the image itself gets no gradient. ``block`` compares outputs of the unit by squared difference, as the
    reconstruction error does; ``prediction`` compares, by KL divergence, what the rest of the network in full
    precision predicts from them.

    Parameters
    ----------
    weight : of the term.
    perturbation : strength, see :func:`evalsuite.quantizers._perturbations.perturb`.
    """

    def __init__(
        self, weight: float, perturbation: float, compare: Literal["block", "prediction"], generator: torch.Generator
    ) -> None:
        self.weight = weight
        self.perturbation = perturbation
        self.compare = compare
        self.generator = generator

    @torch.no_grad()
    def prepare(self, situation: Situation) -> Callable[[Step], Tensor] | None:
        """Return the term of a unit; None if its prediction is asked for and its output is not what the rest reads."""
        if self.compare == "prediction" and not situation.reaches_the_end:
            return None
        images, unit = situation.images, situation.unit
        kept = Kept(len(images), situation.scratch, f"what reaches {unit.name}", unit.inputs)
        situation.release_later(kept)
        changed = perturb(images, self.perturbation, self.generator)
        for batch in batches(changed):
            x = input_of(situation.model, unit.name, batch, {})
            if x is None:
                raise not_reached(unit.name)
            kept.add(x)

        def term(step: Step) -> Tensor:
            found = situation.run(kept.take(step.chosen, images))
            wanted = step.output.detach()
            if self.compare == "block":
                return squared_error(found, wanted, unit.channels) * self.weight
            chosen = images[step.chosen.to(images.device)]
            with torch.no_grad():
                expected = situation.rest(wanted, chosen).log_softmax(dim=1)
            predicted = situation.rest(found, chosen).log_softmax(dim=1)
            return F.kl_div(predicted, expected, log_target=True, reduction="batchmean") * self.weight

        return term
