"""What a plugin may have besides its contract's methods: each member's type and default, read here and nowhere else.

A plugin is any class; it inherits nothing and declares only what differs from the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor, nn

    from evalsuite.plugins import ImageFiles, IntArray, Pool, UInt8Array
    from evalsuite.streams import Domain

SIMULATED = "simulated"
"""Engine of a quantizer that names none: integers are represented by floating-point numbers."""


ADAPTING_PASSES = 3
"""Image passes of an adapter that says nothing of them: a forward and a backward, which takes as long as two; ours."""


def is_calibrated(quantizer: Any) -> bool:
    """Whether bits and calibration set play a role: the attribute ``calibrated`` of a quantizer or its class."""
    return bool(getattr(quantizer, "calibrated", True))


def is_stochastic(quantizer: Any) -> bool:
    """Whether another seed gives another result: the attribute ``stochastic`` of a quantizer or its class."""
    return bool(getattr(quantizer, "stochastic", False))


def engine_of(quantizer: Any) -> str:
    """Name of what computes with the integers: the attribute ``engine`` of a quantizer or its class."""
    return str(getattr(quantizer, "engine", SIMULATED))


def adapts(adapter: Any) -> bool:
    """Whether the model ever changes: the attribute ``adapts`` of an adapter or its class."""
    return bool(getattr(adapter, "adapts", True))


def passes_of(adapter: Any) -> float:
    """Image passes that a batch is expected to cost, a forward 1 and a backward 2: an adapter's ``expected_passes``.

    By default 3, or 1 where it never adapts. It plans work; what a batch did cost is counted.
    """
    return float(getattr(adapter, "expected_passes", ADAPTING_PASSES if adapts(adapter) else 1))


def predicted(adapter: Any, state: Any, network: nn.Module, images: Tensor) -> Tensor:
    """Logits by which nothing is learnt: by an adapter's method ``predict(state, images)``; else by the network."""
    logits: Tensor = adapter.predict(state, images) if _callable(adapter, "predict") else network(images)
    return logits


def facts_of(state: Any) -> dict[str, Any]:
    """What an adapter's state says of itself by ``facts()``: counts, and lists of numbers of batches."""
    return dict(state.facts()) if hasattr(state, "facts") else {}


def has_adjustable_loss(state: Any) -> bool:
    """Whether an adapter's state has ``adjust``, a function of logits that is applied to them in its loss."""
    return hasattr(state, "adjust")


def has_objective(state: Any) -> bool:
    """Whether an adapter's state has ``objective``, a loss of each row of a batch's logits that may be replaced."""
    return hasattr(state, "objective")


def is_oracle(adapter: Any) -> bool:
    """Whether an adapter learns from true labels: it has a method ``reveal(state, labels)``, called before a step."""
    return _callable(adapter, "reveal")


def reveal(adapter: Any, state: Any, labels: Tensor) -> None:
    """Tell an oracle the true labels (N,) of the batch that comes next."""
    adapter.reveal(state, labels)


def architecture_of(task: Any) -> str | None:
    """``cnn`` or ``transformer``, the attribute ``architecture`` of a task; None: the network's structure decides."""
    return getattr(task, "architecture", None) or None


def published_of(task: Any) -> Callable[[str | None, Domain, IntArray], ImageFiles] | None:
    """A task's method ``published(root, domain, indices)``; None where nobody published corrupted images."""
    return getattr(task, "published", None)


def availability_of(task: Any) -> Callable[[str | None], str] | None:
    """A task's method ``found(root)``, a line about what is there; None where its data have to be loaded for that."""
    return getattr(task, "found", None)


def drawn_by(stream: Any, options: Iterable[str]) -> Sequence[str]:
    """Options that seed the generator of a stream's ``plan``: its attribute ``drawn_by``, by default all."""
    return tuple(getattr(stream, "drawn_by", options))


def length_of(stream: Any) -> int | None:
    """Images in the whole of a stream: its property ``length``; None: as many as its option ``images`` per domain."""
    length = getattr(stream, "length", None)
    return None if length is None else int(length)


def factor_of(step: Any) -> str | None:
    """The kind of change that a calibration step is: its attribute ``factor``; None: none of the known kinds."""
    return getattr(step, "factor", None)


def data_read_by(step: Any) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Tasks, by name and options, whose images a calibration step takes: its attribute ``reads``; by default none."""
    return tuple(getattr(step, "reads", ()))


def order_of(figure: Any) -> int | None:
    """Position of a figure in the report: its attribute ``order``; None: after the others, by name."""
    order = getattr(figure, "order", None)
    return None if order is None else int(order)


def pages_of(figure: Any, data: pd.DataFrame) -> list[pd.DataFrame]:
    """A figure's data cut by its method ``pages`` for one printed page each; by default all of it on one."""
    return list(figure.pages(data)) if hasattr(figure, "pages") else [data]


def is_stream(protocol: Any) -> bool:
    """Whether a protocol or its class lays out a stream."""
    return _callable(protocol, "plan")


def is_calibration_step(protocol: Any) -> bool:
    """Whether a protocol or its class has at least one of ``select`` and ``transform``."""
    return _callable(protocol, "select") or _callable(protocol, "transform")


def selected(step: Any, pool: Pool, indices: IntArray, generator: np.random.Generator) -> IntArray:
    """Which of the pool images in ``indices`` a calibration step keeps; all, where it has no ``select``."""
    chosen: IntArray = step.select(pool, indices, generator) if _callable(step, "select") else indices
    return chosen


def transformed(
    step: Any, pool: Pool, images: UInt8Array, indices: IntArray, generator: np.random.Generator
) -> UInt8Array:
    """(n, H, W, 3) images as a calibration step changes them; as they are, where it has no ``transform``."""
    if not _callable(step, "transform"):
        return images
    changed: UInt8Array = step.transform(pool, images, indices, generator)
    return changed


def missing_methods(plugin: Any, methods: Sequence[str]) -> list[str]:
    """Which of these a plugin or its class lacks."""
    return [method for method in methods if not _callable(plugin, method)]


def _callable(plugin: Any, method: str) -> bool:
    return callable(getattr(plugin, method, None))
