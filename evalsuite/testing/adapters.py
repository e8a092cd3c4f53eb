"""What every adapter owes, whatever its method."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite.networks import released
from evalsuite.optional_members import facts_of, is_oracle, reveal
from evalsuite.plugins import Adapter
from evalsuite.randomness import torch_generator
from evalsuite.testing import examples
from evalsuite.testing._check import (
    Check,
    Failed,
    NotApplicable,
    Question,
    factory,
    make_by_network,
    process_kept,
    questions_about,
    require,
    scatter,
)
from evalsuite.testing._elsewhere import on_another_device, require_there

_BATCH = 6


@dataclass(frozen=True)
class _Subject:
    fresh: Callable[[], Any]
    network: Callable[[], nn.Module]
    source: Tensor
    batches: tuple[Tensor, ...]

    def prepared(self, seed: int = 0, model: nn.Module | None = None, plugin: Any = None) -> tuple[Any, Any]:
        """Return the plugin and the state that it prepared."""
        plugin = plugin or self.fresh()
        private = self.network() if model is None else copy.deepcopy(model)
        return plugin, plugin.prepare(private, self.source.clone(), torch_generator(seed, "testing"))

    def logits(self, seed: int = 0, plugin: Any = None) -> list[Tensor]:
        """Return the logits of all batches in turn."""
        plugin, state = self.prepared(seed, plugin=plugin)
        return [_step(plugin, state, batch.clone()).detach() for batch in self.batches]


def _step(plugin: Any, state: Any, images: Tensor) -> Tensor:
    """Adapt on a batch; an oracle is told labels, which are of two classes in turn."""
    if is_oracle(plugin):
        reveal(plugin, state, torch.arange(len(images), device=images.device) % 2)
    logits: Tensor = plugin.step(state, images)
    return logits


def check_adapter(adapter: Any, *, model: nn.Module | None = None, images: Tensor | None = None) -> None:
    """Raise AssertionError with every failed check of an adapter and its mend; parameters as below."""
    require(adapter_checks(adapter, model=model, images=images), adapter)


def adapter_checks(adapter: Any, *, model: nn.Module | None = None, images: Tensor | None = None) -> list[Check]:
    """Check that an adapter keeps its contract.

    Parameters
    ----------
    adapter : a class, an instance, an entry point's name, ``package.module:Class`` or ``path.py:Class``.
    model : a network in eval mode to try it on; by default a small CNN and a small transformer, of which a method
        may refuse either.
    images : (N, C, H, W) normalised images for ``model``, at least 6.

    Raises
    ------
    RequestError
        If the adapter cannot be found or made.
    """
    fresh = factory("adapters", adapter)
    networks = examples.NETWORKS if model is None else {"": lambda: copy.deepcopy(model)}
    given = examples.images(24, 5) * 1.5 + 0.5 if images is None else images
    source = examples.images(16) if images is None else images
    batches = tuple(given[start : start + _BATCH] for start in range(0, len(given), _BATCH))
    subjects = {name: _Subject(fresh, network, source, batches) for name, network in networks.items()}
    return make_by_network(fresh, Adapter, ("prepare", "step"), subjects, _questions)


def _questions(subject: _Subject) -> list[Question]:
    spoiling = {
        "a step gives finite logits": (_finite, "Return the (N, classes) finite logits of the batch."),
        "the same seed gives the same logits": (_same_seed, "Draw from the generator that prepare is given, only."),
        "a reset restores it": (_reset, "Keep all that changes in the state; let hooks be bound methods of it."),
        "states are private": (_private, "Keep nothing on the instance, its class or its module."),
        "the batch is untouched": (_images, "Change a copy of the images."),
        "the process is left as it was": (_process, "Put back what you set, for example by torch.enable_grad()."),
    }
    other = {
        "a batch of one will do": (_single, "Take N = 1, for example without a variance."),
        "its tensors are where the network is": (_elsewhere, "Make tensors with device=images.device."),
        "facts are JSON": (_facts, "Let facts() return counts, and lists of numbers of batches."),
    }
    return questions_about(subject, spoiling) + questions_about(subject, other, spoils_numbers=False)


def _check_logits(logits: Any, images: Tensor, classes: int) -> None:
    if not isinstance(logits, Tensor) or logits.shape != (len(images), classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise Failed(f"a step on {len(images)} images gave {shape}: expected ({len(images)}, {classes})")
    if not logits.isfinite().all():
        raise Failed(f"a step on {len(images)} images gave logits that are not finite")


def _finite(subject: _Subject) -> None:
    with torch.no_grad():
        classes = subject.network()(subject.source[:2]).shape[1]
    for batch, logits in zip(subject.batches, subject.logits(), strict=True):
        _check_logits(logits, batch, classes)


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(map(torch.equal, a, b))


def _same_seed(subject: _Subject) -> None:
    twice = []
    for state in (1, 2):
        scatter(state)
        twice.append(subject.logits())
    if not _equal(*twice):
        raise Failed("two runs with one seed gave other logits")


def _reset(subject: _Subject) -> None:
    plugin = subject.fresh()
    model = subject.network()
    state = plugin.prepare(model, subject.source.clone(), torch_generator(0, "testing"))
    kept_model, kept = copy.deepcopy((model, state), released(model))
    first = [_step(plugin, state, batch.clone()).detach() for batch in subject.batches]
    assert isinstance(kept_model, nn.Module)
    again = [_step(plugin, kept, batch.clone()).detach() for batch in subject.batches]
    if not _equal(first, again):
        raise Failed("a deep copy of the state gave other logits than the state itself")


def _private(subject: _Subject) -> None:
    plugin = subject.fresh()
    first = subject.logits(plugin=plugin)
    if not _equal(first, subject.logits(plugin=plugin)):
        raise Failed("an instance that adapted before gave other logits than a new one")


def _images(subject: _Subject) -> None:
    plugin, state = subject.prepared()
    for batch in subject.batches:
        given = batch.clone()
        _step(plugin, state, given)
        if not torch.equal(given, batch):
            raise Failed("step changed the images that it was given")


def _process(subject: _Subject) -> None:
    with process_kept():
        subject.logits()


def _elsewhere(subject: _Subject) -> None:
    plugin = subject.fresh()
    with on_another_device() as device:
        model = subject.network().to(device)
        state = plugin.prepare(model, subject.source.to(device), torch_generator(0, "testing"))
        for batch in subject.batches:
            require_there(_step(plugin, state, batch.to(device)))


def _single(subject: _Subject) -> None:
    plugin, state = subject.prepared()
    with torch.no_grad():
        classes = subject.network()(subject.source[:2]).shape[1]
    for number in range(2):
        image = subject.batches[0][number : number + 1]
        _check_logits(_step(plugin, state, image.clone()), image, classes)


def _facts(subject: _Subject) -> None:
    plugin, state = subject.prepared()
    if not hasattr(state, "facts"):
        raise NotApplicable("its state has no facts()")
    _step(plugin, state, subject.batches[0].clone())
    for name, value in facts_of(state).items():
        numbers = value if isinstance(value, list) else [value]
        if not isinstance(name, str) or not all(isinstance(number, int | float) for number in numbers):
            raise Failed(f"{name} = {value!r}: expected a number or a list of numbers of batches")
    json.dumps(facts_of(state), allow_nan=False)
