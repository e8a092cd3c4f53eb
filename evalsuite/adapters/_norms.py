"""Normalisation layers as adapters see them: batch statistics, and affine parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.layout import Layout
from evalsuite.structure import NORM_LAYERS, Structure

_LARGE = 100.0  # a squared mean, in variances


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return a model's BatchNorm layers."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def affine_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the weight and the bias of a normalisation layer, as far as it has them."""
    found = (getattr(module, name, None) for name in ("weight", "bias"))
    return [parameter for parameter in found if isinstance(parameter, nn.Parameter)]


def affine_norms(model: nn.Module) -> list[nn.Module]:
    """Return a model's normalisation layers that have affine parameters."""
    return [module for module in model.modules() if isinstance(module, NORM_LAYERS) and affine_parameters(module)]


def before_tail(structure: Structure) -> tuple[str, ...]:
    """Return the norms executed before the last stage (CNN) or the last quarter of the blocks, at least one.

    All of them for a network without blocks.
    """
    if not structure.blocks:
        return structure.norms
    quarter = structure.blocks[-max(1, len(structure.blocks) // 4) :]
    tail = structure.stages[-1] if structure.architecture == "cnn" else quarter
    inside = {norm for block in tail for norm in structure.block_norms[block]}
    first = min((index for index, norm in enumerate(structure.norms) if norm in inside), default=len(structure.norms))
    return structure.norms[:first]


@torch.no_grad()
def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each of C channels, (C,) each, of (N, C, ...) values.

    In float32 if these come in half precision, in which sums of squares overflow. On a processor from sums of values
    and of squares, many times as fast as ``torch.var_mean``; from centred ones where a mean is so large that the
    difference would lose digits.
    """
    x = x if x.dtype == torch.float64 else x.float()
    if x.device.type != "cpu":
        variance, mean = torch.var_mean(x, dim=[dim for dim in range(x.ndim) if dim != 1], correction=0)
        return mean, variance
    rows = x.flatten(2) if x.ndim > 2 else x[:, :, None]
    mean = rows.mean(dim=2).mean(dim=0)
    variance = _mean_square(rows) - mean.square()
    if bool((mean.square() > _LARGE * variance).any()):
        variance = _mean_square(rows - mean[:, None])
    return mean, variance


def _mean_square(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=2)
    return norms.square().mean(dim=0) / rows.shape[2]


def use_batch_statistics(model: nn.Module) -> None:
    """Make every BatchNorm layer normalise with the statistics of its current batch.

    The running statistics stay as they are. They serve where a batch has one value per channel only (one image,
    one pixel), whose variance says nothing.
    """
    for norm in batch_norms(model):
        norm.track_running_stats = False
        lent = _LentStatistics()
        norm.register_forward_pre_hook(lent.lend)
        norm.register_forward_hook(lent.give_back, always_call=True)


@dataclass
class _LentStatistics:
    """Lends a BatchNorm layer the statistics of its batch, as if they were its running ones, while it runs.

    Without gradients only, where this is several times as fast as the layer's own way.
    """

    kept: tuple[Tensor | None, Tensor | None] | None = None

    def lend(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Forward pre-hook."""
        x = args[0]
        several = x.numel() > x.shape[1]
        module.training = several and torch.is_grad_enabled()
        if several and not module.training:
            buffers = module._buffers
            self.kept = (buffers["running_mean"], buffers["running_var"])
            weight = module._parameters.get("weight")
            moments = channel_moments(x)  # all of a norm's values must be of one type
            buffers["running_mean"], buffers["running_var"] = (
                one if weight is None else one.to(weight.dtype) for one in moments
            )

    def give_back(self, module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
        """Forward hook, after an error as well."""
        if self.kept is not None:
            module._buffers["running_mean"], module._buffers["running_var"] = self.kept
            self.kept = None


@dataclass
class MixedStatistics:
    """Statistics of one BatchNorm layer between source and batch (Schneider et al. 2020, arXiv 2006.16971, eq. 3).

    Mean and variance are each prior/(prior + n) of the source's and n/(prior + n) of the batch's, n its images, of
    which ``layout`` tells the number; the batch's variance is the biased one, by which BatchNorm normalises.
    """

    prior: float
    mean: Tensor
    variance: Tensor
    layout: Layout = field(default_factory=Layout)

    def mix(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Set a layer's running statistics for the input that it is about to take."""
        assert isinstance(module, _BatchNorm)
        assert module.running_mean is not None
        assert module.running_var is not None
        mean, variance = channel_moments(args[0])
        share = self.prior / (self.prior + self.layout.images(args[0]))
        module.running_mean.copy_(torch.lerp(mean, self.mean.to(mean), share))
        module.running_var.copy_(torch.lerp(variance, self.variance.to(variance), share))


class FlatParameters:
    """Parameters of several layers as one vector of P scalars."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.parameters = [parameter for module in modules for parameter in affine_parameters(module)]
        self.sizes = [parameter.numel() for parameter in self.parameters]

    def read(self) -> Tensor:
        """Return a copy of the parameters, (P,)."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])

    @torch.no_grad()
    def write(self, values: Tensor) -> None:
        """Set the parameters from (P,) values."""
        for parameter, part in zip(self.parameters, torch.split(values, self.sizes), strict=True):
            parameter.copy_(part.view_as(parameter))


def finite(tensors: Sequence[Tensor | None]) -> bool:
    """Whether all values are finite; absent tensors are."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor is not None)
