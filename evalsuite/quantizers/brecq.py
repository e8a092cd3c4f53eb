"""Learned rounding, block by block, then learned activation scales."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.errors import RequestError
from evalsuite.quantization.calibration import check_images, set_activation_ranges, set_weight_ranges
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.lessons import Loss, Pass, ReconstructionOptions, scaled_rate
from evalsuite.quantization.policy import BitPolicy
from evalsuite.quantization.prediction import fisher_weights
from evalsuite.quantization.reconstruction import Reconstruction


@dataclass(frozen=True)
class BRECQ(ReconstructionOptions):
    """BRECQ: learns the rounding of each block so that its output changes least, then its activation scales.

    Li et al. 2021, "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction",
    arXiv 2102.05426. All layers of a block are learnt together by AdaRound's soft rounding, a layer outside of the
    blocks with the activation that follows; inputs come through the blocks already learnt, targets from the
    full-precision network. Weights first, while activations pass unrounded; then the activations' ranges are chosen
    on ``range_images`` images and their scales learnt by LSQ (Esser et al. 2020, arXiv 1902.08153) for
    ``step_iterations`` (None: a quarter of ``iterations``, as the authors' 5,000 are of 20,000) at ``step_rate``
    (None: 4e-4 for 5,000, and more for fewer, see :func:`evalsuite.quantization.lessons.scaled_rate`).

    ``fisher`` weighs each squared error by the squared gradient of the full-precision network's log-likelihood, for
    classes drawn from its own predictions (the drawing is ours).
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
        reconstruction.walk(weights, generator)
        set_activation_ranges(model, images[: self.range_images], self.activation_estimator(), bins=self.bins)
        count = self.iterations // 4 if self.step_iterations is None else self.step_iterations
        if count:
            rate = scaled_rate(4e-4, 5_000, count) if self.step_rate is None else self.step_rate
            steps = dataclasses.replace(weights, iterations=count, rounding=False, step_rate=rate)
            reconstruction.walk(steps, generator)
