"""Opening up any module: products that its forward computes itself are routed through modules, in order of call.

Relative position biases, shifted windows, norms on queries and keys, rotary positions, masks: what an attention
does between its products stays its own code, and only the products change hands. A product of tokens by a matrix of
parameters is what a linear layer computes, and becomes one; so does a convolution by a module's own kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from evalsuite.errors import Refused
from evalsuite.execution import hooked
from evalsuite.models.attention import MatMul
from evalsuite.quantization.graph.einsum import by_product, is_product
from evalsuite.quantization.graph.plain_layers import layer_of, product_arguments
from evalsuite.quantization.graph.products import MATMULS, ROUTABLE
from evalsuite.quantization.graph.trace import Trace, trace
from evalsuite.weight_layers import WEIGHT_LAYERS

_TOLERANCE = 1e-4  # of the largest output: far above rounding, far below a missing bias or mask
_NAME = "products"
_CONVOLUTIONS = (torch.conv1d, torch.conv2d)
_Options = dict[str, Any]
_OPENED = ROUTABLE | {"convolution"}


class _CannotRouteError(RuntimeError):
    """A product that no module can stand for."""


class _ByWeight(nn.Module):
    """A product by a matrix of parameters, (..., n, m) and (m, p) or (n, m) and (..., m, p), computed by ``layer``.

    Parameters
    ----------
    weight : the matrix; its values are the layer's own from here on.
    first : whether it is the first of the two.
    """

    def __init__(self, weight: Tensor, first: bool) -> None:
        super().__init__()
        rows = weight if first else weight.mT
        self.layer = layer_of(rows, None, {})
        self.first = first

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply; the argument that is the matrix is not read."""
        out: Tensor = self.layer(b.mT).mT if self.first else self.layer(a)
        return out


class Routed:
    """The forward of a module whose own products run in modules: in ``products``, and in its linear layers.

    Parameters
    ----------
    module : keeps its class, parameters and submodules; ``products`` becomes one of them.
    unused : names of its linear layers whose weights it reads without calling them.
    """

    def __init__(self, module: nn.Module, unused: tuple[str, ...]) -> None:
        self.module = module
        self.unused = unused
        self.products = nn.ModuleList()
        self.growing = True
        self.useful = False
        self.biases: dict[nn.Linear, nn.Parameter | None] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        with _Router(self):
            return type(self.module).forward(self.module, *args, **kwargs)

    def install(self) -> None:
        """Make this the module's forward, with the products seen so far."""
        self.growing = False
        self.module.add_module(_NAME, self.products)
        self.module.__dict__["forward"] = self

    def abandon(self) -> None:
        """Undo what looking at the module has changed."""
        for linear, bias in self.biases.items():
            linear.register_parameter("bias", bias)

    def product(self, index: int, a: Tensor, b: Tensor) -> Tensor:
        """Run product ``index`` of a call."""
        out: Tensor = self._at(index, lambda: self._module_for(a, b))(a, b)
        return out

    def convolution(self, index: int, x: Tensor, kernel: Tensor, bias: Tensor | None, options: _Options) -> Tensor:
        """Run product ``index`` of a call, a convolution by a kernel of the module's own."""
        out: Tensor = self._at(index, lambda: layer_of(kernel, bias, options))(x)
        return out

    def owns(self, tensor: Tensor | None) -> bool:
        """Whether a tensor is none, or the module's own: not that of a layer in it."""
        held = (*self.module._parameters.values(), *self.module._buffers.values())
        return tensor is None or tensor.untyped_storage().data_ptr() in _storages(held)

    def _at(self, index: int, make: Callable[[], nn.Module]) -> nn.Module:
        if self.growing and index == len(self.products):
            self.products.append(make().eval())
            self.useful = True
        products = self.products if self.growing else self.module.get_submodule(_NAME)
        assert isinstance(products, nn.ModuleList)
        if index >= len(products):
            raise Refused(f"{type(self.module).__name__} was opened up with {len(products)} products; expected no more")
        return products[index]

    def _module_for(self, a: Tensor, b: Tensor) -> nn.Module:
        owned = _storages(self.module.parameters())
        first, second = (each.untyped_storage().data_ptr() in owned for each in (a, b))
        if not first and not second:
            return MatMul()
        if (first and second) or (a if first else b).ndim != 2:
            raise _CannotRouteError
        return _ByWeight(a if first else b, first)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Run the unused linear layer that has this weight; None if there is none."""
        for name in self.unused:
            layer = self.module.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            if layer.weight is weight:
                if self.growing and bias is not layer.bias and layer not in self.biases:
                    # Computed from parameters (no bias for the keys, say): from here on it is the layer's.
                    self.biases[layer] = layer.bias
                    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach().clone()))
                self.useful = True
                out: Tensor = layer(x)
                return out
        return None


class _Router(TorchFunctionMode):
    """Sends one call's products to their modules; inactive inside of them."""

    def __init__(self, routed: Routed) -> None:
        super().__init__()
        self.routed = routed
        self.done = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in MATMULS and not kwargs:
            return self._product(*args)
        if func is torch.einsum and len(args) == 3 and not kwargs and is_product(*args):
            return by_product(self._product, *args)
        if func in _CONVOLUTIONS:
            x, weight, bias, options = product_arguments(*args, **kwargs)
            if self.routed.owns(weight) and self.routed.owns(bias):
                self.done += 1
                return self.routed.convolution(self.done - 1, x, weight, bias, options)
        if func is F.scaled_dot_product_attention:
            return _attend(self._product, *args, **kwargs)
        if func is F.linear:
            out = self.routed.linear(*_linear_arguments(*args, **kwargs))
            return func(*args, **kwargs) if out is None else out
        return func(*args, **kwargs)

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        self.done += 1
        return self.routed.product(self.done - 1, a, b)


def _storages(tensors: Iterable[Tensor | None]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor is not None}


def _linear_arguments(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Any, Any, Any]:
    return input, weight, bias


def _attend(
    product: Callable[[Tensor, Tensor], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute ``F.scaled_dot_product_attention`` by two products, without dropout."""
    if enable_gqa:
        raise _CannotRouteError
    scores = product(query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale), key.transpose(-2, -1))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return product(scores.softmax(dim=-1), value)


def route_products(model: nn.Module, example: Tensor) -> None:
    """Route, in place, the products that modules compute themselves, where model and example allow it.

    Each candidate is compared with its routed self on what it gets when the model sees ``example`` (N, C, H, W), and
    again on the negative of it; where the outputs differ it is left alone. So is a module that multiplies by
    several matrices of parameters at once, or that holds a product that is a module already. Of a module in another
    that both compute products the outer one gets them all.
    """
    candidates = _candidates(model, trace(model, example))
    same: dict[nn.Module, bool] = {}

    def compare(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        same[module] = same.get(module, True) and same_result(candidates[module], args, kwargs, output)

    handles = (module.register_forward_hook(compare, with_kwargs=True) for module in candidates)
    with torch.no_grad(), hooked(handles):
        model(example)
        model(-example)
    for module, routed in candidates.items():
        if same.get(module, False) and routed.useful:
            routed.install()
        else:
            routed.abandon()


def _candidates(model: nn.Module, found: Trace) -> dict[nn.Module, Routed]:
    modules = dict(model.named_modules())
    exempt = (*WEIGHT_LAYERS, MatMul)
    direct = {operation.module for operation in found.operations if operation.name in _OPENED}
    direct = {name for name in direct if not isinstance(modules[name], exempt) and not hasattr(modules[name], _NAME)}
    opened = {name for name, module in modules.items() if isinstance(module, MatMul)}
    candidates = {}
    for name in direct:
        prefix = f"{name}." if name else ""
        within = any(_inside(name, other) for other in direct)  # the products of both are then the outer one's
        if within or any(other.startswith(prefix) for other in opened):
            continue
        unused = tuple(
            inner.removeprefix(prefix)
            for inner, module in modules.items()
            if inner.startswith(prefix) and isinstance(module, nn.Linear) and not found.calls.get(inner)
        )
        candidates[modules[name]] = Routed(modules[name], unused)
    return candidates


def _inside(name: str, other: str) -> bool:
    return name != other and (not other or name.startswith(f"{other}."))


def same_result(replacement: Callable[..., Any], args: Any, kwargs: Any, expected: Any) -> bool:
    """Whether a replacement returns what was expected, but for rounding; False if it cannot be called so."""
    try:
        leaves, form = tree_flatten(replacement(*args, **kwargs))
    except (Refused, TypeError, ValueError, RuntimeError):
        return False
    expected_leaves, expected_form = tree_flatten(expected)
    return form == expected_form and all(map(_close, leaves, expected_leaves))


def _close(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a is b
    return a.shape == b.shape and bool((a - b).abs().max() <= _TOLERANCE * b.abs().max())
