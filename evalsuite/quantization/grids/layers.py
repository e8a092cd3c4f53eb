"""Layers that compute what a quantized network would, in floating point (simulated quantization).

A quantized layer rounds its input when it runs. Its weight is rounded once, at calibration, and kept as the real
numbers on the grid, so that evaluation pays for activations only; scale and zero point are kept beside it and
give the integers back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.bits import BitPolicy
from evalsuite.models.attention import MatMul
from evalsuite.number_formats import NumberFormat, number_format
from evalsuite.quantization.grids.affine import (
    IntegerRange,
    affine_parameters,
    dequantize,
    fake_quantize,
    integer_range,
    quantize,
    round_to_steps,
    straight_through,
)
from evalsuite.quantization.grids.formats import chosen_scale, round_by, round_to, scales
from evalsuite.weight_layers import WEIGHT_LAYERS, channel_dimension


class ActivationQuantizer(nn.Module):
    """Rounds a tensor to one grid, asymmetric by default; lets it pass unchanged until its range is set.

    Attributes
    ----------
    scale, zero_point, calibrated : buffers, scalars; after writing the latter two by hand call :meth:`refresh`.
    ready, reach : what they say as plain values, so that no forward pass has to read a tensor: whether to round, and
        how many steps the grid reaches below and above zero.
    observer : where one is set, it is shown each input, which then passes unchanged.
    format : the number format that is rounded to; None: integers.
    beyond_onnx : what the grid is, where ONNX's QuantizeLinear cannot say it; else empty. ``format`` speaks for itself.
    """

    format: NumberFormat | None = None
    beyond_onnx: str = ""
    scale: Tensor
    zero_point: Tensor
    calibrated: Tensor

    def __init__(self, bits: int, symmetric: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.symmetric = symmetric
        self.observer: Callable[[Tensor], None] | None = None
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))
        self.register_buffer("calibrated", torch.tensor(False))
        self.ready, self.reach = False, (0, 0)

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Cover ``low``..``high``, finite scalars."""
        scale, zero_point = affine_parameters(low, high, self.bits, self.symmetric)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
        self.switch(True)

    def switch(self, on: bool) -> None:
        """Round from here on, or let everything pass."""
        self.calibrated.fill_(on)
        self.refresh()

    def refresh(self) -> None:
        """Read the buffers anew."""
        zero = int(self.zero_point)
        integers = integer_range(self.bits, self.symmetric)
        self.ready, self.reach = bool(self.calibrated), (integers.low - zero, integers.high - zero)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.refresh()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to the grid."""
        if self.observer is not None:
            self.observer(x)
            return x
        if self.ready and torch.compiler.is_compiling():  # by buffers, for plain numbers would be compiled in
            return fake_quantize(x, self.scale, self.zero_point, integer_range(self.bits, self.symmetric))
        return round_to_steps(x, self.scale, *self.reach) if self.ready else x

    def extra_repr(self) -> str:
        """Show bits and range."""
        return f"bits={self.bits}, scale={self.scale.item():.4g}, zero_point={int(self.zero_point)}"


class TokenQuantizer(ActivationQuantizer):
    """Rounds each token (..., D) to a grid over its own extremes, found when it runs (dynamic quantization).

    Calibration only switches it on; ``scale`` and ``zero_point`` play no role.
    """

    beyond_onnx = "a grid of each token's own"

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Begin to round; the range is each token's own."""
        self.switch(True)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with every token rounded to its grid."""
        if self.observer is not None or not self.ready:
            return super().forward(x)
        wide = x if x.dtype == torch.float64 else x.float()  # half precision has no room for a small token's scale
        low, high = torch.aminmax(wide.detach(), dim=-1, keepdim=True)
        scale, zero_point = affine_parameters(low, high, self.bits, self.symmetric)
        return fake_quantize(wide, scale, zero_point, integer_range(self.bits, self.symmetric)).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the bits."""
        return f"bits={self.bits}, per token"


class FormatQuantizer(ActivationQuantizer):
    """Rounds a tensor to a number format; ``zero_point`` plays no role.

    Parameters
    ----------
    axis : along which the products are summed that the tensor enters, negative: blocks lie along it.
    groups : equal parts of that axis which no block crosses.
    """

    def __init__(self, format: NumberFormat, axis: int = -1, groups: int = 1) -> None:
        super().__init__(format.bits, symmetric=True)
        self.format: NumberFormat = format
        self.axis = axis
        self.groups = groups

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Cover ``low``..``high``, finite scalars, where the format has a scale to choose."""
        self.scale.copy_(chosen_scale(low, high, self.format))
        self.switch(True)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded to the format; gradients pass unchanged."""
        if self.observer is not None or not self.ready:
            return super().forward(x)
        with torch.no_grad():
            rounded = self._rounded(x)
        if torch.is_grad_enabled() and x.requires_grad:
            return straight_through(x, rounded, torch.ones_like(x, dtype=torch.bool))
        return rounded

    def _rounded(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        scale = self.scale.to(wide.dtype)
        if not self.format.block:
            return round_to(wide, scale, self.format).to(x.dtype)
        last = wide.movedim(self.axis, -1)
        grouped = last.reshape(*last.shape[:-1], self.groups, -1)
        return round_to(grouped, scale, self.format).reshape(last.shape).movedim(-1, self.axis).to(x.dtype)

    def extra_repr(self) -> str:
        """Show the format and, if one was chosen, its scale."""
        return self.format.name if self.format.unscaled else f"{self.format.name}, scale={self.scale.item():.4g}"


def activation_quantizer(
    bits: int, format: str | None, symmetric: bool = False, *, axis: int = -1, groups: int = 1
) -> ActivationQuantizer:
    """Return what rounds a tensor to integers of so many bits, or to a format; see :class:`FormatQuantizer`."""
    if format is None:
        return ActivationQuantizer(bits, symmetric)
    return FormatQuantizer(number_format(format), axis, groups)


class QuantLayer(nn.Module):
    """What quantized convolutions and linear layers have in common.

    Attributes
    ----------
    input_quantizer : rounds the layer's input.
    weight_scale, weight_zero_point : buffers, a value per row of :meth:`rows`.
    weight_format : the number format that the weight is rounded to; None: integers.
    """

    input_quantizer: ActivationQuantizer
    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor

    def _take(self, layer: nn.Conv1d | nn.Conv2d | nn.Linear, bits: BitPolicy) -> None:
        # A rounded weight is no free parameter: no optimiser may move it off its grid.
        self.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
        if layer.bias is not None:
            bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=layer.bias.requires_grad)
            self.register_parameter("bias", bias)
        self.weight_bits = bits.weight_bits
        self.weight_format = None if bits.weight_format is None else number_format(bits.weight_format)
        # Blocks have scales of their own: what is above them is one for the tensor.
        self.per_channel = bits.per_channel and (self.weight_format is None or not self.weight_format.block)
        self.symmetric = bits.symmetric
        if bits.per_token and isinstance(layer, nn.Linear):
            quantizer: ActivationQuantizer = TokenQuantizer(bits.activation_bits, bits.symmetric_activations)
        else:
            axis, groups = channel_dimension(layer), getattr(layer, "groups", 1)
            given = bits.activation_bits, bits.activation_format, bits.symmetric_activations
            quantizer = activation_quantizer(*given, axis=axis, groups=groups)
        self.input_quantizer = quantizer.to(layer.weight.device)
        scale = torch.ones(len(self.rows()), dtype=self.weight.dtype, device=self.weight.device)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero_point", torch.zeros_like(scale, dtype=torch.int32))
        self.train(layer.training)

    @property
    def integers(self) -> IntegerRange:
        """The weight's grid."""
        return integer_range(self.weight_bits, self.symmetric)

    def rows(self) -> Tensor:
        """Return the weight as a row per scale: (output channels, n), or (1, n) if not ``per_channel``."""
        return self.weight.detach().reshape(len(self.weight) if self.per_channel else 1, -1)

    @torch.no_grad()
    def set_weight_range(self, low: Tensor, high: Tensor) -> None:
        """Choose the grid that covers ``low``..``high``, a finite value per row; rounds nothing yet."""
        if self.weight_format is not None:
            self.weight_scale.copy_(chosen_scale(low, high, self.weight_format))
            return
        scale, zero_point = affine_parameters(low, high, self.weight_bits, self.symmetric)
        self.weight_scale.copy_(scale)
        self.weight_zero_point.copy_(zero_point)

    def integer_weight(self) -> Tensor:
        """Return the integers nearest to the weight, int32 of its shape: its very own once it is rounded."""
        scale, zero_point = self.weight_scale[:, None], self.weight_zero_point[:, None]
        return quantize(self.rows(), scale, zero_point, self.integers).reshape(self.weight.shape)

    @torch.no_grad()
    def set_integers(self, integers: Tensor) -> None:
        """Replace the weight by these points of its grid, as many as it has elements."""
        rows = integers.reshape(len(self.weight_scale), -1)
        real = dequantize(rows, self.weight_scale[:, None], self.weight_zero_point[:, None])
        self.weight.copy_(real.reshape(self.weight.shape))

    @torch.no_grad()
    def set_points(self, points: Tensor) -> None:
        """Replace the weight by these points of its grid: integers, or values of its number format; of its shape."""
        if self.weight_format is None:
            self.set_integers(points)
        else:
            self.weight.copy_(points)

    @torch.no_grad()
    def round_weight(self) -> None:
        """Replace the weight by the nearest point of its grid."""
        if self.weight_format is None:
            self.set_integers(self.integer_weight())
        else:
            self.weight.copy_(round_by(self.weight, self.point_scales(), self.weight_format.element))

    @torch.no_grad()
    def point_scales(self) -> Tensor:
        """Return the scale of each value of the weight in its format, of its shape; found from the weight as it is.

        Blocks lie along the input channels, an input channel of a convolution's group at one place of the kernel
        after the other (*choice*: the specification leaves open how a kernel is laid out).
        """
        assert self.weight_format is not None
        scale = self.weight_scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        if not self.weight_format.block:
            return scale.expand(self.weight.shape)
        return scales(self.weight.movedim(1, -1), scale, self.weight_format).movedim(-1, 1)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's output for an input taken as it is and another weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Round the input and apply the layer."""
        return self.apply_weight(_rounded(self.input_quantizer, x), self.weight)

    def extra_repr(self) -> str:
        """Show the layer and its bits."""
        return f"{super().extra_repr()}, {self._bits()}"

    def _bits(self) -> str:
        if self.weight_format is not None:
            return f"weight_format={self.weight_format.name}, per_channel={self.per_channel}"
        return f"weight_bits={self.weight_bits}, per_channel={self.per_channel}, symmetric={self.symmetric}"


class _Room(threading.local):
    """Memory for one rounded tensor at a time, used again by every layer: to get it anew costs more than rounding."""

    block: Tensor | None = None

    def like(self, x: Tensor) -> Tensor:
        """Return uninitialised memory of a contiguous tensor's shape; what was in it before is lost."""
        if self.block is None or self.block.numel() < x.numel() or self.block.dtype != x.dtype:
            with torch.inference_mode(False):  # else it could not be written outside of that mode
                self.block = torch.empty(x.numel(), dtype=x.dtype)
        return self.block[: x.numel()].view(x.shape)


_ROOM = _Room()


def _rounded(quantizer: nn.Module, x: Tensor) -> Tensor:
    """Call a quantizer on a layer's input; in shared memory where nothing but the layer will see the result."""
    if (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or type(quantizer) is not ActivationQuantizer
        or not quantizer.ready
        or quantizer.observer is not None
        or quantizer._forward_hooks
        or quantizer._forward_pre_hooks
        or x.device.type != "cpu"
        or not x.is_contiguous()
    ):
        out: Tensor = quantizer(x)
        return out
    return round_to_steps(x, quantizer.scale, *quantizer.reach, out=_ROOM.like(x))


class QuantConvolution(QuantLayer):
    """A convolution with rounded weight and input.

    Parameters
    ----------
    layer : the one to quantize, whose weight and bias are copied; ``bits`` are its own, not those of first and last.
    """

    def __init__(self, layer: nn.Conv1d | nn.Conv2d, bits: BitPolicy) -> None:
        # On the meta device nothing is drawn from the global generator.
        shape: Any = layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
        further: Any = layer.dilation, layer.groups, layer.bias is not None, layer.padding_mode
        super().__init__(*shape, *further, device="meta")
        self._take(layer, bits)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve (N, C, places...) inputs as they are with another weight."""
        out: Tensor = self._conv_forward(x, weight, self.bias)  # type: ignore[operator]
        return out


class QuantConv1d(QuantConvolution, nn.Conv1d):
    """Of (N, C, L)."""


class QuantConv2d(QuantConvolution, nn.Conv2d):
    """Of (N, C, H, W)."""


class QuantLinear(QuantLayer, nn.Linear):
    """A linear layer with rounded weight and input; parameters as in :class:`QuantConvolution`."""

    def __init__(self, layer: nn.Linear, bits: BitPolicy) -> None:
        nn.Linear.__init__(self, layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self._take(layer, bits)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Map (..., features) as they are by another weight."""
        return F.linear(x, weight, self.bias)


class QuantMatMul(MatMul):
    """The product of two rounded activations, of integers of so many ``bits`` unless a ``format`` is named."""

    def __init__(self, bits: int, symmetric: bool = False, format: str | None = None) -> None:
        super().__init__()
        self.left = activation_quantizer(bits, format, symmetric, axis=-1)
        self.right = activation_quantizer(bits, format, symmetric, axis=-2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the product of (..., n, m) and (..., m, p), each rounded: (..., n, p)."""
        return super().forward(self.left(a), self.right(b))


def quantized_layer(layer: nn.Module, bits: BitPolicy) -> QuantLayer:
    """Return the quantized layer that stands for a plain one."""
    kinds: Any = {nn.Conv1d: QuantConv1d, nn.Conv2d: QuantConv2d, nn.Linear: QuantLinear}
    quantized: QuantLayer = next(kinds[kind] for kind in WEIGHT_LAYERS if isinstance(layer, kind))(layer, bits)
    return quantized


def quantized_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """Return a model's quantized convolutions and linear layers by qualified name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLayer)}


def activation_quantizers(model: nn.Module) -> dict[str, ActivationQuantizer]:
    """Return a model's activation quantizers by qualified name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ActivationQuantizer)}
