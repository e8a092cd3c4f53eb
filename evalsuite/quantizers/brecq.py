"""Learned rounding, block by block, then learned activation scales."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.grids.range_setting import batches, check_images, set_activation_ranges, set_weight_ranges
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.block_by_block import Reconstruction
from evalsuite.quantization.reconstruction.losses import Loss, Situation
from evalsuite.quantization.reconstruction.options import Pass, ReconstructionOptions, scaled_rate
from evalsuite.quantization.reconstruction.scratch import Kept


@dataclass(frozen=True)
class BRECQ(ReconstructionOptions):
    """BRECQ: learns the rounding of each block so that its output changes least, then its activation scales.

    Li et al. 2021, "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction",
    arXiv 2102.05426. All layers of a block are learnt together by AdaRound's soft rounding, a layer outside of the
    blocks with the activation that follows; inputs come through the blocks already learnt, targets from the
    full-precision network. Weights first, while activations pass unrounded; then the activations' ranges are chosen
    on some images and their scales learnt by LSQ (Esser et al. 2020, arXiv 1902.08153).

    Parameters
    ----------
    step_iterations : Adam's steps for the scales of a unit; None: a quarter of ``iterations``, as the authors' 5,000
        are of 20,000.
    step_rate : learning rate of scales; None: the authors' 4e-4 for 5,000 steps, and more for fewer, see
        :func:`evalsuite.quantization.reconstruction.options.scaled_rate` (*ours*).
    range_images : images on which the activations' ranges are chosen; 256 (*choice*).
    fisher : whether each squared error is weighed by the squared gradient of the full-precision network's
        log-likelihood, for classes drawn from its own predictions (the drawing is *ours*).
    iterations, batch_size, learning_rate, regulariser, warmup, b_start, b_end, cache_gigabytes, precision : see
        :class:`evalsuite.quantization.reconstruction.options.ReconstructionOptions`.
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    step_iterations: int | None = None
    step_rate: float | None = None
    range_images: int = 256
    fisher: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.step_iterations or 0) < 0 or self.range_images < 1:
            raise RequestError(
                f"step_iterations = {self.step_iterations}, range_images = {self.range_images}: "
                "expected at least 0, and at least 1"
            )
        if self.step_rate is not None and self.step_rate <= 0:
            raise RequestError(f"step_rate = {self.step_rate}: expected above 0")

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy, see :func:`evalsuite.quantization.insert.insert_quantizers`."""
        return insert_quantizers(model, bits, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Learn rounding and scales, in place; ``images``: (N, C, H, W) normalised."""
        self.reconstruct(model, images, generator)

    def reconstruct(
        self, model: nn.Module, images: Tensor, generator: torch.Generator, losses: tuple[Loss, ...] = ()
    ) -> None:
        """Do the same with further losses beside the reconstruction error."""
        check_images(images)
        set_weight_ranges(model, self.weight_estimator())
        reconstruction = Reconstruction(model, images, self)
        weights = Pass(self.iterations, losses=losses, error_weights=fisher_weights if self.fisher else None)
        reconstruction.learn(weights, generator)
        set_activation_ranges(model, images[: self.range_images], self.activation_estimator(), bins=self.bins)
        count = self.iterations // 4 if self.step_iterations is None else self.step_iterations
        if count:
            rate = scaled_rate(4e-4, 5_000, count) if self.step_rate is None else self.step_rate
            steps = dataclasses.replace(weights, iterations=count, rounding=False, step_rate=rate)
            reconstruction.learn(steps, generator)


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
