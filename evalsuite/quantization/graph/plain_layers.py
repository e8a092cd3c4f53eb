"""Layers that compute their weight or pad their input in a way of their own, as plain layers that compute the same.

Weight standardisation, spectral and weight normalisation: a weight that does not depend on the input is computed once.
Zeros around the input that are no option of the convolution ("same" padding of a strided one): a module before it.
Recognised by what a layer computes, whatever its class.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from evalsuite.errors import ReasonCode, Refused
from evalsuite.execution import hooked
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.weight_layers import CONVOLUTIONS, KINDS, WEIGHT_LAYERS

_SIZES = range(4)  # more places than in the example that a layer is tried with: padding may depend on the size


class SamePadding(nn.Module):
    """Zeros around an image so that a convolution gives ceil(size / stride) places: an odd one goes behind.

    The padding "SAME" of TensorFlow's ``tf.nn.convolution``, by the size of each input.

    Parameters
    ----------
    kernel_size, stride, dilation : of the convolution, a value per dimension of the image.
    """

    def __init__(self, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.dilation = tuple(kernel_size), tuple(stride), tuple(dilation)

    def zeros(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return how many go before and behind each dimension of an image of these sizes, the last dimension first."""
        found: list[int] = []
        for size, kernel, stride, dilation in zip(sizes, self.kernel_size, self.stride, self.dilation, strict=True):
            total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            found = [total // 2, total - total // 2, *found]
        return tuple(found)

    def forward(self, x: Tensor) -> Tensor:
        """Pad (N, C, places...)."""
        return F.pad(x, self.zeros(x.shape[2:]))

    def extra_repr(self) -> str:
        """Show the convolution's options."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, dilation={self.dilation}"


class ZeroPadding(nn.Module):
    """So many zeros before and behind each dimension of an image, the last dimension first."""

    def __init__(self, zeros: tuple[int, ...]) -> None:
        super().__init__()
        self.zeros = zeros

    def forward(self, x: Tensor) -> Tensor:
        """Pad (N, C, places...)."""
        return F.pad(x, self.zeros)

    def extra_repr(self) -> str:
        """Show the zeros."""
        return str(self.zeros)


def make_plain(model: nn.Module, names: Iterable[str], example: Tensor) -> nn.Module:
    """Replace, in place, layers that are not plain by plain ones that compute the same; return the model.

    A layer whose input is padded on its way becomes a Sequential of ``padding`` and ``layer``.

    Parameters
    ----------
    model : in eval mode.
    names : its executed layers.
    example : (N, C, H, W).

    Raises
    ------
    Refused
        With the name of a layer for which there is no plain one.
    """
    layers = {model.get_submodule(name): name for name in names}
    shapes = _not_plain(model, layers, example)
    replacements = {}
    with torch.no_grad():
        for layer, shape in shapes.items():
            plain = _plain(layer, shape, example) if shape is not None else None
            if plain is None:
                raise Refused(
                    f"{layers[layer]} ({type(layer).__name__}) computes its weight or output in a way of its own; "
                    f"expected a plain {KINDS}",
                    ReasonCode.UNSUPPORTED_OPERATION,
                )
            replacements[layer] = plain
    return replace_modules(model, replacements)


def _not_plain(model: nn.Module, layers: Iterable[nn.Module], example: Tensor) -> dict[nn.Module, torch.Size | None]:
    """Return the layers whose weight is no parameter or whose output is another, with the shape of their input."""
    suspects = {layer: computes_weight(layer) for layer in layers}
    suspects = {layer: computes for layer, computes in suspects.items() if computes or type(layer) not in WEIGHT_LAYERS}
    found: dict[nn.Module, torch.Size | None] = {}

    def compare(layer: nn.Module, args: Any, output: Any) -> None:
        if suspects[layer] or not _same(output, _plain_output(layer, args[0])):
            given = args[0] if len(args) == 1 else None
            found.setdefault(layer, given.shape if isinstance(given, Tensor) else None)

    if suspects:
        with torch.no_grad(), hooked(layer.register_forward_hook(compare) for layer in suspects):
            model(example)
    return found


def computes_weight(layer: nn.Module) -> bool:
    """Whether a layer's weight is no parameter of its own, but made of others when it is asked for."""
    return parametrize.is_parametrized(layer) or "weight" not in layer._parameters


def _plain_output(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, CONVOLUTIONS):
        convolved: Tensor = layer._conv_forward(x, layer.weight, layer.bias)
        return convolved
    assert isinstance(layer, nn.Linear)
    return F.linear(x, layer.weight, layer.bias)


def _same(a: Any, b: Tensor) -> bool:
    return isinstance(a, Tensor) and a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-6)


@dataclass(frozen=True, eq=False)
class _Product:
    """One convolution or linear map, and its result."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    options: dict[str, Any]
    result: Any


class _Products(TorchFunctionMode):
    """Keeps the convolutions and linear maps that run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Product] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in (torch.conv1d, torch.conv2d, F.linear):
            self.found.append(_Product(*product_arguments(*args, **kwargs), result))
        return result


def product_arguments(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *positional: Any, **options: Any
) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Any]]:
    """Return input, weight, bias and options by name of a call of a convolution or linear map."""
    names = ("stride", "padding", "dilation", "groups")
    return input, weight, bias, dict(zip(names, positional, strict=False)) | options


def _plain(layer: nn.Module, shape: torch.Size, like: Tensor) -> nn.Module | None:
    """Return what computes the same as a layer by a plain one, or None."""
    calls = []
    for x in _probes(layer, shape, like):
        with _Products() as products:
            output = layer(x)
        if len(products.found) != 1 or not _same(output, products.found[0].result):
            return None
        calls.append((x, output, products.found[0]))
    first = calls[0][2]
    if any(not _equal(first.weight, call.weight) or not _equal(first.bias, call.bias) for _, _, call in calls):
        return None  # made of the input
    plain = _of(first, layer)
    zeros = [_zeros_around(x, call.input) for x, _, call in calls]
    if plain is None or any(one is None for one in zeros):
        return None
    if any(any(one or ()) for one in zeros):
        plain = nn.Sequential()
        plain.add_module("padding", _padding(_of(first, layer), [x.shape[2:] for x, _, _ in calls], zeros))
        plain.add_module("layer", _of(first, layer))
    plain = plain.eval()
    return plain if all(_same(output, plain(x)) for x, output, _ in calls) else None


def _probes(layer: nn.Module, shape: torch.Size, like: Tensor) -> Iterator[Tensor]:
    """Yield noise of the shape that a layer gets, and of others if it convolves."""
    generator = torch.Generator().manual_seed(0)
    for more in _SIZES if isinstance(layer, CONVOLUTIONS) else (0,):
        places = [size + more for size in shape[2:]] if isinstance(layer, CONVOLUTIONS) else shape[2:]
        yield torch.randn(*shape[:2], *places, generator=generator).to(like)
    yield torch.randn(shape, generator=generator).to(like)


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


def _of(product: _Product, layer: nn.Module) -> nn.Module | None:
    """Return the plain layer, of the kind that a layer is, that computes a product; None if it is of another."""
    linear = isinstance(layer, nn.Linear) and product.weight.ndim == 2
    if not linear and not (isinstance(layer, CONVOLUTIONS) and product.weight.ndim == layer.weight.ndim):
        return None
    trainable = any(parameter.requires_grad for parameter in layer.parameters())
    return layer_of(product.weight, product.bias, product.options, trainable=trainable)


def layer_of(weight: Tensor, bias: Tensor | None, options: dict[str, Any], *, trainable: bool = True) -> nn.Module:
    """Return the linear layer or convolution of these tensors, copied, and of a convolution's options.

    ``weight``: (outputs, inputs), or (outputs, inputs of a group, places...) of one or two dimensions.
    """
    inputs, kernel = weight.shape[1] * options.get("groups", 1), tuple(weight.shape[2:])
    if kernel:
        kind: Any = {1: nn.Conv1d, 2: nn.Conv2d}[len(kernel)]
        plain = kind(inputs, weight.shape[0], kernel, bias=bias is not None, device="meta", **options)
    else:
        plain = nn.Linear(inputs, weight.shape[0], bias is not None, device="meta")
    plain.weight = nn.Parameter(weight.detach().clone(), requires_grad=trainable)
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach().clone(), requires_grad=trainable)
    made: nn.Module = plain
    return made


def _zeros_around(given: Tensor, taken: Tensor) -> tuple[int, ...] | None:
    """Return how many zeros make what a product takes of what its layer was given; None if they do not."""
    if given.ndim != taken.ndim or given.shape[:2] != taken.shape[:2]:
        return None
    if torch.equal(given, taken):
        return ()
    more = [longer - size for size, longer in zip(given.shape[2:], taken.shape[2:], strict=True)]
    for before in itertools.product(*(range(one + 1) for one in more)):
        zeros = tuple(n for b, one in zip(reversed(before), reversed(more), strict=True) for n in (b, one - b))
        if torch.equal(F.pad(given, zeros), taken):
            return zeros
    return None


def _padding(plain: nn.Module | None, sizes: list[torch.Size], zeros: list[tuple[int, ...] | None]) -> nn.Module:
    """Return the padding of which these zeros are, by the sizes of the images that they were put around."""
    assert isinstance(plain, CONVOLUTIONS)
    same = SamePadding(plain.kernel_size, plain.stride, plain.dilation)
    none = (0,) * (2 * len(plain.kernel_size))
    if all(same.zeros(size) == (found or none) for size, found in zip(sizes, zeros, strict=True)):
        return same
    return ZeroPadding(zeros[0] or none)
