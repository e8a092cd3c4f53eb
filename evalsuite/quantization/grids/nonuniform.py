"""Grids for what uniform ones serve badly: activations after softmax and after GELU.

Both kinds of quantizer stand where an :class:`ActivationQuantizer` stood, and are calibrated like one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused
from evalsuite.number_formats import NumberFormat
from evalsuite.quantization.graph.trace import trace
from evalsuite.quantization.grids.affine import straight_through
from evalsuite.quantization.grids.layers import ActivationQuantizer, activation_quantizers
from evalsuite.quantization.grids.ranges import Sample


def twin_quantize(x: Tensor, fine: Tensor, coarse: Tensor, bits: int, signed: bool) -> Tensor:
    """Round to a twin uniform grid (PTQ4ViT, Yuan et al. 2022, arXiv 2111.12293).

    One bit says which of two ranges a value is in, the others count steps from zero: 0..2^(bits-1) - 1.

    Parameters
    ----------
    x : any shape; not negative unless ``signed``.
    fine, coarse : scalars, the two ranges' steps. ``signed``: of the negative values and of the positive ones.
        Otherwise of values below 2^(bits-1) fine steps and of those from there on.
    """
    last = 2 ** (bits - 1) - 1
    large = x.div(coarse).round_().clamp_(0, last).mul_(coarse)
    if signed:
        return large.add_(x.div(fine).round_().clamp_(-last, 0).mul_(fine))
    small = x.div(fine).round_().clamp_(0, last).mul_(fine)
    return torch.where(x < fine * (last + 1), small, large)


def log_sqrt2_quantize(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Round non-negative values to scale · 2^(-k/2), k = 0..2^bits - 2, or to 0 (RepQ-ViT, arXiv 2212.08254).

    Even k are shifts by k/2; odd ones are shifts by (k+1)/2 of scale · sqrt(2), which is the paper's
    reparameterisation to base 2 and changes no value. That the last integer stands for zero is ours: the paper's
    formula makes its smallest level of everything below it.
    """
    zero = 2**bits - 1
    steps = x.div(scale).log2_().mul_(-2).round_().clamp_(0, zero)
    return torch.where(steps < zero, steps.mul(-0.5).exp2_().mul_(scale), 0.0)


class _NonuniformQuantizer(ActivationQuantizer):
    """What both kinds have in common; ``zero_point`` plays no role, zero is always a level."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to the grid; gradients pass as in :func:`affine.fake_quantize`."""
        if self.observer is not None or not self.ready:
            return super().forward(x)
        with torch.no_grad():
            rounded = self.rounded(x)
        if torch.is_grad_enabled() and x.requires_grad:
            least, greatest = self.ends()
            return straight_through(x, rounded, (x >= least) & (x <= greatest))
        return rounded

    def rounded(self, x: Tensor) -> Tensor:
        """Return the nearest levels."""
        raise NotImplementedError

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest level."""
        raise NotImplementedError


class TwinQuantizer(_NonuniformQuantizer):
    """Rounds a tensor to a twin uniform grid, see :func:`twin_quantize`.

    Attributes
    ----------
    scale, fine_scale : buffers, the coarse and the fine step; their ratio is a power of two, so that integer
        hardware aligns the ranges by a shift.
    """

    beyond_onnx = "a twin uniform grid (PTQ4ViT)"
    fine_scale: Tensor

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__(bits)
        self.signed = signed
        self.register_buffer("fine_scale", torch.tensor(1.0))

    @property
    def last(self) -> int:
        """The number of steps from zero to a range's end."""
        return int(2 ** (self.bits - 1)) - 1

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Cover ``low``..``high``, finite scalars; unsigned, the fine range is the lowest 1/2^(bits-1) of it."""
        coarse = high.clamp(min=torch.finfo(high.dtype).tiny) / self.last
        fine = self.fine_step(low, coarse) if self.signed else coarse / (self.last + 1)
        self.set_steps(fine, coarse)

    @torch.no_grad()
    def set_steps(self, fine: Tensor, coarse: Tensor) -> None:
        """Choose both steps, positive scalars."""
        self.fine_scale.copy_(fine)
        self.scale.copy_(coarse)
        self.switch(True)

    def fine_step(self, low: Tensor, coarse: Tensor) -> Tensor:
        """Return the least ``coarse`` / 2^m that covers the negative values down to ``low``; m is 0..15."""
        needed = low.clamp(max=0).abs() / self.last
        m = torch.log2(coarse / needed).floor().clamp(0, 15)
        return coarse * torch.exp2(-m)

    def rounded(self, x: Tensor) -> Tensor:
        """Return the nearest levels."""
        return twin_quantize(x, self.fine_scale, self.scale, self.bits, self.signed)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest level."""
        return -self.last * self.fine_scale if self.signed else torch.zeros_like(self.scale), self.last * self.scale

    def extra_repr(self) -> str:
        """Show bits and steps."""
        fine, coarse = self.fine_scale.item(), self.scale.item()
        return f"bits={self.bits}, signed={self.signed}, fine={fine:.4g}, coarse={coarse:.4g}"


class LogSqrt2Quantizer(_NonuniformQuantizer):
    """Rounds non-negative values to powers of sqrt(2) below ``scale``, see :func:`log_sqrt2_quantize`."""

    beyond_onnx = "powers of sqrt(2) (RepQ-ViT)"

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Make ``high``, a finite scalar, the greatest level; ``low`` plays no role."""
        self.scale.copy_(high.clamp(min=torch.finfo(high.dtype).tiny))
        self.switch(True)

    def rounded(self, x: Tensor) -> Tensor:
        """Return the nearest levels."""
        return log_sqrt2_quantize(x, self.scale, self.bits)

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest level."""
        return torch.zeros_like(self.scale), self.scale

    def extra_repr(self) -> str:
        """Show bits and the greatest level."""
        return f"bits={self.bits}, scale={self.scale.item():.4g}"


@dataclass(frozen=True)
class LogSqrt2Error:
    """The greatest level of a log-sqrt(2) grid with the least mean squared error, among fractions of the maximum."""

    steps: int = 100

    def __call__(
        self, sample: Sample, bits: int, symmetric: bool, format: NumberFormat | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return 0 and the greatest level, (C,) each."""
        best = sample.high.clone()
        least = torch.full_like(best, torch.inf, dtype=torch.double)
        for step in range(self.steps, 0, -1):
            scale = sample.high * (step / self.steps)
            rounded = log_sqrt2_quantize(sample.values.clamp(min=0), scale[:, None], bits)
            error = (rounded - sample.values).square().mul(sample.counts).sum(dim=1).double()
            best = torch.where(error < least, scale, best)
            least = torch.minimum(error, least)
        return torch.zeros_like(best), best


def quantizers_after(model: nn.Module, example: Tensor, operation: str) -> list[str]:
    """Name the activation quantizers whose input an ATen operation computes, in order of execution.

    Parameters
    ----------
    example : (1, C, H, W) normalised.
    operation : of any overload and variant: ``softmax`` stands for ``_softmax`` too.
    """
    found = trace(model, example)
    kinds = {name: found.source(found.inputs[name]) for name in activation_quantizers(model) if name in found.inputs}
    return [name for name, source in kinds.items() if source is not None and source.name.endswith(operation)]


def refuse_per_token(bits: BitPolicy, method: str) -> None:
    """Raise Refused for grids that are found anew for every token: there would be nothing to choose."""
    if bits.per_token:
        raise Refused(f"{method} chooses ranges on calibration images; expected per_token = false")


def replace_quantizers(
    model: nn.Module, names: list[str], build: Callable[[ActivationQuantizer], ActivationQuantizer]
) -> None:
    """Put another kind of quantizer in the place of the named ones, in place, on their device and in their mode."""
    for name in names:
        old = model.get_submodule(name)
        assert isinstance(old, ActivationQuantizer)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, build(old).to(old.scale.device).train(old.training))
