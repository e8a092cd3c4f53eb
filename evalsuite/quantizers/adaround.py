"""Learned rounding, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.quantization.grids.range_setting import check_images, set_activation_ranges, set_weight_ranges
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.block_by_block import Reconstruction
from evalsuite.quantization.reconstruction.options import Pass, ReconstructionOptions


@dataclass(frozen=True)
class AdaRound(ReconstructionOptions):
    """AdaRound: learns to round each weight up or down so that its layer's output changes least.

    Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv 2004.10568. Layers are
    learnt in order of execution: the target is what the layer gives in full precision on full-precision input,
    the input what reaches it through the layers already rounded (the paper's asymmetric reconstruction). A ReLU or
    ReLU6 that alone reads the layer's output is part of both, as in the paper; so is, ours, a BatchNorm in
    between, which the paper has folded. A layer that runs several times is learnt on its first run.

    Ranges of activations are chosen after all weights are rounded, unless ``quantize_inputs``. Weights in number
    formats are learnt between the neighbours of their elements, for the scales that they had (*ours*).

    Parameters
    ----------
    quantize_inputs : whether the ranges of activations are chosen before, and weights learnt on rounded inputs
        (*choice*: not).
    iterations, batch_size, learning_rate, regulariser, warmup, b_start, b_end, cache_gigabytes, precision : see
        :class:`evalsuite.quantization.reconstruction.options.ReconstructionOptions`.
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    quantize_inputs: bool = False

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy, see :func:`evalsuite.quantization.insert.insert_quantizers`."""
        return insert_quantizers(model, bits, example, formats=True)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Learn the rounding and set all ranges, in place; ``images``: (N, C, H, W) normalised."""
        check_images(images)
        set_weight_ranges(model, self.weight_estimator())
        reconstruction = Reconstruction(model, images, self, blocks=False)
        if self.quantize_inputs:
            set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins)
        reconstruction.learn(Pass(self.iterations), generator)
        if not self.quantize_inputs:
            set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins)
