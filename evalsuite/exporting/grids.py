"""What an exported graph can say of a quantized network: uniform grids of integers of up to 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evalsuite.errors import ReasonCode, Refused
from evalsuite.quantization.grids.affine import IntegerRange, dequantize, integer_range
from evalsuite.quantization.grids.layers import ActivationQuantizer, QuantLayer, activation_quantizers, quantized_layers

_WIDTHS = (4, 8, 16)  # bits of ONNX's integers that QuantizeLinear takes (opset 21)


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid of integers as QuantizeLinear and DequantizeLinear take it.

    Attributes
    ----------
    name : qualified, of the quantizer or the weight that it is the grid of.
    scale, zero_point : () or (channels,), float32 and int32.
    reach : the smallest and the largest integer that it has.
    axis : the channels' in ``integers``; None: one scale for all.
    integers : of a weight, int32; None for an activation.
    """

    name: str
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    reach: IntegerRange
    axis: int | None = None
    integers: NDArray[np.int32] | None = None

    @property
    def signed(self) -> bool:
        """Whether its integers have a sign."""
        return self.reach.low < 0

    @property
    def width(self) -> int:
        """Bits of the narrowest of ONNX's integers that hold it."""
        return next(width for width in _WIDTHS if self.reach.high <= integer_range(width, self.signed).high)

    @property
    def type(self) -> str:
        """Name of these integers: ``int4``, ``uint8``..."""
        return f"{'' if self.signed else 'u'}int{self.width}"

    @property
    def fills(self) -> bool:
        """Whether it has all of these integers, so that saturating is clipping."""
        return self.reach == integer_range(self.width, self.signed)

    def real(self, integer: int) -> NDArray[np.float32]:
        """Return the value that an integer stands for."""
        return np.asarray((integer - self.zero_point) * self.scale, np.float32)


def grids_of(model: nn.Module) -> dict[str, Grid]:
    """Return a network's grids, of weights (``layer.weight``) and activations, by qualified name.

    Activation quantizers that let everything pass have none.

    Raises
    ------
    Refused
        For a grid that is none of integers, or not uniform, a weight that is not rounded, or a network without
        quantized layers; names the first.
    """
    layers = quantized_layers(model)
    if not layers:
        engine = getattr(model, "engine", None)
        what = f"runs in {engine}" if isinstance(engine, str) else "has no quantized layer"
        raise Refused(f"{type(model).__name__} {what}: expected what a simulated quantizer made")
    found = {}
    for name, layer in layers.items():
        grid = _weight_grid(f"{name}.weight" if name else "weight", layer)
        found[grid.name] = grid
    for name, quantizer in activation_quantizers(model).items():
        if quantizer.ready:
            found[name] = _activation_grid(name, quantizer)
    return found


def _activation_grid(name: str, quantizer: ActivationQuantizer) -> Grid:
    if quantizer.beyond_onnx or type(quantizer).forward is not ActivationQuantizer.forward:
        what = quantizer.beyond_onnx or f"a grid of its own ({type(quantizer).__name__})"
        raise _cannot_say(name, what)
    scale = quantizer.scale.detach().float().cpu().numpy().astype(np.float32).reshape(())
    zero_point = quantizer.zero_point.cpu().numpy().astype(np.int32).reshape(())
    return Grid(name, scale, zero_point, integer_range(quantizer.bits, quantizer.symmetric))


def _weight_grid(name: str, layer: QuantLayer) -> Grid:
    if layer.weight_format is not None:
        raise _cannot_say(name, f"{layer.weight_format.name}, a number format")
    integers = layer.integer_weight().cpu()
    scale, zero_point = layer.weight_scale.detach().float().cpu(), layer.weight_zero_point.cpu()
    if not torch.equal(_real(integers, scale, zero_point).to(layer.weight.dtype), layer.weight.detach().cpu()):
        raise Refused(f"{name} is not rounded to its grid: expected a calibrated network")
    values = integers.numpy().astype(np.int32)
    axis = None if len(scale) == 1 else 0
    if isinstance(layer, nn.Linear):  # as MatMul takes it, (in, out)
        values, axis = np.ascontiguousarray(values.T), None if axis is None else 1
    shape = (-1,) if axis is not None else ()
    own = scale.numpy().astype(np.float32).reshape(shape), zero_point.numpy().astype(np.int32).reshape(shape)
    return Grid(name, *own, layer.integers, axis, values)


def _real(integers: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    rows = dequantize(integers.reshape(len(scale), -1), scale[:, None], zero_point[:, None])
    return rows.reshape(integers.shape)


def _cannot_say(name: str, what: str) -> Refused:
    message = f"{name} rounds to {what}, which QuantizeLinear to integers cannot say: expected a uniform grid"
    return Refused(message, ReasonCode.UNSUPPORTED_OPERATION)
