"""Norms of a quantized network tuned to the regime in which hosts of test-time adaptation run them (*ours*)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import Refused
from evalsuite.quantizers._perturbations import perturb
from evalsuite.structure import NORM_LAYERS

_RATE, _BATCH = 1e-3, 64


def tune_norms(
    model: nn.Module, reference: nn.Module, images: Tensor, steps: int, strength: float, generator: torch.Generator
) -> None:
    """Descend KL(reference's prediction for an image, model's for the same image perturbed) by the norms alone.

    Adam with rate 1e-3 on weights and biases of all norms, batches of 64; BatchNorm normalises by its batch, as the
    hosts have it, and keeps its running statistics. This reading of the abstract (arXiv 2412.09899) is this project's.

    Parameters
    ----------
    model : calibrated; changed in place.
    reference : the same network in full precision.
    images : (N, C, H, W) normalised.
    strength : of the perturbations, see :func:`evalsuite.quantizers._perturbations.perturb`.

    Raises
    ------
    Refused
        If no norm has affine parameters.
    """
    parameters = _affine(model)
    if not parameters:
        raise Refused("norm_steps needs norm layers with affine parameters; this model has none (or folded ones)")
    size = min(_BATCH, len(images))
    with torch.enable_grad(), _by_batch(model, parameters):
        optimizer = torch.optim.Adam(parameters, lr=_RATE)
        for _ in range(steps):
            chosen = images[torch.randperm(len(images), generator=generator)[:size].to(images.device)]
            changed = perturb(chosen, strength, generator)
            with torch.no_grad():
                wanted = reference(chosen).log_softmax(dim=1)
            found = model(changed).log_softmax(dim=1)
            loss = F.kl_div(found, wanted, log_target=True, reduction="batchmean")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _affine(model: nn.Module) -> list[nn.Parameter]:
    norms = [module for module in model.modules() if isinstance(module, NORM_LAYERS)]
    found = [getattr(norm, name, None) for norm in norms for name in ("weight", "bias")]
    return [parameter for parameter in found if isinstance(parameter, nn.Parameter)]


@contextlib.contextmanager
def _by_batch(model: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Let BatchNorm see its batch and these parameters alone be free; put all else back."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    modes = [norm.training for norm in norms]
    free = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    own = set(map(id, parameters))
    try:
        for parameter, _ in free:
            parameter.requires_grad_(id(parameter) in own)
        for norm in norms:
            norm.track_running_stats = False  # running statistics are neither read nor written
            norm.train()
        yield
    finally:
        for norm, track, mode in zip(norms, tracked, modes, strict=True):
            norm.track_running_stats = track
            norm.train(mode)
        for parameter, before in free:
            parameter.requires_grad_(before)
