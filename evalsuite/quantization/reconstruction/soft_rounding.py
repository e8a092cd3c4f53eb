"""Learning whether each weight goes up or down: Nagel et al. 2020, arXiv 2004.10568."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evalsuite.quantization.grids.formats import neighbours
from evalsuite.quantization.grids.layers import QuantLayer

ZETA, GAMMA = 1.1, -0.1  # the paper's stretch, which lets the sigmoid reach 0 and 1


class SoftRounding:
    """The weights of some layers, each between the lower and the upper neighbour on its grid of integers or values.

    Of a number format the neighbours are those of its elements, for the scales that the weight has before (*ours*).
    The rectified sigmoid of arXiv 2004.10568 gives the part h of the way up, 0..1; it begins at the weight itself.
    All layers lie in one vector, so that a step costs the same few operations however many layers there are;
    gradients are written out by hand.

    Parameters
    ----------
    layers : quantized layers whose grids are chosen and whose weights are not yet rounded.
    factors : for each layer, None or (output channels,): what its soft weight is multiplied by (a folded norm).
    channels_last : how convolution weights lie in memory.

    Attributes
    ----------
    weights : leaves of the layers' weights' shapes, whose gradients are to be accumulated.
    logit : (n,) the parameter.
    """

    def __init__(self, layers: Sequence[QuantLayer], factors: Sequence[Tensor | None], *, channels_last: bool = True):
        self._layers = tuple(layers)
        self._last = channels_last
        parts = [self._grid(layer, factor) for layer, factor in zip(layers, factors, strict=True)]
        self._lower, self._gap, part, self._gain, self._start = (torch.cat(each) for each in zip(*parts, strict=True))
        self.logit = nn.Parameter(torch.logit((part - GAMMA) / (ZETA - GAMMA)))
        self.logit.grad = torch.zeros_like(self.logit)
        self._sigmoid = torch.empty_like(self.logit.data)
        self._up = torch.empty_like(self._sigmoid)
        self._values = torch.empty_like(self._sigmoid)
        self._gradients = torch.zeros_like(self._sigmoid)
        self.weights: list[nn.Parameter] = []
        position = 0
        for layer in layers:
            size = layer.weight.numel()
            weight = nn.Parameter(self._shaped(self._values[position : position + size], layer.weight.shape))
            weight.grad = self._shaped(self._gradients[position : position + size], layer.weight.shape)
            self.weights.append(weight)
            position += size
        self.soften()

    @torch.no_grad()
    def soften(self) -> None:
        """Bring ``weights`` up to date with ``logit`` and forget their gradients."""
        torch.sigmoid(self.logit, out=self._sigmoid)
        torch.mul(self._sigmoid, ZETA - GAMMA, out=self._up).add_(GAMMA).clamp_(0, 1)
        torch.addcmul(self._start, self._up, self._gain, out=self._values)
        self._gradients.zero_()

    @torch.no_grad()
    def harden(self) -> None:
        """Give ``weights`` the values that :meth:`bake` would, until they are softened again."""
        torch.addcmul(self._start, (self.logit >= 0).to(self._gain.dtype), self._gain, out=self._values)

    @torch.no_grad()
    def backward(self, regulariser: float = 0.0, b: float | None = None) -> None:
        """Set the gradient of ``logit`` from those of ``weights``, and of the regulariser unless ``b`` is None."""
        gradient = self.logit.grad
        assert gradient is not None
        torch.mul(self._gradients, self._gain, out=gradient)
        if b is not None:
            side = self._up.mul(2).sub_(1)
            pull = side.abs().pow_(b - 1).copysign_(side)
            gradient.sub_(pull, alpha=2 * b * regulariser)
        slope = (1 - self._sigmoid).mul_(self._sigmoid)
        # Where the rectification holds h at 0 or 1 nothing moves.
        moving = (self._up - 0.5).abs_().lt_(0.5)
        gradient.mul_(slope.mul_(moving)).mul_(ZETA - GAMMA)

    def up(self) -> Tensor:
        """Return h, (n,), as of the last :meth:`soften`."""
        return self._up

    def indecision(self, b: float) -> Tensor:
        """Return the regulariser, the sum of 1 - abs(2h - 1)^b: 0 once every h is 0 or 1."""
        return (1 - (2 * self._up - 1).abs().pow(b)).sum()

    def points(self) -> list[Tensor]:
        """Return the decisions, of each layer's weight's shape: int32, or values of its number format."""
        decided = self._lower + (self.logit.detach() >= 0).to(self._lower.dtype) * self._gap
        found, position = [], 0
        for layer in self._layers:
            own = decided[position : position + layer.weight.numel()]
            if layer.weight_format is None:
                steps = own + _per_weight(layer.weight_zero_point, layer)
                own = steps.clamp(*layer.integers).to(torch.int32)
            else:
                own = own * self._flat(layer.point_scales())
            found.append(self._shaped(own, layer.weight.shape))
            position += layer.weight.numel()
        return found

    def bake(self) -> None:
        """Round the layers' weights as decided."""
        for layer, points in zip(self._layers, self.points(), strict=True):
            layer.set_points(points.contiguous())

    def _grid(self, layer: QuantLayer, factor: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return what the vector needs of a layer, (n,) each.

        The lower neighbour and the gap to the upper one, in units of the scale; the part of the gap below the weight;
        the value of the gap, and that at h = 0.
        """
        weight = self._flat(layer.weight.detach())
        if layer.weight_format is None:
            scale, zero = _per_weight(layer.weight_scale, layer), _per_weight(layer.weight_zero_point, layer)
            low, high = (bound - zero for bound in layer.integers)
            steps = weight / scale
            lower = steps.floor()
            gap, part, start = torch.ones_like(lower), steps - lower, lower.clamp(low, high)
            # Beyond the grid's ends both neighbours are the end.
            free = ((lower >= low) & (lower < high)).to(scale.dtype)
        else:
            scale = self._flat(layer.point_scales())
            over = torch.where(scale > 0, weight / scale, 0.0)
            lower, upper = neighbours(over, layer.weight_format.element)
            gap, start = upper - lower, lower
            part = torch.where(gap > 0, (over - lower) / gap, 0.0)
            free = gap
        if factor is not None:
            scale = scale * _per_weight(factor, layer)
        return lower, gap, part, scale * free, scale * start

    def _flat(self, values: Tensor) -> Tensor:
        """Return values of a weight's shape as they lie in the vector."""
        return (values.permute(0, 2, 3, 1) if self._last and values.ndim == 4 else values).reshape(-1)

    def _shaped(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        if len(shape) != 4 or not self._last:
            return flat.view(shape)
        outputs, inputs, height, width = shape
        return flat.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def _per_weight(values: Tensor, layer: QuantLayer) -> Tensor:
    """Return a value per row, or per output channel, as one per weight."""
    return values.repeat_interleave(layer.weight.numel() // len(values))
