"""The units of block-wise reconstruction, and what reaches one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.execution import hooked, tensors_in
from evalsuite.layout import Layout, Layouts
from evalsuite.quantization.graph.hooks import Reached, not_reached, stand_ins
from evalsuite.quantization.graph.norms import norm_after, norm_as_affine
from evalsuite.quantization.graph.trace import Trace, trace
from evalsuite.quantization.grids.layers import QuantLayer
from evalsuite.quantization.grids.range_setting import batches
from evalsuite.quantization.reconstruction.scratch import Kept, Scratch
from evalsuite.structure import describe


@dataclass(frozen=True, eq=False)
class Tail:
    """What follows a layer directly and belongs to its reconstruction: a frozen norm, a clipping activation."""

    scale: Tensor | None = None
    shift: Tensor | None = None
    bounds: tuple[float, float | None] | None = None

    @classmethod
    def after(cls, layer: str, modules: dict[str, nn.Module], found: Trace) -> Tail:
        """Find the tail of a layer in a trace of its network."""
        output = found.outputs[layer]
        scale = shift = None
        norm = norm_after(modules, found, layer)
        if norm is not None:
            bn = modules[norm]
            assert isinstance(bn, _BatchNorm)
            scale, shift = norm_as_affine(bn)
            reader = found.only_reader(output)
            assert reader is not None
            output = reader.result[0]
        follower = found.only_reader(output)
        bounds: Any = None
        if follower is not None and follower.name in ("relu", "relu_"):
            bounds = (0.0, None)
        elif follower is not None and follower.name in ("hardtanh", "hardtanh_"):
            bounds = tuple(follower.args[1:3])
        return cls(scale, shift, bounds)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply it to a layer's output, channels second where there is a norm."""
        if self.scale is not None and self.shift is not None:
            broadcast = (1, -1, *[1] * (x.ndim - 2))
            x = x * self.scale.reshape(broadcast) + self.shift.reshape(broadcast)
        return self.clip(x)

    def clip(self, x: Tensor) -> Tensor:
        """Apply the activation alone."""
        return x if self.bounds is None else x.clamp(*self.bounds)


@dataclass(frozen=True, eq=False)
class Unit:
    """A block, or a layer outside of the blocks.

    Attributes
    ----------
    name : of the module.
    layers : names of the quantized layers inside, in order of execution.
    norms : by layer, the BatchNorm inside the unit that alone reads it.
    follows : the unit whose output is all that reaches this one, but for what lies between; None if there is none.
    channels : the dimension of channels in its output.
    inputs, outputs : where the images are in what reaches it and in what it gives.
    inside : the same of what reaches modules inside it, by their name in it, where images do not come first.
    arguments, keywords : further, constant arguments of its call.
    """

    name: str
    layers: tuple[str, ...]
    norms: Mapping[str, str] = field(default_factory=dict)
    follows: str | None = None
    channels: int = 1
    inputs: Layout = field(default_factory=Layout)
    outputs: Layout = field(default_factory=Layout)
    inside: Mapping[str, Layout] = field(default_factory=dict)
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def run(self, model: nn.Module, x: Tensor) -> Tensor:
        """Run it on what reaches it."""
        out: Tensor = model.get_submodule(self.name)(x, *self.arguments, **self.keywords)
        return out


@torch.no_grad()
def find_units(model: nn.Module, example: Tensor, *, blocks: bool = True) -> tuple[Unit, ...]:
    """Return a quantized model's units in order of execution.

    A block that is called more than once, or with several tensors, or does not return one tensor, gives way to
    its layers.

    Parameters
    ----------
    example : (1, C, H, W) normalised.
    blocks : False takes every layer for itself.

    Raises
    ------
    Refused
        For a unit in whose input or output it cannot be told what belongs to which image, with its name.
    """
    structure = describe(model, example)
    modules = dict(model.named_modules())
    found = trace(model, example)
    layers = tuple(name for name in structure.layers if isinstance(modules[name], QuantLayer))
    owner = {layer: block for block in structure.blocks for layer in structure.block_layers[block]} if blocks else {}
    calls = _calls(model, set(owner.values()) | set(layers), example)
    for layer, block in list(owner.items()):
        if found.calls[block] != 1 or block not in found.outputs or not calls[block].plain:
            del owner[layer]
    units: dict[str, Unit] = {}
    before: list[str] = []
    for name in dict.fromkeys(owner.get(layer, layer) for layer in layers):
        inside = tuple(layer for layer in layers if owner.get(layer, layer) == name)
        follows = before[-1] if before and _depends_only(model, name, before, calls, found, example) else None
        tokens = calls[name].x.ndim != 4 or (structure.architecture == "transformer" and name in structure.blocks)
        units[name] = Unit(
            name,
            inside,
            {} if name in layers else _norms_inside(name, inside, modules, found),
            follows,
            -1 if tokens else 1,
            structure.layouts.at(name, "input"),
            structure.layouts.at(name, "output"),
            _other_layouts(structure.layouts, name),
            calls[name].arguments,
            calls[name].keywords,
        )
        before.append(name)
    return tuple(units.values())


def _other_layouts(layouts: Layouts, unit: str) -> dict[str, Layout]:
    return {
        place.removeprefix(f"{unit}."): layout
        for (place, side), layout in layouts.found.items()
        if side == "input" and place.startswith(f"{unit}.") and isinstance(layout, Layout) and not layout.plain
    }


def _norms_inside(unit: str, layers: Sequence[str], modules: dict[str, nn.Module], found: Trace) -> dict[str, str]:
    norms = {layer: norm for layer in layers if (norm := norm_after(modules, found, layer)) is not None}
    return {
        layer: norm
        for layer, norm in norms.items()
        if norm.startswith(f"{unit}.") and type(modules[norm]).forward is _BatchNorm.forward
    }


@dataclass(frozen=True, eq=False)
class _Call:
    x: Tensor
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    plain: bool


def _calls(model: nn.Module, names: set[str], example: Tensor) -> dict[str, _Call]:
    """Return with what each module is first called."""
    seen: dict[str, _Call] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            if name not in seen:
                tensors = tensors_in((args, kwargs))
                plain = bool(args) and isinstance(args[0], Tensor) and len(tensors) == 1
                # A copy, because the module may overwrite it.
                seen[name] = _Call(tensors[0].clone(), tuple(args[1:]), dict(kwargs), plain)

        return hook

    with hooked(model.get_submodule(name).register_forward_pre_hook(look(name), with_kwargs=True) for name in names):
        model(example)
    return seen


def _depends_only(
    model: nn.Module, name: str, before: Sequence[str], calls: Mapping[str, _Call], found: Trace, example: Tensor
) -> bool:
    """Whether the last unit before one is all that it depends on: what earlier ones give is poisoned with NaN."""
    last = before[-1]
    if any(one not in found.outputs or found.calls[one] != 1 for one in before):
        return False
    forwards = {one: _giving(torch.full_like(found.outputs[one], torch.nan)) for one in before[:-1]}
    forwards[last] = _giving(_outputs(model, last, calls[last]))
    try:
        reached = input_of(model, name, example, forwards)
    except Exception:
        return False
    return reached is not None and torch.equal(reached, calls[name].x)


def _outputs(model: nn.Module, name: str, call: _Call) -> Tensor:
    # Not the trace's, which a later operation may have overwritten.
    out: Tensor = model.get_submodule(name)(call.x.clone(), *call.arguments, **call.keywords)
    return out


def _giving(value: Tensor) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: value.clone()


def input_of(model: nn.Module, name: str, images: Tensor, forwards: Mapping[str, Callable[..., Any]]) -> Tensor | None:
    """Return what reaches a module first while others are stood in for, or None if nothing does."""
    reaching: list[Tensor] = []

    def stop(module: nn.Module, args: Any, kwargs: Any) -> None:
        reaching.extend(tensors_in((args, kwargs)))
        raise Reached

    handle = model.get_submodule(name).register_forward_pre_hook(stop, with_kwargs=True)
    with hooked([handle]), stand_ins(model, forwards), contextlib.suppress(Reached):
        model(images)
    return reaching[0] if reaching else None


class Chain:
    """What reaches a network's units for many images, one unit after the other.

    Where a unit depends on nothing but the one before, only that one and what lies between runs; else the
    network does, up to the unit.

    Parameters
    ----------
    model : runs as it is at each moment, without gradients.
    units : of :func:`find_units`.
    images : (N, C, H, W) normalised.
    scratch : where inputs and outputs are kept.
    """

    def __init__(self, model: nn.Module, units: Sequence[Unit], images: Tensor, scratch: Scratch) -> None:
        self.model = model
        self.units = tuple(units)
        self._images = images
        self._scratch = scratch
        self._shapes: dict[str, tuple[Layout, tuple[int, ...]]] = {}
        self._last: tuple[str, Kept] | None = None

    @torch.no_grad()
    def inputs(self, unit: Unit) -> Kept:
        """Return what reaches a unit: its next, or any other."""
        kept = Kept(len(self._images), self._scratch, f"what reaches {unit.name}", unit.inputs)
        start = 0
        follows = self._last is not None and unit.follows == self._last[0]
        for batch in batches(self._images):
            forwards = self._given(start, len(batch)) if follows else {}
            x = input_of(self.model, unit.name, batch, forwards)
            if x is None:
                raise not_reached(unit.name)
            kept.add(x)
            start += len(batch)
        if self._last is not None:
            self._last[1].release()
            self._last = None
        return kept

    @torch.no_grad()
    def advance(self, unit: Unit, inputs: Kept) -> Kept:
        """Return what a unit gives; the next unit's inputs are then computed from it."""
        kept = Kept(len(self._images), self._scratch, f"what {unit.name} gives", unit.outputs)
        for batch in inputs.parts():
            # A copy, because the unit may overwrite it.
            kept.add(unit.run(self.model, batch.to(self._images.device).clone()))
        self._shapes[unit.name] = (unit.outputs, kept.rows.shape[1:])
        self._last = (unit.name, kept)
        return kept

    def _given(self, start: int, count: int) -> dict[str, Callable[..., Tensor]]:
        assert self._last is not None
        last, outputs = self._last
        given = outputs.part(start, count).to(self._images.device)
        return self._placeholders(count) | {last: _giving(given)}

    def _placeholders(self, count: int) -> dict[str, Callable[..., Tensor]]:
        """Return stand-ins for the units that have run, whose outputs nobody reads any more."""
        nothing = self._images.new_zeros(())
        return {
            name: _giving(layout.restore(nothing.expand(count, *shape)))
            for name, (layout, shape) in self._shapes.items()
        }

    def rest(self, unit: Unit, output: Tensor, images: Tensor) -> Tensor:
        """Run the network on from the output of the unit that was advanced last, for these images; with gradients."""
        later = self.units[self.units.index(unit) + 1 :]
        # Where a later unit reads an earlier one's output as well, all of them run.
        alone = all(one.follows is not None for one in later)
        forwards = (self._placeholders(len(images)) if alone else {}) | {unit.name: _giving(output)}
        with stand_ins(self.model, forwards):
            logits: Tensor = self.model(images)
        return logits
