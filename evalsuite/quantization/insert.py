"""From a network to its quantized twin: found by structure and by running it once, never by class names."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from evalsuite.errors import QuantizationWarning, Refused
from evalsuite.models.attention import MatMul
from evalsuite.quantization.attention import open_attention, replace_modules
from evalsuite.quantization.modules import QuantConv2d, QuantLinear, QuantMatMul
from evalsuite.quantization.policy import BitPolicy
from evalsuite.quantization.trace import Trace, trace
from evalsuite.structure import Structure, describe

# ATen's operations that multiply by weights or multiply activations: none may run outside a quantized module.
_PRODUCTS = frozenset(
    {
        *("convolution", "_convolution", "mkldnn_convolution", "conv1d", "conv2d", "conv3d"),
        *("mm", "bmm", "mv", "dot", "addmm", "addbmm", "baddbmm", "addmv", "_addmm_activation"),
        *("linear", "matmul", "einsum", "embedding", "embedding_bag", "_trilinear", "_cdist_forward"),
        *("lstm", "gru", "mkldnn_rnn_layer", "_thnn_fused_lstm_cell", "_cudnn_rnn"),
        *("_native_multi_head_attention", "_transformer_encoder_layer_fwd"),
        *("_scaled_dot_product_flash_attention_for_cpu",),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
        *("_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable"),
    }
)


def insert_quantizers(model: nn.Module, bits: BitPolicy, example: Tensor) -> nn.Module:
    """Return a quantized copy of a model, in eval mode, which still computes what the model does.

    Convolutions, linear layers and products of activations become quantized modules that round nothing until
    they are calibrated; each takes its bits by :meth:`BitPolicy.for_layer`. Norms stay in floating point, and
    unfolded unless ``bits.fold_norm``. A layer that ``example`` does not reach stays as it is, with a
    QuantizationWarning.

    Parameters
    ----------
    model : stays untouched.
    bits : which layer gets how many bits.
    example : (1, C, H, W) normalised image, on the model's device.

    Raises
    ------
    Refused
        For a product outside Conv2d, Linear and attention that can be opened up, with the module's name; for
        ``bits.per_token`` in a network without tokens.
    RequestError
        If the model fails on ``example``, or an override matches no layer.
    """
    twin = prepare(model, example, fold_norm=bits.fold_norm)
    structure = describe(twin, example)
    if bits.per_token and structure.architecture != "transformer":
        raise Refused("per_token: this network has no tokens; expected a transformer")
    bits.check_overrides(_quantizable(twin, structure))
    _refuse_products(twin, trace(twin, example))
    replacements: dict[nn.Module, nn.Module] = {}
    for name, module in twin.named_modules():
        own = bits.for_layer(name, _position(name, structure))
        if isinstance(module, (nn.Conv2d, nn.Linear)) and name not in structure.layers:
            warnings.warn(f"{name}: not reached, stays unquantized", QuantizationWarning, stacklevel=2)
        elif isinstance(module, nn.Conv2d):
            replacements[module] = QuantConv2d(module, own)
        elif isinstance(module, nn.Linear):
            replacements[module] = QuantLinear(module, own)
        elif type(module) is MatMul:
            replacements[module] = QuantMatMul(own.activation_bits, own.symmetric_activations).to(example.device).eval()
    return replace_modules(twin, replacements)


def check_overrides(model: nn.Module, bits: BitPolicy, example: Tensor) -> None:
    """Raise RequestError for an override that matches no layer of a model which :func:`insert_quantizers` would see."""
    if bits.overrides:
        twin = prepare(model, example, fold_norm=bits.fold_norm)
        bits.check_overrides(_quantizable(twin, describe(twin, example)))


def _quantizable(model: nn.Module, structure: Structure) -> list[str]:
    """Name the layers and the products of activations."""
    return [*structure.layers, *(name for name, module in model.named_modules() if type(module) is MatMul)]


def _position(name: str, structure: Structure) -> Literal["first", "inner", "last"]:
    if name == structure.head:  # of a network of one layer as well
        return "last"
    return "first" if name == structure.stem else "inner"


def prepare(model: nn.Module, example: Tensor, *, fold_norm: bool) -> nn.Module:
    """Return a copy in eval mode whose attention is opened up and, if asked for, whose norms are folded."""
    layers = describe(model, example).layers
    twin = copy.deepcopy(model).eval()
    _refuse_altered({name: twin.get_submodule(name) for name in layers}, twin, example)
    open_attention(twin, example)
    return fold_norms(twin, example) if fold_norm else twin


@torch.no_grad()
def fold_norms(model: nn.Module, example: Tensor) -> nn.Module:
    """Fold each BatchNorm into the convolution whose output it alone reads, in place; an Identity remains.

    Returns the model. A norm that normalises with the batch's own statistics, or follows something else than a
    convolution, stays.

    Raises
    ------
    Refused
        For a norm with a forward of its own (for example a fused activation), with its name.
    """
    modules = dict(model.named_modules())
    replacements: dict[nn.Module, nn.Module] = {}
    found = trace(model, example)
    for name, layer in modules.items():
        norm = norm_after(modules, found, name) if isinstance(layer, nn.Conv2d) else None
        if norm is None:
            continue
        bn = modules[norm]
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(bn, _BatchNorm)
        if type(bn).forward is not _BatchNorm.forward:
            raise Refused(f"{norm} ({type(bn).__name__}) does more than normalise; fold_norm expects plain BatchNorm")
        scale, shift = norm_as_affine(bn)
        bias = shift if layer.bias is None else shift + scale * layer.bias
        layer.weight = nn.Parameter(layer.weight * scale.reshape(-1, 1, 1, 1))
        layer.bias = nn.Parameter(bias)
        replacements[bn] = nn.Identity().eval()
    return replace_modules(model, replacements)


def norm_as_affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return scale and shift per channel, (C,) each, by which BatchNorm in eval mode maps its input."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()


def norm_after(modules: dict[str, nn.Module], found: Trace, layer: str) -> str | None:
    """Return the BatchNorm that alone reads a layer's output and has statistics of its own, or None.

    Both must run exactly once.
    """
    reader = found.only_reader(found.outputs[layer]) if found.calls.get(layer) == 1 else None
    if reader is None or "batch_norm" not in reader.name or found.calls[reader.module] != 1:
        return None
    norm = modules[reader.module]
    return reader.module if isinstance(norm, _BatchNorm) and norm.running_var is not None else None


def _refuse_altered(layers: Mapping[str, nn.Module], model: nn.Module, example: Tensor) -> None:
    """Refuse layers whose weight is computed, or whose output is not that of the plain layer."""
    names = {layer: name for name, layer in layers.items()}

    def refuse(layer: nn.Module) -> None:
        raise Refused(
            f"{names[layer]} ({type(layer).__name__}) computes its weight or output in a way of its own; "
            "expected a plain Conv2d or Linear"
        )

    def compare(layer: nn.Module, args: Any, output: Tensor) -> None:
        expected = _plain_output(layer, args[0])
        if output.shape != expected.shape or not torch.allclose(output, expected, rtol=1e-4, atol=1e-6):
            refuse(layer)

    handles = []
    for layer in names:
        if parametrize.is_parametrized(layer) or "weight" not in layer._parameters:
            refuse(layer)
        if type(layer) not in (nn.Conv2d, nn.Linear):
            handles.append(layer.register_forward_hook(compare))
    try:
        if handles:
            with torch.no_grad():
                model(example)
    finally:
        for handle in handles:
            handle.remove()


def _plain_output(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        convolved: Tensor = nn.Conv2d._conv_forward(layer, x, layer.weight, layer.bias)
        return convolved
    assert isinstance(layer, nn.Linear)
    return F.linear(x, layer.weight, layer.bias)


def _refuse_products(model: nn.Module, found: Trace) -> None:
    modules = dict(model.named_modules())
    for operation in found.operations:
        module = modules[operation.module]
        quantizable = isinstance(module, (nn.Conv2d, nn.Linear)) or type(module) is MatMul
        if operation.name in _PRODUCTS and not quantizable:
            raise Refused(
                f"{operation.module or 'the model itself'} ({type(module).__name__}) computes {operation.name}, which "
                "cannot be quantized there; expected Conv2d, Linear, MatMul or plain self-attention"
            )
