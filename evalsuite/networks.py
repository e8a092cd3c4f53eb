"""Networks as they are handed in, made such that everything here can work with them."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import RequestError
from evalsuite.execution import tensors_in

HALF = (torch.float16, torch.bfloat16)


def outside_inference() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which tensors can be learnt on, which does nothing outside of ``torch.inference_mode``."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else contextlib.nullcontext()


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a private copy of a network that can be learnt on.

    Tensors that remember how they were computed (what ``weight_norm`` leaves after use) become plain ones, as do those
    made in inference mode; half precision becomes float32, in which moments, optimisers and ranges are sound;
    SyncBatchNorm becomes BatchNorm, for there is one process only.

    Raises
    ------
    RequestError
        If it is no network.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"the model is a {type(model).__name__}: expected a torch.nn.Module")
    with outside_inference():
        twin = copy.deepcopy(model, released(model))
        for module in twin.modules():
            if type(module) is nn.SyncBatchNorm:
                module.__class__ = _LocalBatchNorm  # type: ignore[assignment]
        return twin.float() if half_precision(twin) else twin


def released(model: nn.Module) -> dict[int, Any]:
    """Return the memo by which a deep copy takes plain tensors for those that remember how they were computed."""
    return {id(tensor): tensor.detach().clone() for tensor in _attributes(model) if _bound(tensor)}


def plain(model: nn.Module) -> nn.Module:
    """Return a network as it is if :func:`plain_copy` would change nothing, else such a copy."""
    changes = (
        not isinstance(model, nn.Module)
        or half_precision(model) is not None
        or any(type(module) is nn.SyncBatchNorm for module in model.modules())
        or any(_bound(tensor) for tensor in _attributes(model))
        or any(tensor.is_inference() for tensor in _tensors(model).values())
    )
    return plain_copy(model) if changes else model


class _LocalBatchNorm(_BatchNorm):
    """BatchNorm of inputs of any rank."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _attributes(model: nn.Module) -> list[Tensor]:
    """Return all tensors that modules hold outside of their parameters and buffers."""
    skipped = ("_parameters", "_buffers", "_modules")
    values = [value for module in model.modules() for name, value in vars(module).items() if name not in skipped]
    return tensors_in(values)


def _bound(tensor: Tensor) -> bool:
    return not tensor.is_leaf or tensor.is_inference()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def half_precision(model: nn.Module) -> torch.dtype | None:
    """Return float16 or bfloat16, whichever any parameter or buffer has; else None."""
    return next((tensor.dtype for tensor in _tensors(model).values() if tensor.dtype in HALF), None)


def floating_type(model: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Return floating-point type and device of a network's first parameter or buffer, or the defaults without one."""
    tensors = (tensor for tensor in _tensors(model).values() if tensor.is_floating_point())
    first = next(tensors, torch.empty(0))
    return first.dtype, first.device


def narrowed(quantized: nn.Module, like: nn.Module) -> nn.Module:
    """Give a network, in place, the floating-point types of the half-precision one that it was made from; return it.

    What the other has no name for takes half precision if it is a parameter, and stays as it is if it is a buffer:
    the scales of grids.
    """
    half = half_precision(like)
    if half is None:
        return quantized
    wanted = {name: tensor.dtype for name, tensor in _tensors(like).items() if tensor.is_floating_point()}
    parameters = dict(quantized.named_parameters())
    for name, tensor in _tensors(quantized).items():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(wanted.get(name, half if name in parameters else tensor.dtype))
    return quantized
