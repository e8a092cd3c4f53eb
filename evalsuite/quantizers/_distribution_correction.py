"""Moving activations to where a block's BatchNorm layers expect them: Liu et al. 2023, arXiv 2212.07048."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.execution import hooked
from evalsuite.quantization.reconstruction.scratch import Kept, Scratch
from evalsuite.quantization.reconstruction.units import Unit

_BATCH = 32


@dataclass(frozen=True)
class StatisticsCorrection:
    """Moves what enters a block, in full precision, until its norms see the statistics of training.

    Minimises by Adam, a batch of 32 images at a time, the mean over channels of the squared errors of mean and
    standard deviation, summed over the block's norms, plus ``weight`` times the squared distance from the beginning,
    summed over channels and averaged over images and places. Both statistics are taken over the batch and behind the
    norm, where the trained ones are its shift and the magnitude of its scale (both ours).
    """

    steps: int
    rate: float
    weight: float

    def __call__(
        self, model: nn.Module, reference: nn.Module, unit: Unit, sources: Kept, scratch: Scratch
    ) -> tuple[Kept, Kept] | None:
        """Return the moved (N, ...) inputs of a unit and what it gives for them; None for one without norms.

        Parameters
        ----------
        model : holds the norms.
        reference : the network in full precision, where they are folded.
        """
        wanted = {layer: _trained(model.get_submodule(norm)) for layer, norm in unit.norms.items()}
        if not wanted or self.steps == 0:
            return None
        moved = Kept(sources.count, scratch, f"what reaches {unit.name}", unit.inputs)
        outputs = Kept(sources.count, scratch, f"what {unit.name} gives", unit.outputs)
        device = next(reference.parameters()).device
        with _outputs(reference, unit) as seen:
            for start in sources.parts(_BATCH):
                x = self._move(reference, unit, start.to(device), wanted, seen)
                moved.add(x)
                with torch.no_grad():
                    outputs.add(unit.run(reference, x.clone()))
        return moved, outputs

    def _move(
        self,
        reference: nn.Module,
        unit: Unit,
        start: Tensor,
        wanted: dict[str, tuple[Tensor, Tensor]],
        seen: dict[str, Tensor],
    ) -> Tensor:
        x = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([x], lr=self.rate)
        for _ in range(self.steps):
            with torch.enable_grad():
                unit.run(reference, x.clone())
                loss = (x - start).square().sum(dim=unit.channels).mean() * self.weight
                for layer, (mean, deviation) in wanted.items():
                    variance, found = torch.var_mean(seen[layer], dim=(0, *range(2, seen[layer].ndim)))
                    loss = loss + (found - mean).square().mean() + (variance.sqrt() - deviation).square().mean()
            (x.grad,) = torch.autograd.grad(loss, x)
            optimiser.step()
        return x.detach()


def _trained(norm: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(norm, _BatchNorm)
    assert norm.running_var is not None
    like = norm.running_var
    scale = torch.ones_like(like) if norm.weight is None else norm.weight.detach()
    shift = torch.zeros_like(like) if norm.bias is None else norm.bias.detach()
    return shift, scale.abs() * (like / (like + norm.eps)).sqrt()


@contextlib.contextmanager
def _outputs(model: nn.Module, unit: Unit) -> Iterator[dict[str, Tensor]]:
    """Fill a dictionary with what the unit's layers that have norms give, each time it runs."""
    seen: dict[str, Tensor] = {}

    def keep(layer: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            # A copy, because an activation may overwrite it.
            seen[layer] = output.clone()

        return hook

    with hooked(model.get_submodule(layer).register_forward_hook(keep(layer)) for layer in unit.norms):
        yield seen
