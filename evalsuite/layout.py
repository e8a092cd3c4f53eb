"""Where the images are in what the modules of a network get and give: found by running it on one image and on two.

Most tensors have images first. A transformer that runs tokens first has them second, windows and crops share a
dimension with them, and some tensors (a table of relative positions) are the same whatever the images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from evalsuite.errors import Refused
from evalsuite.execution import hooked, tensors_in

Side = Literal["input", "output"]
Place = tuple[str, Side]

_NEAR = 0.01  # of the mean magnitude: rounding of activations, and sums in another order, stay far below
_SEED = 0x1A9E  # of the second image: what nobody takes for a seed of images


@dataclass(frozen=True)
class Layout:
    """How the images lie in a tensor.

    Attributes
    ----------
    dim : the dimension that grows with their number; None where the tensor is the same for all of them.
    outer, inner : that dimension is (outer, images, inner): ``inner`` parts of an image lie side by side (windows),
        or all images' first parts before all their second (``outer``, crops that were joined).
    """

    dim: int | None = 0
    outer: int = 1
    inner: int = 1

    @property
    def plain(self) -> bool:
        """Whether images come first, one row each."""
        return self == Layout()

    @property
    def parts(self) -> int:
        """Rows of one image along ``dim``."""
        return self.outer * self.inner

    def images(self, x: Tensor) -> int:
        """Return the number of images N in a tensor; 1 for one that is the same for all."""
        return 1 if self.dim is None else x.shape[self.dim] // self.parts

    def rows(self, x: Tensor) -> Tensor:
        """Return a tensor with images first, (N, ...); with their parts second, where they have several."""
        if self.plain:
            return x
        if self.dim is None:
            return x[None]
        x = x.movedim(self.dim, 0)
        if self.parts == 1:
            return x
        return x.reshape(self.outer, -1, self.inner, *x.shape[1:]).movedim(1, 0).flatten(1, 2)

    def restore(self, rows: Tensor) -> Tensor:
        """Undo :meth:`rows`, for any number of images: dense in memory."""
        if self.plain:
            return rows
        if self.dim is None:
            return rows[0].contiguous()
        if self.parts > 1:
            rows = rows.reshape(len(rows), self.outer, -1, *rows.shape[2:]).movedim(1, 0).flatten(0, 2)
        return rows.movedim(0, self.dim).contiguous()


@dataclass(frozen=True)
class Layouts:
    """The layouts of a network's modules; where one cannot be told, the reason why.

    Attributes
    ----------
    found : by module and side, of the first tensor of its first call.
    """

    found: Mapping[Place, Layout | str] = field(default_factory=dict)

    def at(self, name: str, side: Side) -> Layout:
        """Return a layout; images first where the module did not run for two images.

        Raises
        ------
        Refused
            Where it cannot be told, with the module's name.
        """
        found = self.found.get((name, side), Layout())
        if isinstance(found, str):
            raise Refused(f"{name}: {found}; expected one dimension of its {side} that grows with the images")
        return found

    def dimension(self, name: str, side: Side) -> int:
        """Return the dimension that holds the images, alone or not; the first where there is none."""
        found = self.found.get((name, side))
        return (found.dim or 0) if isinstance(found, Layout) else 0


@torch.no_grad()
def find_layouts(model: nn.Module, example: Tensor) -> Layouts:
    """Compare what the modules of a network get and give for one image and for two.

    A dimension that grows in proportion holds the images. Where an image has several rows in it, or nothing grows,
    values are compared as well: they say in which order the rows lie, and that one image does not change another's.

    Parameters
    ----------
    model : in eval mode; it is left as it was found.
    example : (N, C, H, W), of which the first image is used; the second is noise.
    """
    single = example[:1]
    noise = torch.randn(single.shape, generator=torch.Generator().manual_seed(_SEED), dtype=torch.float32)
    pair = torch.cat([single, noise.to(single)])
    one = _first_calls(model, single, _shape)
    try:
        two = _first_calls(model, pair, _shape)
    except Exception as error:
        reason = f"the network fails on two images ({error})"
        return Layouts(dict.fromkeys(one, reason))
    found = {place: _grown(shape, two[place]) for place, shape in one.items() if place in two}
    doubtful = {place for place, layout in found.items() if isinstance(layout, Layout) and not _settled(layout)}
    if doubtful:
        alone = _first_calls(model, single, torch.clone, doubtful)
        both = _first_calls(model, pair, torch.clone, doubtful)
        for place in doubtful:
            layout = found[place]
            assert isinstance(layout, Layout)
            found[place] = _arranged(layout, alone[place], both[place])
    return Layouts(found)


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)


def _settled(layout: Layout) -> bool:
    return layout.dim is not None and layout.parts == 1


def _grown(one: tuple[int, ...], two: tuple[int, ...]) -> Layout | str:
    """Tell from a tensor's shapes for one image and for two; the order of several parts is still open."""
    if len(one) != len(two):
        return f"its shape is {one} for one image and {two} for two"
    grown = [dim for dim in range(len(one)) if one[dim] != two[dim]]
    if not grown:
        return Layout(dim=None)
    (dim, *others) = grown
    if others or two[dim] != 2 * one[dim]:
        return f"its shape is {one} for one image and {two} for two"
    return Layout(dim, 1, one[dim])


def _arranged(layout: Layout, alone: Tensor, both: Tensor) -> Layout | str:
    """Choose the order in which the first image's rows are what they are without the second."""
    alone, both = (x.double().nan_to_num() for x in (alone, both))
    parts = layout.parts
    orders = [1, parts, *(outer for outer in range(2, parts) if parts % outer == 0)]
    candidates = [layout] if layout.dim is None else [Layout(layout.dim, outer, parts // outer) for outer in orders]
    distances = [float((one.rows(both)[0] - one.rows(alone)[0]).abs().mean()) for one in candidates]
    least = min(distances)
    if least > _NEAR * float(alone.abs().mean()):
        return "what it holds of an image depends on the other images"
    return candidates[distances.index(least)]


def _first_calls(
    model: nn.Module, images: Tensor, of: Callable[[Tensor], Any], places: Collection[Place] | None = None
) -> dict[Place, Any]:
    """Return a property of the first tensor that each module got, and gave, in its first call."""
    seen: dict[Place, Any] = {}

    def keep(place: Place, values: Any) -> None:
        if place in seen or not (places is None or place in places):
            return
        if tensors := tensors_in(values):
            seen[place] = of(tensors[0])

    with hooked(_handles(model, keep)):
        model(images)
    return seen


def _handles(model: nn.Module, keep: Callable[[Place, Any], None]) -> Iterator[RemovableHandle]:
    for name, module in model.named_modules():
        yield module.register_forward_pre_hook(_input(keep, name), with_kwargs=True)
        yield module.register_forward_hook(_output(keep, name))


def _input(keep: Callable[[Place, Any], None], name: str) -> Any:
    return lambda module, args, kwargs: keep((name, "input"), (args, kwargs))


def _output(keep: Callable[[Place, Any], None], name: str) -> Any:
    return lambda module, args, result: keep((name, "output"), result)
