"""A quantized network tuned to the regime in which hosts of test-time adaptation run it (*ours*)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import Refused
from evalsuite.quantization.grids.affine import dequantize, quantize, round_to_steps
from evalsuite.quantization.grids.layers import QuantLayer
from evalsuite.quantizers._perturbations import perturb
from evalsuite.structure import NORM_LAYERS

_RATE, _BATCH = 1e-3, 64
_HELD = 0.49  # grid points between where a weight begins and its point, at most: below one half, so that none moves yet


def tune_for_hosts(
    model: nn.Module,
    reference: nn.Module,
    images: Tensor,
    steps: int,
    strength: float,
    generator: torch.Generator,
    rounding_rate: float = 0.0,
) -> None:
    """Descend KL(reference's prediction for an image, model's for the same image perturbed) by norms, and rounding.

    Adam on weights and biases of all norms with rate 1e-3, batches of 64; BatchNorm normalises by its batch, as the
    hosts have it, and keeps its running statistics. This reading of the abstract (arXiv 2412.09899) is this project's.

    Parameters
    ----------
    model : calibrated; changed in place.
    reference : the same network in full precision, with the same names of layers.
    images : (N, C, H, W) normalised.
    strength : of the perturbations, see :func:`evalsuite.quantizers._perturbations.perturb`.
    rounding_rate : of the weights' rounding, in points of their grids; see :class:`_Rounding`. 0: it stays.

    Raises
    ------
    Refused
        If no norm has affine parameters, or rounding is to be tuned and no weight is rounded to integers.
    """
    norms = _affine(model)
    if not norms:
        raise Refused("norm_steps needs norm layers with affine parameters; this model has none (or folded ones)")
    rounding = _Rounding(model, reference) if rounding_rate else None
    groups = [{"params": norms, "lr": _RATE}]
    if rounding is not None:
        groups.append({"params": list(rounding.places.values()), "lr": rounding_rate})
    size = min(_BATCH, len(images))
    with torch.enable_grad(), _by_batch(model, norms):
        optimizer = torch.optim.Adam(groups)
        for _ in range(steps):
            chosen = images[torch.randperm(len(images), generator=generator)[:size].to(images.device)]
            changed = perturb(chosen, strength, generator)
            with torch.no_grad():
                wanted = reference(chosen).log_softmax(dim=1)
            found = functional_call(model, rounding.weights() if rounding is not None else {}, (changed,))
            loss = F.kl_div(found.log_softmax(dim=1), wanted, log_target=True, reduction="batchmean")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if rounding is not None:
        rounding.settle()


class _Rounding:
    """The integers of a network's weights as parameters, through whose rounding gradients pass unchanged.

    A weight begins where it lies on its grid in full precision, but no further than half a step from the integer that
    it was rounded to: what reconstruction has decided stands until the loss says otherwise, soonest where it was close.
    Straight-through estimator: Bengio et al. 2013, arXiv 1308.3432.

    Attributes
    ----------
    places : of each weight, by its parameter's name, (rows, n) the place on its grid, in points.
    """

    def __init__(self, model: nn.Module, reference: nn.Module) -> None:
        named = model.named_modules()
        rounded = {
            name: layer for name, layer in named if isinstance(layer, QuantLayer) and layer.weight_format is None
        }
        if not rounded:
            raise Refused("rounding_rate needs weights that are rounded to integers; this model has none")
        self._layers = {f"{name}.weight": layer for name, layer in rounded.items()}
        self.places: dict[str, nn.Parameter] = {}
        for name, layer in self._layers.items():
            scale, zero_point = _grid(layer)
            integers = quantize(layer.rows(), scale, zero_point, layer.integers)
            exact = reference.get_parameter(name).detach().reshape(integers.shape) / scale + zero_point
            self.places[name] = nn.Parameter(torch.clamp(exact, integers - _HELD, integers + _HELD))

    def weights(self) -> dict[str, Tensor]:
        """Return the rounded weights."""
        return {name: self._weight(layer, self.places[name]) for name, layer in self._layers.items()}

    def settle(self) -> None:
        """Write them into the network."""
        for name, layer in self._layers.items():
            layer.set_integers(round_to_steps(self.places[name].detach(), 1.0, *layer.integers))

    @staticmethod
    def _weight(layer: QuantLayer, places: Tensor) -> Tensor:
        return dequantize(round_to_steps(places, 1.0, *layer.integers), *_grid(layer)).reshape(layer.weight.shape)


def _grid(layer: QuantLayer) -> tuple[Tensor, Tensor]:
    return layer.weight_scale[:, None], layer.weight_zero_point[:, None]


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
