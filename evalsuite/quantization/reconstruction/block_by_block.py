"""Block-wise reconstruction: each unit of a network is taught to give what it gave in full precision."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.errors import QuantizationWarning, Refused
from evalsuite.execution import hooked
from evalsuite.quantization.graph.norms import fold_norms
from evalsuite.quantization.graph.trace import trace
from evalsuite.quantization.grids.layers import QuantLayer, quantized_layers
from evalsuite.quantization.reconstruction.losses import Situation, Step
from evalsuite.quantization.reconstruction.options import Pass, ReconstructionOptions
from evalsuite.quantization.reconstruction.scratch import Kept, Scratch
from evalsuite.quantization.reconstruction.unit_learner import Learner
from evalsuite.quantization.reconstruction.units import Chain, Tail, Unit, find_units
from evalsuite.weight_layers import CONVOLUTIONS

_VECTOR = 8  # channels that one instruction of AVX2 takes


class Reconstruction:
    """The full-precision network, the units and the calibration images that passes share.

    Parameters
    ----------
    model : what ``insert_quantizers`` returned, weight ranges chosen; learnt in place.
    images : (N, C, H, W) normalised.
    options : of the method.
    blocks : False takes every layer for itself.
    """

    def __init__(self, model: nn.Module, images: Tensor, options: ReconstructionOptions, *, blocks: bool = True):
        example = images[:1]
        self.model = model
        self.options = options
        self.units = find_units(model, example, blocks=blocks)
        self.reference = _full_precision(model, example)
        # With channels last in memory convolutions are up to several times as fast.
        last = _bears_channels_last(self.reference, example)
        self.images = images.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        self._tails = _tails(model, self.units, example)
        self._reference_tails = _tails(self.reference, self.units, example)

    def learn(self, wanted: Pass, generator: torch.Generator) -> None:
        """Learn every unit in turn, as one pass wants it, on what reaches it through those already learnt."""
        with Scratch(self.options.cache_gigabytes * 2**30) as scratch:
            chain = Chain(self.model, self.units, self.images, scratch)
            reference = Chain(self.reference, self.units, self.images, scratch)
            for unit in self.units:
                sources = reference.inputs(unit)
                targets = reference.advance(unit, sources)
                inputs = chain.inputs(unit)
                if inputs.finite() and targets.finite():
                    self._choose_ranges(unit, wanted, inputs)
                    lesson = Lesson(unit, inputs, sources, targets, reference, scratch)
                    with self._corrected(lesson, wanted) as lesson:
                        self._learn(lesson, wanted, generator)
                else:
                    self._give_up(unit, wanted, inputs)
                sources.release()
                chain.advance(unit, inputs)
                inputs.release()
        if wanted.rounding:
            self._round_the_rest()

    def _module(self, unit: Unit) -> nn.Module:
        return self.model.get_submodule(unit.name)

    def _choose_ranges(self, unit: Unit, wanted: Pass, inputs: Kept) -> None:
        if wanted.choose_ranges is None:
            return

        def as_called(module: nn.Module, args: tuple[Tensor, ...], kwargs: Any) -> Any:
            # A copy, because the unit may overwrite it.
            return (unit.inputs.restore(args[0]).clone(), *unit.arguments), dict(unit.keywords)

        module = self._module(unit)
        with hooked([module.register_forward_pre_hook(as_called, with_kwargs=True)]):
            wanted.choose_ranges(module, inputs.rows, unit.name)

    @contextlib.contextmanager
    def _corrected(self, lesson: Lesson, wanted: Pass) -> Iterator[Lesson]:
        moved = None
        if wanted.correction is not None:
            moved = wanted.correction(self.model, self.reference, lesson.unit, lesson.sources, lesson.scratch)
        if moved is None:
            yield lesson
            return
        yield dataclasses.replace(lesson, sources=moved[0], targets=moved[1])
        for kept in moved:
            kept.release()

    def _give_up(self, unit: Unit, wanted: Pass, inputs: Kept) -> None:
        self._choose_ranges(unit, wanted, inputs)
        if wanted.rounding:
            for layer in quantized_layers(self._module(unit)).values():
                layer.round_weight()
        done = "rounded to nearest instead" if wanted.rounding else "its activation ranges are not learnt"
        warnings.warn(f"{unit.name}: NaN or infinity reaches it, {done}", QuantizationWarning, stacklevel=4)

    def _round_the_rest(self) -> None:
        reached = {name for unit in self.units for name in unit.layers}
        for name, module in self.model.named_modules():
            if isinstance(module, QuantLayer) and name not in reached:
                module.round_weight()

    @torch.no_grad()
    def _learn(self, lesson: Lesson, wanted: Pass, generator: torch.Generator) -> None:
        unit, images = lesson.unit, self.images
        learner = Learner(self.model, unit, wanted, self.options, self._tails[unit.name], images, generator)
        if not learner.leaves:
            return
        tail = self._reference_tails[unit.name]
        with learner:
            situation = self._situation(lesson, learner, generator)
            further = [term for loss in wanted.losses if (term := loss.prepare(situation)) is not None]
            weighing = None if wanted.error_weights is None else wanted.error_weights(situation)
            if weighing is not None:
                learner.at_end(weighing.release)
            for step in range(wanted.iterations):
                progress = step / wanted.iterations
                chosen = torch.randperm(len(images), generator=generator)[: self.options.batch_size]
                x = lesson.inputs.take(chosen, images)
                y = tail(lesson.targets.take(chosen, images))
                if wanted.drop > 0:
                    learner.mix(x, lesson.sources.take(chosen, images))
                learner.refresh(progress)
                with torch.enable_grad():
                    output = learner.run(x)
                    extra = [term(Step(chosen, output, y)) for term in further]
                gradient = (output.detach() - y).mul_(2 * y.shape[unit.channels] / y.numel())
                if weighing is not None:
                    gradient.mul_(weighing.take(chosen, images))
                learner.descend([output, *extra], [gradient, *(None for _ in extra)], progress)
        learner.bake()

    def _situation(self, lesson: Lesson, learner: Learner, generator: torch.Generator) -> Situation:
        unit, tail = lesson.unit, self._reference_tails[lesson.unit.name]
        return Situation(
            model=self.model,
            reference=self.reference,
            images=self.images,
            unit=unit,
            inputs=lesson.inputs,
            targets=lesson.targets,
            weights=learner.weights,
            run=learner.run,
            tail=tail,
            rest=lambda output, images: lesson.reference.rest(unit, output, images),
            reaches_the_end=tail.scale is None,
            scratch=lesson.scratch,
            rounded_to_nearest=learner.rounded_to_nearest,
            release_later=lambda kept: learner.at_end(kept.release),
            generator=generator,
        )


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a unit is learnt from: its inputs, those of full precision, its targets, and where they come from."""

    unit: Unit
    inputs: Kept
    sources: Kept
    targets: Kept
    reference: Chain
    scratch: Scratch


def _full_precision(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a network that rounds nothing yet, its norms folded where that is possible."""
    reference = copy.deepcopy(model)
    with contextlib.suppress(Refused):
        fold_norms(reference, example)
    return reference.requires_grad_(False)


@torch.no_grad()
def _bears_channels_last(model: nn.Module, example: Tensor) -> bool:
    """Whether a network gives the same with channels last in memory: some take the layout for granted."""
    if any(_overruns_channels_last(module) for module in model.modules()):
        return False
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    expected = model(example)
    try:
        output = twin(example.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return bool((output - expected).abs().max() <= 1e-3 * expected.abs().max())


def _overruns_channels_last(module: nn.Module) -> bool:
    """Whether oneDNN writes beyond the gradient of a layer's weight with channels last, into other tensors.

    So it does for kernels of one place, strided, over 2 to 7 channels (seen with torch 2.13 on a CPU with AVX2).
    """
    if not isinstance(module, CONVOLUTIONS):
        return False
    one_place, strided = max(module.kernel_size) == 1, max(module.stride) > 1
    return one_place and strided and module.in_channels // module.groups < _VECTOR


def _tails(model: nn.Module, units: Sequence[Unit], example: Tensor) -> dict[str, Tail]:
    modules, executed = dict(model.named_modules()), trace(model, example)
    return {
        unit.name: Tail.after(unit.name, modules, executed) if isinstance(modules[unit.name], QuantLayer) else Tail()
        for unit in units
    }
