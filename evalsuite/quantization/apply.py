"""Quantizing a network in one call, and looking at what it cost each layer."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from evalsuite.arguments import image_tensor
from evalsuite.bits import BitPolicy, bits_fields
from evalsuite.errors import RequestError, unknown_name
from evalsuite.networks import floating_type, narrowed, outside_inference, plain
from evalsuite.plugins import Quantizer
from evalsuite.quantization.grids.range_setting import check_images
from evalsuite.quantization.plain_state import lost_attributes, plain_attributes
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
    options : further fields of :class:`evalsuite.bits.BitPolicy`, and the method's own options; these
        are not taken beside an instance. ``bits`` says both widths at once, as a study does: ``W4A8``, or a number
        format such as ``FP8`` or ``MXFP4``.

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
    bits = options.get("bits")
    if bits is not None:
        given = {"weight_format", "activation_format"} & set(options)
        if given:
            raise RequestError(f"bits = {bits!r} beside {min(given)}: give either bits or weight_format")
        options = {key: value for key, value in options.items() if key != "bits"} | bits_fields(str(bits))
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
