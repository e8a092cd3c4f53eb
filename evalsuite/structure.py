"""What a network consists of, found by running it once: layers, norms, blocks, stages; never by class names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.errors import Refused, RequestError
from evalsuite.execution import Execution, tensors_in
from evalsuite.layout import Layouts, find_layouts
from evalsuite.weight_layers import KINDS, WEIGHT_LAYERS

NORM_LAYERS = (
    _BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.RMSNorm,
)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Structure:
    """The parts of a network by qualified name; every sequence is in order of first execution.

    Attributes
    ----------
    layers : convolutions (Conv1d, Conv2d) and Linear modules that were executed.
    stem : the first of them.
    head : the last of them: the classifier.
    norms : BatchNorm, LayerNorm, GroupNorm, InstanceNorm and RMSNorm modules, with or without parameters.
    blocks : the repeated units; empty for a plain chain of layers. See :func:`describe`.
    stages : ``blocks`` cut where the output's shape changes.
    architecture : ``transformer`` where blocks give tokens, else ``cnn``.
    block_layers, block_norms : of each block, the layers and norms inside it.
    block_shapes : of each block, the shape of its output without the batch.
    shortcut_norms : norms on a path around the block's main path. See :func:`describe`.
    following_norms : of each block, the first norm executed after it; a block without one has no entry.
    prefix_tokens : how many tokens of a transformer's blocks are no image patches (class token, registers).
    layouts : where the images are in what each module gets and gives.
    """

    layers: tuple[str, ...]
    stem: str
    head: str
    norms: tuple[str, ...]
    blocks: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]
    architecture: Literal["cnn", "transformer"]
    block_layers: Mapping[str, tuple[str, ...]]
    block_norms: Mapping[str, tuple[str, ...]]
    block_shapes: Mapping[str, tuple[int, ...]]
    shortcut_norms: tuple[str, ...]
    following_norms: Mapping[str, str]
    prefix_tokens: int
    layouts: Layouts

    @property
    def units(self) -> tuple[str, ...]:
        """Blocks, and the layers outside of them, in order: the units of block-wise reconstruction."""
        owner = {layer: block for block in self.blocks for layer in self.block_layers[block]}
        return tuple(dict.fromkeys(owner.get(layer, layer) for layer in self.layers))


def describe(model: nn.Module, example: Tensor) -> Structure:
    """Find a network's structure by forward passes over the first image of ``example`` (N, C, H, W).

    The model runs in eval mode without gradients and is left as it was found: same modes, no hooks.

    A **block** is a child of a container (Sequential, ModuleList, ModuleDict) that has a forward of its own
    (is more than a container), executes at least two weight layers, does not hold stem and head together, and
    does not itself hold two or more such children (then it is a stage or the network, and those are the
    blocks). One such child inside does not split it: squeeze-and-excitation stays a part of its block. Where
    no container holds a block, the children of any module are considered instead.

    A norm sits on a **shortcut** if no weight layer of its block reads what it gives, directly or indirectly,
    and the path through it passes fewer weight layers than the block's longest path. The flow of data is
    followed operation by operation, so additions and activations without a module of their own are seen.

    Raises
    ------
    RequestError
        If ``example`` is no image batch, the model fails on it, or no Conv1d, Conv2d or Linear is executed.
    Refused
        If the model runs in an engine (it has an attribute ``engine``), where nothing of this can be seen.
    """
    if isinstance(engine := getattr(model, "engine", None), str):
        raise Refused(f"this network runs in {engine}, which hides its layers; expected a simulated one")
    if example.ndim != 4 or len(example) == 0:
        raise RequestError(f"example of shape {tuple(example.shape)}: expected at least one image, (N, C, H, W)")
    trace, layouts = _watched(model, example)
    layers = trace.executed(WEIGHT_LAYERS)
    if not layers:
        raise RequestError(f"the model executes no {KINDS}: expected a network with weight layers")
    norms = trace.executed(NORM_LAYERS)
    candidates = _find_blocks(model, layers)
    blocks = tuple(name for name in trace.order if name in candidates and name in trace.shapes)
    block_layers, block_norms = _inside(blocks, layers), _inside(blocks, norms)
    shapes = {block: _of_an_image(trace, layouts, block) for block in blocks}
    architecture = _architecture(model, block_layers, shapes)
    return Structure(
        layers=layers,
        stem=layers[0],
        head=layers[-1],
        norms=norms,
        blocks=blocks,
        stages=_stages(blocks, shapes),
        architecture=architecture,
        block_layers=block_layers,
        block_norms=block_norms,
        block_shapes=shapes,
        shortcut_norms=tuple(
            norm for block in blocks for norm in block_norms[block] if trace.on_shortcut(norm, block, block_layers)
        ),
        following_norms=_following_norms(trace, blocks, norms),
        prefix_tokens=_prefix_tokens(trace, layers[0], shapes[blocks[0]]) if architecture == "transformer" else 0,
        layouts=layouts,
    )


def _watched(model: nn.Module, example: Tensor) -> tuple[_Lineages, Layouts]:
    lineages = _Lineages(model)
    with _evaluating(model), torch.no_grad():
        try:
            with lineages.watching():
                model(example[:1])
        except Exception as error:
            raise RequestError(f"the model fails on an input of shape {tuple(example[:1].shape)}: {error}") from error
        return lineages, find_layouts(model, example)


def _inside(blocks: tuple[str, ...], names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {block: tuple(name for name in names if name.startswith(f"{block}.")) for block in blocks}


@dataclass(frozen=True)
class _Lineage:
    """Where a tensor comes from: weight layers on its longest path, and all modules of interest on any."""

    depth: int = 0
    passed: frozenset[str] = frozenset()


class _Lineages(Execution):  # type: ignore[no-untyped-call]
    """Records which modules run, in which order, and what each result was computed from.

    Lineages are kept by storage, which views and in-place results share; a freed storage's successor
    overwrites its entry when it is computed, so no tensor is kept alive.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.order: list[str] = []
        self.ended: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.lineage: dict[str, _Lineage] = {}
        self.read_by: dict[str, frozenset[str]] = {}
        self._tensors: dict[int, _Lineage] = {}

    def computed(self, operation: Any, args: Any, kwargs: Any, result: Any) -> None:
        self._mark(result, self._of((args, kwargs)))

    def _of(self, values: Any) -> _Lineage:
        sources = [self._tensors.get(_storage(t), _Lineage()) for t in tensors_in(values)]
        depth = max((source.depth for source in sources), default=0)
        return _Lineage(depth, frozenset().union(*(source.passed for source in sources)))

    def _mark(self, values: Any, lineage: _Lineage) -> None:
        for tensor in tensors_in(values):
            self._tensors[_storage(tensor)] = lineage

    def entered(self, name: str, args: Any, kwargs: Any) -> None:
        if name not in self.order:
            self.order.append(name)
        if isinstance(self.modules[name], WEIGHT_LAYERS):
            self.read_by[name] = self.read_by.get(name, frozenset()) | self._of((args, kwargs)).passed

    def left(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        module = self.modules[name]
        lineage = self._of(result)
        if isinstance(module, (*WEIGHT_LAYERS, *NORM_LAYERS)):
            deeper = isinstance(module, WEIGHT_LAYERS)
            lineage = _Lineage(self._of((args, kwargs, result)).depth + deeper, lineage.passed | {name})
            self._mark(result, lineage)
        if name in self.lineage:
            return
        self.lineage[name] = lineage
        self.ended.append(name)
        tensors = tensors_in(result)
        if tensors:
            self.shapes[name] = tuple(tensors[0].shape)

    def executed(self, kinds: tuple[type[nn.Module], ...]) -> tuple[str, ...]:
        """Names of the modules of these kinds in order of first execution."""
        return tuple(name for name in self.order if isinstance(self.modules[name], kinds))

    def on_shortcut(self, norm: str, block: str, block_layers: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether a block's norm lies beside its main path."""
        read = any(norm in self.read_by[layer] for layer in block_layers[block])
        return not read and self.lineage[norm].depth < self.lineage[block].depth


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _find_blocks(model: nn.Module, layers: tuple[str, ...]) -> frozenset[str]:
    modules = dict(model.named_modules())

    def candidate(name: str, *, in_container: bool) -> bool:
        module = modules[name]
        parent = modules[name.rpartition(".")[0]] if name else None
        if parent is None or (in_container and not isinstance(parent, _CONTAINERS)) or _only_holds(module):
            return False
        prefix = f"{name}."
        held = [layer for layer in layers if layer.startswith(prefix)]
        return len(held) >= 2 and not (layers[0] in held and layers[-1] in held)

    candidates = [name for name in modules if candidate(name, in_container=True)]
    candidates = candidates or [name for name in modules if candidate(name, in_container=False)]
    found: set[str] = set()
    for name in candidates:  # parents come before their children
        if any(name.startswith(f"{block}.") for block in found):
            continue
        nested = [other for other in candidates if other.startswith(f"{name}.")]
        nearest = [one for one in nested if not any(one.startswith(f"{other}.") for other in nested)]
        if len(nearest) < 2:
            found.add(name)
    return frozenset(found)


def _only_holds(module: nn.Module) -> bool:
    """Whether a module is a container and nothing more: it adds no forward of its own."""
    return isinstance(module, _CONTAINERS) and type(module).forward in {
        nn.Sequential.forward,
        nn.Module.forward,
    }


def _stages(blocks: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[str, ...], ...]:
    stages: list[list[str]] = []
    for block in blocks:
        if stages and shapes[stages[-1][-1]] == shapes[block]:
            stages[-1].append(block)
        else:
            stages.append([block])
    return tuple(tuple(stage) for stage in stages)


def _architecture(
    model: nn.Module, block_layers: Mapping[str, tuple[str, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> Literal["cnn", "transformer"]:
    """Tokens are (T, C), or (H, W, C) between blocks that have no convolution (windowed attention)."""
    if not shapes:
        return "cnn"
    ranks = {len(shape) for shape in shapes.values()}
    convolutions = any(
        isinstance(model.get_submodule(layer), nn.Conv2d) for held in block_layers.values() for layer in held
    )
    return "transformer" if ranks == {2} or (ranks == {3} and not convolutions) else "cnn"


def _following_norms(trace: _Lineages, blocks: tuple[str, ...], norms: tuple[str, ...]) -> dict[str, str]:
    position = {name: index for index, name in enumerate(trace.ended)}
    found = {}
    for block in blocks:
        later = [norm for norm in norms if position[norm] > position[block]]
        if later:
            found[block] = later[0]
    return found


def _of_an_image(trace: _Lineages, layouts: Layouts, name: str) -> tuple[int, ...]:
    """Return the shape of a module's output without the dimension that holds the images."""
    shape, batch = trace.shapes[name], layouts.dimension(name, "output")
    return (*shape[:batch], *shape[batch + 1 :])


def _prefix_tokens(trace: _Lineages, stem: str, tokens: tuple[int, ...]) -> int:
    patches = trace.shapes[stem]
    if len(tokens) != 2 or len(patches) != 4:
        return 0
    return max(tokens[0] - patches[2] * patches[3], 0)
