"""FOA: forward-only adaptation by CMA-ES on the input (Niu et al. 2024, arXiv 2404.01650), written from the paper."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters._norms import use_batch_statistics
from evalsuite.adapters._observer import Moments, Observation, Observer, moment_distance, source_statistics
from evalsuite.errors import Refused, RequestError
from evalsuite.extras import import_extra
from evalsuite.layout import Layout
from evalsuite.structure import Structure, describe

_HISTORY = 0.9
_BATCH = 64  # images of the batch with which the authors state their weight
_WORST = 1e12  # told of a candidate whose loss is not finite
_GRID = 4  # the offset of a CNN's input is a grid of so many points across, smoothly enlarged


@dataclass(frozen=True)
class FOA:
    """Evolution of a prompt by covariance matrix adaptation, and an activation shift; no backward pass.

    A transformer gets ``prompts`` tokens after its class token; a CNN, which has no tokens, a smooth offset of its
    input, a 4 x 4 grid a channel (*ours*). A batch is passed once for each member of the population and once for the
    prompt that was the fittest of the batch before, which the evolution is told of as well; see :func:`fitness`. The
    logits of the fittest are returned, moved by the activation shift: by how far the running mean of earlier batches,
    over all their passes, is from the source's. A CNN's BatchNorm sees its batch.

    Parameters
    ----------
    population : members drawn a batch, 27; a batch costs one forward more.
    prompts : tokens, 3; nothing in a CNN.
    moment_weight : weight of the statistics' distance, 0.4.
    sigma : first step size of the evolution, 1.

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    population: int = 27
    prompts: int = 3
    moment_weight: float = 0.4
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.population < 2 or self.prompts < 1:
            raise RequestError(
                f"population = {self.population}, prompts = {self.prompts}: expected at least 2 and at least 1"
            )
        for name in ("moment_weight", "sigma"):
            if not 0 < getattr(self, name) < float("inf"):
                raise RequestError(f"{name} = {getattr(self, name)}: expected more than 0")

    @property
    def expected_passes(self) -> float:
        """A forward for each member of the population and one for the fittest of the batch before."""
        return self.population + 1

    @torch.no_grad()
    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> FOAState:
        """Measure the source statistics; the evolution begins at zeros, the first fittest is the prompt's own start."""
        if len(source) < 2:
            raise Refused(f"foa needs at least 2 source images for their statistics; got {len(source)}")
        structure = describe(model, source)
        use_batch_statistics(model)
        observer = Observer(model, structure)
        statistics, feature, shiftable = source_statistics(observer, source)
        if not shiftable:
            raise Refused("foa needs a classifier on one feature vector per image whose output is the model's")
        prompt = self._prompt(observer, structure, source)
        return FOAState(
            observer=observer,
            prompt=prompt,
            evolution=_evolution(prompt.size, self.sigma, self.population, generator),
            fittest=prompt.start(source[0], generator),
            statistics=statistics,
            source_feature=feature,
        )

    def _prompt(self, observer: Observer, structure: Structure, source: Tensor) -> Prompt:
        if structure.architecture == "cnn":
            return InputOffset(source)
        block = observer.model.get_submodule(structure.blocks[0])
        tokens = PromptTokens(self.prompts, structure.prefix_tokens, structure.layouts.at(structure.blocks[0], "input"))
        block.register_forward_pre_hook(tokens.insert)
        try:
            tokens.learn_width = True
            observer(source[:1])
            tokens.learn_width = False
            tokens.set(np.zeros(tokens.size), source)
            observer(source[:1])
        except Exception as error:
            name = structure.blocks[0]
            raise Refused(f"foa needs blocks that take further tokens; {name} does not: {error}") from error
        finally:
            tokens.clear()
        return tokens

    @torch.no_grad()
    def step(self, state: FOAState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images under the fittest prompt, and evolve."""
        passes = [*state.evolution.ask(), state.fittest]
        losses: list[float] = []
        means: list[Tensor] = []
        best: Observation | None = None
        for values in passes:
            state.prompt.set(np.asarray(values), images)
            seen = state.observer(state.prompt.applied(images))
            loss = float(fitness(seen, state.statistics, self.moment_weight))
            if best is None or loss < min(losses):
                best, state.fittest = seen, values
            losses.append(loss if loss < _WORST else _WORST)  # NaN as well
            means += [seen.feature.mean(dim=0)] if losses[-1] < _WORST else []
        state.prompt.clear()
        assert best is not None
        state.evolution.tell(passes, losses)
        return state.shifted(best, means)

    @torch.no_grad()
    def predict(self, state: FOAState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images under the prompt that was the fittest last (*ours*)."""
        state.prompt.set(np.asarray(state.fittest), images)
        seen = state.observer(state.prompt.applied(images))
        state.prompt.clear()
        return state.shifted(seen, [])


def fitness(seen: Observation, statistics: list[Moments], weight: float) -> Tensor:
    """Return what the evolution minimises, a scalar an image.

    The mean entropy plus ``weight`` / 64 times the squared differences of the batch's statistics from the source's,
    summed over all features: mean and deviation of the class token after every block; of pooled features after every
    stage in a CNN (*ours*). This is arXiv 2404.01650, eq. 5, as the authors weigh it: entropies summed over a batch of
    64 images, ``weight`` with that batch.
    """
    parts = zip(seen.groups, statistics, strict=True)
    summed = sum(moment_distance([features], [source]) * features.shape[1] for features, source in parts)
    return softmax_entropy(seen.logits).mean() + weight / _BATCH * summed


@dataclass
class FOAState:
    """What FOA keeps between batches.

    Attributes
    ----------
    fittest : (size,) values of the prompt of least loss on the last batch; before the first, the prompt's start.
    history : (D,) running mean of the head's input over all passes of a batch; None before the first batch.
    """

    observer: Observer
    prompt: Prompt
    evolution: Any
    fittest: NDArray[np.float64]
    statistics: list[Moments]
    source_feature: Tensor
    history: Tensor | None = None

    def shifted(self, seen: Observation, means: list[Tensor]) -> Tensor:
        """Return the logits of features moved by the distance of their history from the source's mean.

        The first batch has no history and stays as it is. ``means`` (D,), one a pass, enter the history afterwards.
        """
        logits = seen.logits
        if self.history is not None:
            logits = self.observer.classify(seen.feature + (self.source_feature - self.history))
        if means:
            mean = torch.stack(means).mean(dim=0)
            self.history = mean if self.history is None else _HISTORY * self.history + (1 - _HISTORY) * mean
        return logits


class Prompt(Protocol):
    """What evolves."""

    @property
    def size(self) -> int:
        """Scalars."""
        ...

    def start(self, image: Tensor, generator: torch.Generator) -> NDArray[np.float64]:
        """Return the (size,) values that count as the fittest before any batch, for images like this (C, H, W)."""
        ...

    def set(self, values: NDArray[np.float64], like: Tensor) -> None:
        """Take (size,) values."""
        ...

    def applied(self, images: Tensor) -> Tensor:
        """Return what the network is given."""
        ...

    def clear(self) -> None:
        """Let the network be as it was."""
        ...


class PromptTokens:
    """Tokens that a transformer's first block gets after its prefix tokens."""

    def __init__(self, count: int, prefix: int, layout: Layout) -> None:
        self.count, self.prefix, self.layout = count, prefix, layout
        self.width = 0
        self.patches = 0
        self.learn_width = False
        self.tokens: Tensor | None = None

    @property
    def size(self) -> int:
        """Scalars."""
        return self.count * self.width

    def start(self, image: Tensor, generator: torch.Generator) -> NDArray[np.float64]:
        """Draw (size,) values by Xavier's rule for a layer from a patch's pixels to a token (arXiv 2203.12119)."""
        drawn = torch.rand(self.size, generator=generator, dtype=torch.float64, device=generator.device)
        bound = (6 / (image.numel() / self.patches + self.width)) ** 0.5
        values: NDArray[np.float64] = (bound * (2 * drawn - 1)).cpu().numpy()
        return values

    def set(self, values: NDArray[np.float64], like: Tensor) -> None:
        """Take (size,) values."""
        self.tokens = torch.from_numpy(values).to(like).reshape(1, self.count, self.width)

    def applied(self, images: Tensor) -> Tensor:
        """Return the images as they are: the tokens enter later."""
        return images

    def clear(self) -> None:
        """Insert nothing."""
        self.tokens = None

    def insert(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Forward pre-hook of the first block: (N, T, D) tokens, in any order, become (N, T + count, D)."""
        if self.learn_width:
            self.width = args[0].shape[-1]
            self.patches = max(args[0].numel() // self.width - self.prefix, 1)  # of one image
        if self.tokens is None:
            return None
        rows = self.layout.rows(args[0])
        own = self.tokens.expand(len(rows), -1, -1)
        more = torch.cat([rows[:, : self.prefix], own, rows[:, self.prefix :]], dim=1)
        return (self.layout.restore(more), *args[1:])


class InputOffset:
    """A smooth offset of normalised images, in units of their channels' deviation (*ours*)."""

    def __init__(self, source: Tensor) -> None:
        self.shape = (source.shape[1], _GRID, _GRID)
        self.spread = source.std(dim=(0, 2, 3))[:, None, None]
        self.grid: Tensor | None = None

    @property
    def size(self) -> int:
        """Scalars."""
        return int(np.prod(self.shape))

    def start(self, image: Tensor, generator: torch.Generator) -> NDArray[np.float64]:
        """Return no offset."""
        return np.zeros(self.size)

    def set(self, values: NDArray[np.float64], like: Tensor) -> None:
        """Take (size,) values."""
        self.grid = torch.from_numpy(values).to(like).reshape(self.shape) * self.spread * 0.1

    def applied(self, images: Tensor) -> Tensor:
        """Return (N, C, H, W) images with the offset added."""
        if self.grid is None:
            return images
        size = (images.shape[2], images.shape[3])
        return images + F.interpolate(self.grid[None], size, mode="bilinear", align_corners=False)

    def clear(self) -> None:
        """Add nothing."""
        self.grid = None


@dataclass
class _Normal:
    """Standard normal numbers from a generator of our own: cma's default is numpy's global one."""

    generator: torch.Generator

    def __call__(self, *shape: int) -> NDArray[np.float64]:
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64, device=self.generator.device)
        return drawn.cpu().numpy()


def _evolution(size: int, sigma: float, population: int, generator: torch.Generator) -> Any:
    cma = import_extra("cma", "foa", "adapter 'foa'")
    quiet = {"verbose": -9, "verb_log": 0, "verb_disp": 0}
    own = {"popsize": population, "seed": np.nan, "randn": _Normal(generator), "maxiter": np.inf}
    with warnings.catch_warnings():  # it adds filters of its own
        return cma.CMAEvolutionStrategy(np.zeros(size), sigma, quiet | own)
