"""A unit while it is learnt."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.quantization.graph.hooks import replace_modules
from evalsuite.quantization.graph.norms import norm_as_affine
from evalsuite.quantization.grids.layers import QuantLayer, activation_quantizers
from evalsuite.quantization.reconstruction.learned_step import LearnedSteps
from evalsuite.quantization.reconstruction.options import Pass, ReconstructionOptions
from evalsuite.quantization.reconstruction.soft_rounding import SoftRounding
from evalsuite.quantization.reconstruction.units import Tail, Unit

_FUSED = ("cpu", "cuda")
"""Devices for which torch has Adam as one operation."""


class Learner:
    """A unit in which soft weights and learnt activation scales stand in for its own while a context lasts.

    A norm that alone reads a layer is frozen meanwhile: it scales the soft weight and shifts the bias, which is the
    same function at no cost.

    Attributes
    ----------
    weights : the soft weights by layer, norms folded in.
    leaves : all tensors whose gradients are wanted.
    """

    def __init__(
        self,
        model: nn.Module,
        unit: Unit,
        wanted: Pass,
        options: ReconstructionOptions,
        tail: Tail,
        images: Tensor,
        generator: torch.Generator,
    ) -> None:
        self._model, self._unit, self._wanted, self._options, self._tail = model, unit, wanted, options, tail
        self._module = model.get_submodule(unit.name)
        self._layers = [layer for name in unit.layers if isinstance(layer := model.get_submodule(name), QuantLayer)]
        self._folds = [self._fold(name) for name in unit.layers]
        self._rounding = None
        if wanted.rounding:
            last = images.is_contiguous(memory_format=torch.channels_last)
            self._rounding = SoftRounding(self._layers, [scale for scale, _ in self._folds], channels_last=last)
        quantizers = activation_quantizers(self._module) if wanted.step_rate is not None else {}
        layouts = {quantizers[name]: layout for name, layout in unit.inside.items() if name in quantizers}
        self._steps = LearnedSteps(quantizers.values(), wanted.drop, generator, layouts)
        self._half = (
            options.precision == "bfloat16"
            and wanted.rounding
            and wanted.step_rate is None
            and all(layer.weight_bits < 8 for layer in self._layers)
        )
        self._context = contextlib.ExitStack()
        self.weights: dict[str, Tensor] = {}
        if self._rounding is not None:
            self.weights = dict(zip(unit.layers, self._rounding.weights, strict=True))
        self.leaves: list[Tensor] = [*self.weights.values(), *self._steps.leaves]

    def _fold(self, layer: str) -> tuple[Tensor | None, Tensor | None]:
        """Return by what a layer's output is scaled and shifted."""
        if self._tail.scale is not None:
            return self._tail.scale, self._tail.shift
        norm = self._model.get_submodule(self._unit.norms[layer]) if layer in self._unit.norms else None
        return norm_as_affine(norm) if isinstance(norm, _BatchNorm) else (None, None)

    def __enter__(self) -> Learner:
        groups = []
        if self._rounding is not None:
            groups.append({"params": [self._rounding.logit], "lr": self._options.rounding_rate})
        if self._steps.leaves:
            groups.append({"params": [self._steps.scales], "lr": 0.0})
        fused = self.leaves[0].device.type in _FUSED  # elsewhere the same steps, slower
        self._optimiser = torch.optim.Adam(groups, fused=fused)
        for parameter in self._module.parameters():
            self._context.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        norms = {self._model.get_submodule(name): nn.Identity() for name in self._unit.norms.values()}
        stand_ins: dict[nn.Module, nn.Module] = {**norms, **self._steps.modules}
        replace_modules(self._module, stand_ins)
        self._context.callback(replace_modules, self._module, {new: old for old, new in stand_ins.items()})
        for name, layer, (scale, shift) in zip(self._unit.layers, self._layers, self._folds, strict=True):
            self._context.callback(_set, layer, layer._parameters["weight"], layer._parameters["bias"])
            weight = self.weights.get(name)
            bias: Tensor | None = layer._parameters["bias"]
            if weight is None:
                weight = layer.weight
                weight = weight if scale is None else weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            if scale is not None and shift is not None:
                bias = shift if bias is None else shift + scale * bias
            _set(layer, weight, bias)
        return self

    def __exit__(self, *error: object) -> None:
        self._context.close()

    def at_end(self, action: Callable[[], None]) -> None:
        """Do something when the context ends."""
        self._context.callback(action)

    @contextlib.contextmanager
    def rounded_to_nearest(self) -> Iterator[None]:
        """Round the weights as they would be baked, while a context lasts."""
        if self._rounding is not None:
            self._rounding.harden()
        yield
        if self._rounding is not None:
            self._rounding.soften()

    def run(self, x: Tensor) -> Tensor:
        """Run the unit and what belongs to it on what reaches it."""
        if not self._half:
            return self._tail.clip(self._unit.run(self._model, x))
        with torch.autocast(x.device.type, torch.bfloat16):
            return self._tail.clip(self._unit.run(self._model, x.to(torch.bfloat16))).float()

    def mix(self, x: Tensor, full_precision: Tensor) -> None:
        """Replace elements of what reaches the unit by those in full precision, as often as ``drop`` says."""
        if self._steps.coin is not None:
            x.lerp_(full_precision, self._steps.coin.toss(x, self._wanted.drop, self._unit.inputs))

    def refresh(self, progress: float) -> None:
        """Bring everything up to date before a step, 0..1 of the way."""
        if self._rounding is not None:
            self._rounding.soften()
        if self._steps.leaves and self._wanted.step_rate is not None:
            self._steps.forget()
            self._optimiser.param_groups[-1]["lr"] = self._wanted.step_rate * (1 + math.cos(progress * math.pi)) / 2

    def descend(self, losses: Sequence[Tensor], gradients: Sequence[Tensor | None], progress: float) -> None:
        """Take a step down."""
        torch.autograd.backward(losses, gradients, inputs=self.leaves)
        if self._rounding is not None:
            self._rounding.backward(self._options.regulariser, self._options.annealed(progress))
        self._optimiser.step()
        self._steps.hold_positive()

    def bake(self) -> None:
        """Write what was learnt into the layers and the quantizers, after the context."""
        if self._rounding is not None:
            self._rounding.bake()
        self._steps.bake()


def _set(layer: QuantLayer, weight: Tensor | None, bias: Tensor | None) -> None:
    for name, value in (("weight", weight), ("bias", bias)):
        if value is None or isinstance(value, nn.Parameter):
            layer._parameters[name] = value
        else:
            layer._parameters[name] = nn.Parameter(value, requires_grad=False)
