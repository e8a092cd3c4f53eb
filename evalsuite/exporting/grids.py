"""What an exported graph can say of a quantized network: uniform grids of integers of up to 16 bits, 8-bit floats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evalsuite.errors import ReasonCode, Refused
from evalsuite.number_formats import E4M3, E5M2, Element, NumberFormat
from evalsuite.quantization.grids.affine import IntegerRange, dequantize, integer_range
from evalsuite.quantization.grids.formats import cast, decode, encode
from evalsuite.quantization.grids.layers import (
    ActivationQuantizer,
    FormatQuantizer,
    QuantLayer,
    activation_quantizers,
    quantized_layers,
)

_WIDTHS = (4, 8, 16)  # bits of ONNX's integers that QuantizeLinear takes (opset 21)
_FLOATS = {E4M3: "float8e4m3fn", E5M2: "float8e5m2"}  # those that it takes (opset 19) and a format here has


@dataclass(frozen=True, eq=False)
class IntegerGrid:
    """A grid of integers as QuantizeLinear and DequantizeLinear take it.

    Attributes
    ----------
    name : qualified, of the quantizer or the weight that it is the grid of.
    scale, zero_point : () or (channels,), float32 and int32.
    reach : the smallest and the largest integer that it has.
    axis : the channels' in ``codes``; None: one scale for all.
    codes : of a weight, its integers, int32; None for an activation.
    """

    name: str
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    reach: IntegerRange
    axis: int | None = None
    codes: NDArray[np.int32] | None = None

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


@dataclass(frozen=True, eq=False)
class FloatGrid:
    """A grid of 8-bit floats as QuantizeLinear and DequantizeLinear take it, since opset 19.

    With ``saturate`` they say what is simulated: division in float32, the nearest float, ties to the even one, beyond
    the greatest (448 of E4M3, 57344 of E5M2) that one, for infinity too; the sign of zero is kept, NaN stays NaN.
    Without it E4M3 would become NaN there, E5M2 infinity, which our formats never make. They would differ where a scale
    is 0 (0 in simulation, NaN of 0 in ONNX), which no calibration chooses.

    Attributes
    ----------
    name, scale, axis : as of an :class:`IntegerGrid`.
    element : E4M3 or E5M2.
    codes : of a weight, the bits of its floats, int32 from 0 to 255; None for an activation.
    """

    name: str
    scale: NDArray[np.float32]
    element: Element
    axis: int | None = None
    codes: NDArray[np.int32] | None = None

    @property
    def zero_point(self) -> NDArray[np.int32]:
        """The bits of 0.0, of the scale's shape: floats have no other, but it names their type."""
        return np.zeros(self.scale.shape, np.int32)

    @property
    def width(self) -> int:
        """Bits of a float."""
        return self.element.bits

    @property
    def type(self) -> str:
        """Name of these floats: ``float8e4m3fn`` or ``float8e5m2``."""
        return _FLOATS[self.element]


Grid = IntegerGrid | FloatGrid


def grids_of(model: nn.Module) -> dict[str, Grid]:
    """Return a network's grids, of weights (``layer.weight``) and activations, by qualified name.

    Activation quantizers that let everything pass have none.

    Raises
    ------
    Refused
        For a grid that is neither uniform nor one of 8-bit floats with a fixed scale, a weight that is not rounded, or
        a network without quantized layers; names the first.
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
    forward = type(quantizer).forward
    scale = quantizer.scale.detach().float().cpu().numpy().astype(np.float32).reshape(())
    if not quantizer.beyond_onnx and forward is ActivationQuantizer.forward:
        zero_point = quantizer.zero_point.cpu().numpy().astype(np.int32).reshape(())
        return IntegerGrid(name, scale, zero_point, integer_range(quantizer.bits, quantizer.symmetric))
    if not quantizer.beyond_onnx and isinstance(quantizer, FormatQuantizer) and forward is FormatQuantizer.forward:
        return FloatGrid(name, scale, _element(name, quantizer.format))
    raise _cannot_say(name, quantizer.beyond_onnx or f"a grid of its own ({type(quantizer).__name__})")


def _weight_grid(name: str, layer: QuantLayer) -> Grid:
    if layer.weight_format is not None:
        return _float_weight(name, layer, _element(name, layer.weight_format))
    integers = layer.integer_weight().cpu()
    scale, zero_point = layer.weight_scale.detach().float().cpu(), layer.weight_zero_point.cpu()
    _check_rounded(name, layer, dequantize(_rows(integers, scale), scale[:, None], zero_point[:, None]))
    codes, axis, shape = _laid_out(layer, integers)
    own = scale.numpy().astype(np.float32).reshape(shape), zero_point.numpy().astype(np.int32).reshape(shape)
    return IntegerGrid(name, *own, layer.integers, axis, codes)


def _float_weight(name: str, layer: QuantLayer, element: Element) -> FloatGrid:
    scale = layer.weight_scale.detach().float().cpu()
    over = _rows(layer.weight.detach().float().cpu(), scale) / scale[:, None]
    floats = encode(cast(torch.where(scale[:, None] > 0, over, 0.0), element), element)
    _check_rounded(name, layer, decode(floats, element) * scale[:, None])
    codes, axis, shape = _laid_out(layer, floats.reshape(layer.weight.shape))
    return FloatGrid(name, scale.numpy().astype(np.float32).reshape(shape), element, axis, codes)


def _rows(values: Tensor, scale: Tensor) -> Tensor:
    return values.reshape(len(scale), -1)


def _check_rounded(name: str, layer: QuantLayer, rows: Tensor) -> None:
    """Raise Refused unless the values of its grid, a row per scale, are a layer's weight bit for bit."""
    weight = layer.weight.detach().cpu()
    if not torch.equal(rows.reshape(weight.shape).to(weight.dtype), weight):
        raise Refused(f"{name} is not rounded to its grid: expected a calibrated network")


def _laid_out(layer: QuantLayer, codes: Tensor) -> tuple[NDArray[np.int32], int | None, tuple[int, ...]]:
    """Return what is stored of a weight as its operation takes it, the axis of its scales, and the shape of these."""
    values = codes.numpy().astype(np.int32)
    axis = None if len(layer.weight_scale) == 1 else 0
    if isinstance(layer, nn.Linear):  # as MatMul takes it, (in, out)
        values, axis = np.ascontiguousarray(values.T), None if axis is None else 1
    return values, axis, () if axis is None else (-1,)


def _element(name: str, format: NumberFormat) -> Element:
    """Return a format's element. Raises Refused, with the format's name, unless ONNX can say the format."""
    # Scales of blocks are found from what is rounded: of activations, as the network runs.
    if format.block or format.element not in _FLOATS:
        raise _cannot_say(name, f"{format.name}, a number format")
    return format.element


def _cannot_say(name: str, what: str) -> Refused:
    message = f"{name} rounds to {what}, which QuantizeLinear cannot say: expected a uniform grid, FP8 or FP8-E5M2"
    return Refused(message, ReasonCode.UNSUPPORTED_OPERATION)
