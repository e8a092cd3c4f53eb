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

from evalsuite.arguments import image_tensor
from evalsuite.errors import unknown_name
from evalsuite.networks import floating_type, narrowed, outside_inference, plain
from evalsuite.plugins import Quantizer
from evalsuite.quantization.calibration import batches, check_images
from evalsuite.quantization.capture import first_calls
from evalsuite.quantization.insert import prepare
from evalsuite.quantization.modules import quantized_layers
from evalsuite.quantization.plain_state import lost_attributes, plain_attributes
from evalsuite.quantization.policy import BitPolicy
from evalsuite.quantization.saving import mark, recipe_of
from evalsuite.randomness import torch_generator
from evalsuite.registry import Setting, configure, named, option_names, validation_error


def quantize(
    model: nn.Module,
    images: Tensor,
    *,
    method: str | type | Quantizer = "brecq",
    weight_bits: int = 4,
    activation_bits: int = 4,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Return a quantized copy of a network, in eval mode; the network itself stays untouched.

    Parameters
    ----------
    model : any vision classifier; its blocks are found by structure. One in half precision is quantized in float32, and
        the result gets its precision, except for the scales of grids.
    images : (N, C, H, W) normalised calibration images, on the model's device; an array or a list of images will do.
    method : a PTQ method by name, ``package.module:Class`` or ``path.py:Class``; or its class, if that can be imported,
        or an instance.
    weight_bits, activation_bits : 2..8.
    seed : of every random draw.
    options : further fields of :class:`evalsuite.quantization.policy.BitPolicy`, and the method's own options; these
        are not taken beside an instance.

    Raises
    ------
    RequestError
        For an unknown method or option, an impossible value, or images that are not finite.
    Refused
        If the network holds an operation that cannot be quantized, with the module's name.
    """
    with outside_inference():
        network = plain(model)
        images = image_tensor(images, "calibration images", *floating_type(network))
        check_images(images)
        bits, setting, name = _request(
            method, {"weight_bits": weight_bits, "activation_bits": activation_bits} | options
        )
        quantizer: Quantizer = setting.build()
        quantized = quantizer.insert(network, bits, images[:1])
        before = plain_attributes(quantized)
        quantizer.calibrate(quantized, images, torch_generator(seed, "quantize", name))
        quantized.eval()
        mark(quantized, recipe_of(setting.name, setting.values(), bits), lost_attributes(quantized, before, images[:1]))
        return narrowed(quantized, model)


def _request(method: Any, options: dict[str, Any]) -> tuple[BitPolicy, Setting, str]:
    """Return the bits, the method with its options, and the method's name."""
    policy_fields = [field.name for field in dataclasses.fields(BitPolicy)]
    mine = {name: value for name, value in options.items() if name in policy_fields}
    name, own = named("quantizers", method, {key: value for key, value in options.items() if key not in mine})
    method_options = option_names("quantizers", name)
    for option in own:
        if option not in method_options:
            raise unknown_name(f"option of quantize with {name!r}", option, (*policy_fields, *method_options))
    return _policy(mine), configure("quantizers", name, own), name


def _policy(fields: dict[str, Any]) -> BitPolicy:
    try:
        return TypeAdapter(BitPolicy).validate_python(fields)
    except ValidationError as error:
        raise validation_error("bits", error) from error


COLUMNS = ("layer", "weight_bits", "activation_bits", "weight_snr_db", "activation_snr_db", "snr_db")


@torch.no_grad()
def layer_report(model: nn.Module, quantized: nn.Module, images: Tensor) -> pd.DataFrame:
    """Say what quantization costs each layer of a network, in signal-to-noise ratios; higher is better.

    A ratio is the mean square of a signal over that of its error, in decibels: infinite without error, minus
    infinite for an error without a signal.

    Parameters
    ----------
    model : the network that ``quantized`` was made from; of an equalised one, what
        :func:`evalsuite.quantization.equalisation.equalise` makes of it.
    images : (N, C, H, W) normalised.

    Returns
    -------
    DataFrame
        A row per quantized layer in order of execution: ``layer``, ``weight_bits``, ``activation_bits``;
        ``weight_snr_db``, of its weight against the weight before; ``activation_snr_db``, of its input against the
        input before rounding, in the quantized network; ``snr_db``, of its output against the same layer's in
        full precision, which holds the errors of the layers before it too.
    """
    check_images(images)
    layers = quantized_layers(quantized)
    reference = prepare(model, images[:1], fold_norm=_is_folded(model, quantized))
    activations = {name: _Ratio() for name in layers}
    outputs = {name: _Ratio() for name in layers}
    order: dict[str, None] = {}
    for batch in batches(images, 16):
        expected = first_calls(reference, list(layers), batch)
        actual = first_calls(quantized, [*layers, *(f"{name}.input_quantizer" for name in layers)], batch)
        for name in expected:
            outputs[name].add(expected[name][1], actual[name][1])
            activations[name].add(*actual[f"{name}.input_quantizer"])
            order[name] = None
    rows = []
    for name in order:
        weight = reference.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        bits = (layers[name].weight_bits, layers[name].input_quantizer.bits)
        ratios = (activations[name].decibels(), outputs[name].decibels())
        rows.append((name, *bits, signal_to_noise(weight, layers[name].weight), *ratios))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def signal_to_noise(exact: Tensor, actual: Tensor) -> float:
    """Return the ratio of the mean square of a tensor to that of another's difference from it, in decibels."""
    ratio = _Ratio()
    ratio.add(exact, actual)
    return ratio.decibels()


class _Ratio:
    """Signal and noise, added up."""

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0

    def add(self, exact: Tensor, actual: Tensor) -> None:
        self.signal += float(exact.double().square().sum())
        self.noise += float((actual - exact).double().square().sum())

    def decibels(self) -> float:
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf


def _is_folded(model: nn.Module, quantized: nn.Module) -> bool:
    kept = dict(quantized.named_modules())
    return any(
        isinstance(module, _BatchNorm) and isinstance(kept.get(name), nn.Identity)
        for name, module in model.named_modules()
    )
