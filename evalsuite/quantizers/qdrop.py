"""Learned rounding and activation scales, block by block, while quantization of activations is dropped at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.quantization.grids.range_setting import check_images, set_weight_ranges
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.block_by_block import Reconstruction
from evalsuite.quantization.reconstruction.losses import Loss
from evalsuite.quantization.reconstruction.options import Pass, ReconstructionOptions, choose_unit_ranges, scaled_rate


@dataclass(frozen=True)
class QDrop(ReconstructionOptions):
    """QDrop: as BRECQ in one go, with each activation left unrounded at random while a block is learnt.

    Wei et al. 2022, "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization",
    arXiv 2203.05740. When a block's turn comes, the ranges of its activations are chosen on images that reach it
    through the quantized part; then the rounding of its weights and its activation scales (by LSQ, arXiv 1902.08153)
    are learnt together.

    Parameters
    ----------
    step_rate : learning rate of scales; None: the authors' 4e-5 for 20,000 iterations, and more for fewer, see
        :func:`evalsuite.quantization.reconstruction.options.scaled_rate` (*ours*).
    drop : probability by which an element of what reaches the block is taken from the full-precision network, and an
        element of an activation inside passes unrounded; 0.5, as in the paper.
    range_images : images, the first ones, on which a block's ranges are chosen; 256 (*choice*).
    iterations, batch_size, learning_rate, regulariser, warmup, b_start, b_end, cache_gigabytes, precision : see
        :class:`evalsuite.quantization.reconstruction.options.ReconstructionOptions`.
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    step_rate: float | None = None
    drop: float = 0.5
    range_images: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_rate is not None and self.step_rate <= 0:
            raise RequestError(f"step_rate = {self.step_rate}: expected above 0")
        if not 0 <= self.drop <= 1:
            raise RequestError(f"drop = {self.drop}: expected a probability, 0 to 1")
        if self.range_images < 1:
            raise RequestError(f"range_images = {self.range_images}: expected at least 1")

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
        Reconstruction(model, images, self).learn(self.only_pass(losses), generator)

    def only_pass(self, losses: tuple[Loss, ...]) -> Pass:
        """Return how the units are learnt."""
        choose = choose_unit_ranges(self, self.range_images)
        rate = scaled_rate(4e-5, 20_000, self.iterations) if self.step_rate is None else self.step_rate
        return Pass(self.iterations, True, rate, choose, self.drop, losses)
