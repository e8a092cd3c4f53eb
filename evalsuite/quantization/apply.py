"""Quantizing a network in one call, and looking at what it cost each layer."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import unknown_name
from evalsuite.plugins import Quantizer
from evalsuite.quantization.calibration import batches, check_images
from evalsuite.quantization.insert import prepare
from evalsuite.quantization.modules import quantized_layers
from evalsuite.quantization.policy import BitPolicy
from evalsuite.randomness import torch_generator
from evalsuite.registry import configure, option_names, validation_error


def quantize(
    model: nn.Module,
    images: Tensor,
    *,
    method: str = "brecq",
    weight_bits: int = 4,
    activation_bits: int = 4,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Return a quantized copy of a network, in eval mode; the network itself stays untouched.

    Parameters
    ----------
    model : any vision classifier; its blocks are found by structure.
    images : (N, C, H, W) normalised calibration images, on the model's device.
    method : a PTQ method by name, ``package.module:Class`` or ``path.py:Class``.
    weight_bits, activation_bits : 2..8.
    seed : of every random draw.
    options : further fields of :class:`evalsuite.quantization.policy.BitPolicy`, and the method's own options.

    Raises
    ------
    RequestError
        For an unknown method or option, an impossible value, or images that are not finite.
    Refused
        If the network holds an operation that cannot be quantized, with the module's name.
    """
    check_images(images)
    policy_fields = [field.name for field in dataclasses.fields(BitPolicy)]
    method_options = option_names("quantizers", method)
    for name in options:
        if name not in (*policy_fields, *method_options):
            raise unknown_name(f"option of quantize with {method!r}", name, (*policy_fields, *method_options))
    bits = _policy(
        {"weight_bits": weight_bits, "activation_bits": activation_bits}
        | {name: value for name, value in options.items() if name in policy_fields}
    )
    own = {name: value for name, value in options.items() if name not in policy_fields}
    quantizer: Quantizer = configure("quantizers", method, own).build()
    quantized = quantizer.insert(model, bits, images[:1])
    quantizer.calibrate(quantized, images, torch_generator(seed, "quantize", method))
    return quantized.eval()


def _policy(fields: dict[str, Any]) -> BitPolicy:
    try:
        return TypeAdapter(BitPolicy).validate_python(fields)
    except ValidationError as error:
        raise validation_error("bits", error) from error


@torch.no_grad()
def layer_report(model: nn.Module, quantized: nn.Module, images: Tensor) -> pd.DataFrame:
    """Compare each layer's output in the quantized network with the same layer's in full precision.

    Parameters
    ----------
    model : the network that ``quantized`` was made from.
    images : (N, C, H, W) normalised.

    Returns
    -------
    DataFrame
        A row per quantized layer in order of execution: ``layer``, ``weight_bits``, ``activation_bits``,
        ``snr_db`` (ratio of the output's mean square to that of its error, decibels; higher is better).
    """
    check_images(images)
    layers = quantized_layers(quantized)
    reference = prepare(model, images[:1], fold_norm=_is_folded(model, quantized))
    signal = dict.fromkeys(layers, 0.0)
    noise = dict.fromkeys(layers, 0.0)
    order: dict[str, None] = {}
    for batch in batches(images, 16):
        expected = _outputs(reference, list(layers), batch)
        for name, output in _outputs(quantized, list(layers), batch).items():
            order[name] = None
            signal[name] += float(expected[name].double().square().sum())
            noise[name] += float((output - expected[name]).double().square().sum())
    rows = [
        {
            "layer": name,
            "weight_bits": layers[name].weight_bits,
            "activation_bits": layers[name].input_quantizer.bits,
            "snr_db": _decibels(signal[name], noise[name]),
        }
        for name in order
    ]
    return pd.DataFrame(rows, columns=["layer", "weight_bits", "activation_bits", "snr_db"])


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _is_folded(model: nn.Module, quantized: nn.Module) -> bool:
    kept = dict(quantized.named_modules())
    return any(
        isinstance(module, _BatchNorm) and isinstance(kept.get(name), nn.Identity)
        for name, module in model.named_modules()
    )


def _outputs(model: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        # A copy, because an activation may overwrite it.
        return lambda module, args, output: found.setdefault(name, output.clone())

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return found
