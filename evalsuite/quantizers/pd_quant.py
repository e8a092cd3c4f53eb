"""QDrop with an eye on the network's prediction."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.quantization.reconstruction.losses import Loss
from evalsuite.quantization.reconstruction.options import Pass
from evalsuite.quantizers._distribution_correction import StatisticsCorrection
from evalsuite.quantizers._prediction_difference import PredictionDifference
from evalsuite.quantizers.qdrop import QDrop


@dataclass(frozen=True)
class PDQuant(QDrop):
    """PD-Quant: as QDrop, and the prediction of the network after each block may not change either.

    Liu et al. 2023, "PD-Quant: Post-Training Quantization based on Prediction Difference Metric", arXiv 2212.07048.
    The rest of the network, in full precision, turns the block's output into a prediction, whose KL divergence from
    the full-precision network's is added to the loss.

    The full-precision activations that enter a block are first moved so that the block's BatchNorm layers see the mean
    and variance they were trained with (distribution correction), by Adam on a batch at a time. A block without
    BatchNorm has no such statistics, its activations stay (a network without any is named in a QuantizationWarning); so
    does one whose norms are folded, and what enters a single layer.

    Parameters
    ----------
    prediction_weight : of the divergence beside the reconstruction error; 10 (*choice*).
    temperature : of both predictions; 4 (*choice*).
    correction_steps : of Adam, a batch; 50 (*ours*; the authors' program takes 500).
    correction_rate : learning rate of the correction; 0.001 (*choice*).
    correction_weight : of the mean squared distance from where the activations began; 50 (*choice*).
    step_rate, drop, range_images : see :class:`evalsuite.quantizers.qdrop.QDrop`.
    iterations, batch_size, learning_rate, regulariser, warmup, b_start, b_end, cache_gigabytes, precision : see
        :class:`evalsuite.quantization.reconstruction.options.ReconstructionOptions`.
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    prediction_weight: float = 10.0
    temperature: float = 4.0
    correction_steps: int = 50
    correction_rate: float = 1e-3
    correction_weight: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0:
            raise RequestError(f"temperature = {self.temperature}: expected above 0")
        for name in ("prediction_weight", "correction_steps", "correction_rate", "correction_weight"):
            if getattr(self, name) < 0:
                raise RequestError(f"{name} = {getattr(self, name)}: expected at least 0")

    def reconstruct(
        self, model: nn.Module, images: Tensor, generator: torch.Generator, losses: tuple[Loss, ...] = ()
    ) -> None:
        """Do the same with further losses."""
        if self.correction_steps and not _holds_norms(model):
            message = "no BatchNorm layer whose statistics activations could be corrected to: that part is left out"
            warnings.warn(message, QuantizationWarning, stacklevel=2)
        if self.prediction_weight:
            losses = (*losses, PredictionDifference(self.prediction_weight, self.temperature))
        super().reconstruct(model, images, generator, losses)

    def only_pass(self, losses: tuple[Loss, ...]) -> Pass:
        """Return QDrop's pass with the correction."""
        correction = StatisticsCorrection(self.correction_steps, self.correction_rate, self.correction_weight)
        return dataclasses.replace(super().only_pass(losses), correction=correction)


def _holds_norms(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) and module.running_var is not None for module in model.modules())
