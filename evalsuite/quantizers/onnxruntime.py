"""ONNX Runtime as an integer engine: what a deployed W8A8 network computes, and what it costs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.bits import BitPolicy
from evalsuite.errors import Refused, RequestError
from evalsuite.execution import tensors_in
from evalsuite.exporting.floating import onnx_of
from evalsuite.quantization.graph.norms import fold_norms
from evalsuite.quantization.grids.range_setting import batches, check_images
from evalsuite.quantizers._onnx_engine import ENGINE, EngineNetwork, first_line, packages, quantized_graph


@dataclass(frozen=True)
class ONNXRuntime:
    """ONNX Runtime's static W8A8 quantization, run on its integer kernels (CPU).

    Min-max ranges; activations uint8 per tensor, weights int8 symmetric, per output channel if the policy says so;
    QDQ format, every operation that ONNX Runtime quantizes by default but norms. Sums and activation functions
    between layers are rounded as well, which a simulation of layers alone does not do; logits are not. BatchNorm is
    folded.

    Parameters
    ----------
    reduce_range : whether weights take 7 bits, for deployment where sums of 8-bit products saturate (x86 without VNNI
        by ONNX Runtime's defaults; here they do not); not, as ONNX Runtime's default.
    """

    reduce_range: bool = False

    engine: ClassVar[str] = ENGINE

    def insert(self, model: nn.Module, bits: BitPolicy, example: Tensor) -> EngineNetwork:
        """Return a copy in eval mode that still computes in floating point.

        Raises
        ------
        Refused
            For a policy other than W8A8 with symmetric weights, asymmetric activations and folded norms.
        RequestError
            If the packages of the extra ``onnx`` are not installed.
        """
        packages()
        _refuse_policy(bits, has_norms=any(isinstance(module, _BatchNorm) for module in model.modules()))
        return EngineNetwork(fold_norms(copy.deepcopy(model).eval(), example), bits.per_channel).eval()

    def calibrate(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> None:
        """Quantize on (N, C, H, W) normalised images, in place.

        Raises
        ------
        RequestError
            For weights that are not finite, with their name.
        Refused
            If the network cannot be exported to ONNX or not be quantized, with the reason: torch's, ONNX Runtime's,
            or the module at which NaN or infinity comes up.
        """
        check_images(images)
        assert isinstance(model, EngineNetwork)
        images, source = images.cpu(), model.source().cpu()
        _check_weights(source)
        exported = onnx_of(source, images[:1])
        try:
            model.take(quantized_graph(exported, images, model.per_channel, self.reduce_range))
        except Exception as error:  # most of its checks are bare assertions
            reason = _where_not_finite(source, images) or f"ONNX Runtime cannot quantize it: {first_line(error)}"
            raise Refused(reason) from error


def _refuse_policy(bits: BitPolicy, has_norms: bool) -> None:
    if bits.has_formats:
        raise Refused(f"{bits}: this method rounds to integers; expected bits such as W8A8")
    plain = BitPolicy(8, 8, 8, per_channel=bits.per_channel, symmetric=True, fold_norm=bits.fold_norm)
    wanted = {**plain.as_dict(), "fold_norm": has_norms or bits.fold_norm}
    different = [name for name, value in bits.as_dict().items() if value != wanted[name]]
    if different:
        names = ", ".join(f"{name} = {_toml(wanted[name])}" for name in different)
        raise Refused(f"onnxruntime runs W8A8 with symmetric weights and folded norms; expected {names}")


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "unset" if value in (None, {}) else str(value)


def _check_weights(model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise RequestError(f"{name} holds NaN or infinity: expected finite values")


@torch.no_grad()
def _where_not_finite(model: nn.Module, images: Tensor) -> str | None:
    """Say at which module NaN or infinity comes up first for any of the images, or return None."""
    found: list[str] = []

    def look(values: Any, where: str) -> None:
        leaves = tensors_in(values)
        if not all(bool(leaf.isfinite().all()) for leaf in leaves):
            found.append(f"{where} for some calibration images: expected finite values")

    for name, module in model.named_modules():
        title = name or type(model).__name__
        module.register_forward_pre_hook(lambda _, args, title=title: look(args, f"NaN or infinity reaches {title}"))
        module.register_forward_hook(lambda _, __, out, title=title: look(out, f"{title} gives NaN or infinity"))
    for batch in batches(images):
        model(batch)
    return found[0] if found else None
