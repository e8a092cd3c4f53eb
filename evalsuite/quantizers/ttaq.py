"""Reconstruction that resists perturbations of its input."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import RequestError
from evalsuite.plugins import later
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.losses import Loss
from evalsuite.quantization.reconstruction.options import ReconstructionOptions
from evalsuite.quantizers._host_tuning import tune_for_hosts
from evalsuite.quantizers._stability import Covariance, PerturbationConsistency, PerturbationErrorMitigation
from evalsuite.quantizers.brecq import BRECQ
from evalsuite.quantizers.qdrop import QDrop


@dataclass(frozen=True)
class TTAQ(ReconstructionOptions):
    """TTAQ: QDrop or BRECQ made steady under perturbed inputs, for test domains that change.

    An interpretation of the published abstract of Xiao et al., "TTAQ: Towards Stable Post-training Quantization in
    Continuous Domain Adaptation", arXiv 2412.09899; every formula is this project's own. Two losses beside the
    ``base`` method's, each off at strength 0, and with both off the result is the base method's, bit for bit:

    - ``pem`` (perturbation error mitigation): a penalty on how much each rounded weight amplifies small changes of
      its layer's input, whose second moments are measured once; relative to
      the reconstruction error of rounding to nearest. Off by default: over five draws (ResNet-20, W2A4;
      docs/results/ttaq.md) it is not shown to change the error, alone or beside ``pcr``;
    - ``pcr`` (perturbation consistency reconstruction): the ``consistency`` of what a block (or the network's
      prediction) makes of an image and of the same image perturbed; beside the reconstruction error, in its unit.

    Perturbations (speckle, light blur, saturation, jitter) belong to none of the 15 test corruptions. ABL, the third
    part, is an adapter.

    Parameters
    ----------
    base : the method to which the losses are added; ``qdrop`` (*choice*).
    pem : weight of the penalty, relative to the error of rounding to nearest; 0 (*ours*).
    pcr : weight of the consistency, relative to the reconstruction error; 1 (*ours*).
    perturbation : strength of the perturbations, a factor; 1 (*ours*).
    covariance : of the second moments their ``diagonal``, or ``full``; diagonal (*ours*).
    consistency : whether outputs of the ``block`` or ``prediction``s of the network are compared; block (*ours*).
    drop : the base QDrop's; BRECQ has none.
    step_rate : learning rate of scales; None: the base's default.
    step_iterations : the base BRECQ's; QDrop has none.
    range_images : images on which activations' ranges are chosen; 256, as the bases'.
    norm_steps : steps by which, after reconstruction, the norms alone learn to predict for a perturbed image what full
        precision does for the image itself, BatchNorm on the statistics of its batch, as adapters run it; 0 (*ours*).
    norm_strength : of the perturbations in these steps; 2 (*ours*).
    rounding_rate : learning rate, in points of their grids, by which in these steps the weights' rounding goes on
        beside the norms; 0, it stays (*ours*).
    iterations, batch_size, learning_rate, regulariser, warmup, b_start, b_end, cache_gigabytes, precision : see
        :class:`evalsuite.quantization.reconstruction.options.ReconstructionOptions`.
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    base: Literal["qdrop", "brecq"] = "qdrop"
    pem: float = 0.0
    pcr: float = 1.0
    perturbation: float = 1.0
    covariance: Covariance = "diagonal"
    consistency: Literal["block", "prediction"] = "block"
    drop: float = 0.5
    step_rate: float | None = None
    step_iterations: int | None = None
    range_images: int = 256
    norm_steps: int = later(0)
    norm_strength: float = later(2.0)
    rounding_rate: float = later(0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pem", "pcr", "perturbation", "norm_steps", "norm_strength", "rounding_rate"):
            if getattr(self, name) < 0:
                raise RequestError(f"{name} = {getattr(self, name)}: expected at least 0")
        self.base_method()

    def base_method(self) -> QDrop | BRECQ:
        """Return the base method with this one's options."""
        kind = QDrop if self.base == "qdrop" else BRECQ
        shared = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(kind) if hasattr(self, field.name)
        }
        return kind(**shared)

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy, see :func:`evalsuite.quantization.insert.insert_quantizers`."""
        return insert_quantizers(model, bits, example)

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Learn rounding and scales, in place; ``images``: (N, C, H, W) normalised."""
        reference = copy.deepcopy(model) if self.norm_steps else model
        losses: tuple[Loss, ...] = ()
        if self.pem > 0:
            losses += (PerturbationErrorMitigation(self.pem, self.perturbation, self.covariance, generator),)
        if self.pcr > 0:
            losses += (PerturbationConsistency(self.pcr, self.perturbation, self.consistency, generator),)
        self.base_method().reconstruct(model, images, generator, losses)
        if self.norm_steps:
            strength, rate = self.norm_strength, self.rounding_rate
            tune_for_hosts(model, reference, images, self.norm_steps, strength, generator, rate)
