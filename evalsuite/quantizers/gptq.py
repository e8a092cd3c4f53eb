"""Column-wise second-order rounding."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, RequestError
from evalsuite.plugins import cost_only
from evalsuite.quantization.graph.unfolding import unfolded_input
from evalsuite.quantization.grids.affine import dequantize, quantize
from evalsuite.quantization.grids.formats import round_by
from evalsuite.quantization.grids.layers import QuantLayer, quantized_layers
from evalsuite.quantization.grids.range_setting import batches, check_images, set_activation_ranges, set_weight_ranges
from evalsuite.quantization.grids.ranges import RangeOptions
from evalsuite.quantization.insert import insert_quantizers
from evalsuite.quantization.reconstruction.layer_by_layer import layers_in_turn
from evalsuite.weight_layers import CONVOLUTIONS

_UNFOLDED = 2**25  # elements of patches that lie in memory at once


@dataclass(frozen=True)
class GPTQ(RangeOptions):
    """GPTQ: rounds weights column by column, each column's error made good by the columns not yet rounded.

    Frantar et al. 2022, arXiv 2210.17323. Layers are rounded in order of execution, each for the inputs that
    reach it through the layers already rounded; the grid of each output channel is chosen before. A column is an
    input of the layer, of a convolution one place of its kernel in one input channel, and each group of a grouped
    convolution is a problem of its own. An input that is always zero is rounded to nearest (the paper's program
    sets its weight to zero). The method is of weights only: ranges of activations are chosen after. Weights in number
    formats are rounded column by column too, for the scales that they had (*choice*).

    Parameters
    ----------
    damping : the part of the Hessian's mean diagonal that is added to its diagonal; 0.01, as in the paper.
    block_columns : columns rounded before their errors reach the rest; 128, as in the paper. Changes speed only.
    range, weight_range, percentile, steps, norm, bins : see :class:`evalsuite.quantization.grids.ranges.RangeOptions`.
    """

    damping: float = 0.01
    block_columns: int = cost_only(128)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.damping < 0 or self.block_columns < 1:
            raise RequestError(
                f"damping = {self.damping}, block_columns = {self.block_columns}: expected at least 0, at least 1"
            )

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
        """Return a quantized copy, see :func:`evalsuite.quantization.insert.insert_quantizers`."""
        return insert_quantizers(model, bits, example, formats=True)

    @torch.no_grad()
    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Round all weights and set all ranges, in place; ``images``: (N, C, H, W) normalised."""
        check_images(images)
        set_weight_ranges(model, self.weight_estimator())
        left = quantized_layers(model)
        for name, outputs in layers_in_turn(model, images):
            layer = left.pop(name)
            hessian = hessian_of(layer, outputs(f"{name}.input_quantizer"))
            rounded = second_order_rounding(layer, hessian, self.damping, self.block_columns)
            if rounded is None:
                message = f"{name}: the Hessian of its inputs is not positive definite, rounded to nearest instead"
                warnings.warn(message, QuantizationWarning, stacklevel=2)
                layer.round_weight()
            else:
                layer.set_points(rounded)
        for layer in left.values():
            layer.round_weight()
        set_activation_ranges(model, images, self.activation_estimator(), bins=self.bins)


def hessian_of(layer: QuantLayer, inputs: Iterable[Tensor]) -> Tensor:
    """Return the Hessian of a layer's squared output error in a row of its weight, for batches of its input.

    Twice the mean over images and places of the outer product of the layer's inputs with themselves:
    (groups, n, n) float64, for n weights of an output channel.
    """
    total: Tensor | None = None
    count = 0
    for batch in inputs:
        size = max(1, _UNFOLDED // (batch[0].numel() * layer.weight[0, 0].numel()))
        for part in batches(batch, size):
            columns = _columns(layer, part)
            product = (columns.transpose(1, 2) @ columns).double()
            total = product if total is None else total + product
            count += columns.shape[1]
    assert total is not None
    return total * (2 / count)


def _columns(layer: QuantLayer, x: Tensor) -> Tensor:
    """Return a layer's inputs as its weights meet them: (groups, places, weights of an output channel)."""
    if not isinstance(layer, CONVOLUTIONS):
        return x.reshape(1, -1, x.shape[-1])
    return unfolded_input(layer, x).permute(1, 0, 3, 2).flatten(1, 2)


def second_order_rounding(
    layer: QuantLayer, hessian: Tensor, damping: float = 0.01, block_columns: int = 128
) -> Tensor | None:
    """Return a layer's weight as points of its grid, of its shape: int32, or values of its number format.

    Scales of blocks are those of the weight before any column is rounded. None if the damped ``hessian``,
    (groups, n, n), is not finite or not positive definite.
    """
    groups, n, _ = hessian.shape
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    damped = hessian + torch.diag_embed((damping * diagonal.mean(dim=1, keepdim=True)).expand(-1, n))
    damped = damped + torch.diag_embed((diagonal == 0).double())  # alone: no other column hears of its error
    lower, broken = torch.linalg.cholesky_ex(damped)
    if broken.any() or not lower.isfinite().all():
        return None
    # Row j of this factor of the inverse holds how columns j, j + 1... answer for an error in column j.
    spread, broken = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if broken.any() or not spread.isfinite().all():
        return None
    weight = layer.weight.detach().reshape(groups, -1, n).double()
    nearest = _nearest(layer, groups, n)
    kind = torch.int32 if layer.weight_format is None else layer.weight.dtype
    chosen = torch.empty(weight.shape, dtype=kind, device=weight.device)
    for start in range(0, n, block_columns):
        stop = min(start + block_columns, n)
        errors = torch.empty_like(weight[:, :, start:stop])
        for j in range(start, stop):
            column = weight[:, :, j]
            chosen[:, :, j], value = nearest(column, j)
            error = (column - value) / spread[:, j, j, None]
            errors[:, :, j - start] = error
            weight[:, :, j:stop] -= error[:, :, None] * spread[:, j, None, j:stop]
        weight[:, :, stop:] -= errors @ spread[:, start:stop, stop:]
    return chosen.reshape(layer.weight.shape)


def _nearest(layer: QuantLayer, groups: int, n: int) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """Return the function that rounds column j of a layer, (groups, rows): to points of its grid, and their values."""
    if layer.weight_format is not None:
        element, own = layer.weight_format.element, layer.point_scales().reshape(groups, -1, n)

        def to_format(column: Tensor, j: int) -> tuple[Tensor, Tensor]:
            value = round_by(column.to(own.dtype), own[:, :, j], element)
            return value, value

        return to_format
    scale, zero = (
        values.expand(len(layer.weight)).reshape(groups, -1) for values in (layer.weight_scale, layer.weight_zero_point)
    )

    def to_integers(column: Tensor, j: int) -> tuple[Tensor, Tensor]:
        integers = quantize(column.to(scale.dtype), scale, zero, layer.integers)
        return integers, dequantize(integers, scale, zero)

    return to_integers
