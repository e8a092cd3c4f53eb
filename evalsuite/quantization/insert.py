"""From a network to its quantized twin: found by structure and by running it once, never by class names."""

from __future__ import annotations

import copy
import warnings
from typing import Literal

from torch import Tensor, nn

from evalsuite.bits import BitPolicy
from evalsuite.errors import QuantizationWarning, ReasonCode, Refused, RequestError
from evalsuite.models.attention import MatMul
from evalsuite.networks import released
from evalsuite.quantization.graph.attention import open_attention
from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.graph.norms import fold_norms
from evalsuite.quantization.graph.plain_layers import make_plain
from evalsuite.quantization.graph.products import PRODUCTS
from evalsuite.quantization.graph.trace import Trace, trace
from evalsuite.quantization.graph.transposed import turn_transposed
from evalsuite.quantization.grids.layers import QuantMatMul, quantized_layer
from evalsuite.structure import Structure, describe
from evalsuite.weight_layers import KINDS, WEIGHT_LAYERS


def insert_quantizers(model: nn.Module, bits: BitPolicy, example: Tensor, *, formats: bool = False) -> nn.Module:
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
    formats : whether the method can round to number formats too; one that cannot works with integers of its layers.

    Raises
    ------
    Refused
        For a product outside convolutions, linear layers and attention that can be opened up, with the module's name;
        for ``bits.per_token`` in a network without tokens; for number formats without ``formats``.
    RequestError
        If the model fails on ``example``, an override matches no layer, or all layers are to stay unquantized.
    """
    if bits.has_formats and not formats:
        raise Refused(f"{bits}: this method rounds to integers; expected bits such as W4A8")
    twin = prepare(model, example, fold_norm=bits.fold_norm)
    structure = describe(twin, example)
    if bits.per_token and structure.architecture != "transformer":
        raise Refused("per_token: this network has no tokens; expected a transformer")
    bits.check_overrides(_quantizable(twin, structure))
    _refuse_products(twin, trace(twin, example))
    replacements: dict[nn.Module, nn.Module] = {}
    for name, module in twin.named_modules():
        if bits.stays_float(name):
            continue
        layer_bits = bits.for_layer(name, _position(name, structure))
        if isinstance(module, WEIGHT_LAYERS) and name not in structure.layers:
            warnings.warn(f"{name}: not reached, stays unquantized", QuantizationWarning, stacklevel=2)
        elif isinstance(module, WEIGHT_LAYERS):
            replacements[module] = quantized_layer(module, layer_bits)
        elif type(module) is MatMul:
            given = layer_bits.activation_bits, layer_bits.symmetric_activations, layer_bits.activation_format
            product = QuantMatMul(*given)
            replacements[module] = product.to(example.device).eval()
    if bits.overrides and not replacements:
        raise RequestError("overrides leave no layer quantized: expected one at least")
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
    """Return a copy in eval mode of plain layers, with attention opened up and, if asked for, norms folded."""
    twin = turn_transposed(copy.deepcopy(model, released(model)).eval(), example)
    twin = make_plain(twin, describe(twin, example).layers, example)
    open_attention(twin, example)
    return fold_norms(twin, example) if fold_norm else twin


def _refuse_products(model: nn.Module, found: Trace) -> None:
    modules = dict(model.named_modules())
    for operation in found.operations:
        module = modules[operation.module]
        quantizable = isinstance(module, WEIGHT_LAYERS) or type(module) is MatMul
        if operation.name in PRODUCTS and not quantizable:
            raise Refused(
                f"{operation.module or 'the model itself'} ({type(module).__name__}) computes {operation.name}, which "
                f"cannot be quantized there; expected {KINDS}, MatMul or plain self-attention",
                ReasonCode.UNSUPPORTED_OPERATION,
            )
