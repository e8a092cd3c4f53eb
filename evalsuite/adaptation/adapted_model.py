"""Running an adapter on a private copy of a network: checks, resets and accounting around its two methods."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evalsuite import registry
from evalsuite.adaptation.batches import later, renumbered
from evalsuite.adaptation.meter import Meter, Spent, changed_parameters, kept_bytes
from evalsuite.arguments import image_tensor
from evalsuite.errors import RequestError
from evalsuite.isolation import single_process
from evalsuite.networks import HALF, floating_type, outside_inference, plain_copy, released
from evalsuite.optional_members import facts_of, is_oracle, predicted, reveal
from evalsuite.plugins import Adapter
from evalsuite.randomness import torch_generator


class AdaptedModel:
    """A network that adapts to every batch it is called on: (N, C, H, W) normalised images -> (N, classes) logits.

    Batches are tensors, arrays or lists of images. A network in half precision is adapted in float32, its moments and
    optimiser with it, and gives logits of the type of its images.

    Parameters
    ----------
    adapter : the method.
    model : the network as deployed, quantized or not; it is copied and stays untouched.
    source : (N, C, H, W) unlabelled clean images, normalised.
    generator : source of the adapter's random draws.
    resets : whether :meth:`reset` is needed, for which a copy of network and state is kept.

    Raises
    ------
    Refused
        If the method does not apply to the model, with the reason.
    RequestError
        If ``source`` is no batch of finite images.
    """

    def __init__(
        self, adapter: Adapter, model: nn.Module, source: Tensor, generator: torch.Generator, *, resets: bool = True
    ) -> None:
        private = plain_copy(model).eval()
        self._type = floating_type(private)
        self._adapter = adapter
        with outside_inference(), single_process():
            source = _checked(source, "the source images", self._type)
            self._own_names = set(_tensors(private))
            self._meter = Meter()
            self._meter.attach(private)
            state = adapter.prepare(private, source, generator)
            self._fresh = copy.deepcopy((private, state), released(private)) if resets else None
        begun = private if self._fresh is None else self._fresh[0]
        self._before = {name: value.detach() for name, value in begun.named_parameters()}
        if self._fresh is None:
            self._before = {name: value.clone() for name, value in self._before.items()}
        self._model, self._state = private, state
        self._at_reset = Spent()
        self._changed: dict[str, int] = {}
        self._kept = 0
        self._facts: dict[str, Any] = {}
        self._shown = self._reset_at = 0
        self._taken: list[int] = []

    @classmethod
    def from_setting(
        cls,
        setting: registry.Setting,
        model: nn.Module,
        source: Tensor,
        generator: torch.Generator,
        *,
        resets: bool = True,
    ) -> AdaptedModel:
        """Build the adapter that a checked setting describes and prepare it; parameters and errors as above."""
        return cls(setting.build(), model, source, generator, resets=resets)

    @property
    def state(self) -> Any:
        """What the adapter's ``prepare`` returned, as the last step left it."""
        return self._state

    def __call__(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Adapt on one (N, C, H, W) batch and return its (N, classes) logits.

        ``labels``: (N,) class indices for an oracle, which learns from them; no other adapter is given any.

        Raises
        ------
        RequestError
            If the batch is empty, misshapen or holds NaN or infinity, or an oracle gets no label of each image, or
            another adapter gets some; nothing has been adapted then.
        RuntimeError
            If a logit is NaN or infinite.
        """
        if is_oracle(self._adapter) or labels is not None:
            self._reveal(len(images), labels)
        return self._computed(images, lambda batch: self._adapter.step(self._state, batch))

    def _reveal(self, images: int, labels: Tensor | None) -> None:
        name = type(self._adapter).__name__
        if labels is None:
            raise RequestError(f"{name} learns from true labels: expected one of each image beside the batch")
        if not is_oracle(self._adapter):
            raise RequestError(f"{name} was given true labels: expected images only, for it is no oracle")
        if labels.shape != (images,):
            raise RequestError(f"labels of shape {tuple(labels.shape)}: expected ({images},), one of each image")
        reveal(self._adapter, self._state, labels.to(self._type[1]))

    def _computed(self, images: Tensor, compute: Callable[[Tensor], Any], *, adapts: bool = True) -> Tensor:
        number = self._shown - self._reset_at + 1
        given = images.dtype if isinstance(images, Tensor) else self._type[0]
        with outside_inference(), single_process():
            images = _checked(images, f"batch {number}", self._type)
            with self._meter.batch(images, adapts=adapts):
                logits = compute(images)
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise RequestError(f"{type(self._adapter).__name__} gave {kind}; expected a tensor of real logits")
        logits = logits.detach()
        if logits.ndim != 2 or len(logits) != len(images):
            raise RequestError(
                f"{type(self._adapter).__name__} gave logits of shape {tuple(logits.shape)}; "
                f"expected ({len(images)}, classes)"
            )
        broken = logits.numel() - int(torch.isfinite(logits).sum())
        if broken:
            raise RuntimeError(
                f"{type(self._adapter).__name__} on {type(self._model).__name__}, batch {number}: "
                f"{broken} of {logits.numel()} logits are not finite"
            )
        if adapts:
            self._taken.append(self._shown)
        self._shown += 1
        return logits.to(given) if given in HALF else logits

    def reset(self) -> None:
        """Forget everything learnt since ``prepare``, random draws included, and begin ``costs`` anew.

        Raises RequestError if it was made without ``resets``.
        """
        if self._fresh is None:
            raise RequestError("an adapted model without a copy of its beginning: expected resets=True")
        self._changed, self._kept = self._most()
        self._facts = self.facts
        with outside_inference():
            self._model, self._state = copy.deepcopy(self._fresh)
        self._at_reset, self._reset_at = self._meter.spent, self._shown

    @property
    def costs(self) -> dict[str, float]:
        """What adaptation has cost since the last reset.

        ``batches``, ``forwards``, ``backwards`` (passes over a batch), ``seconds``, ``forward_seconds`` (of one
        pass over each batch), ``adapted_parameters`` (scalars of parameters that differ from those after
        ``prepare``) and ``state_bytes`` (tensors kept beside the network's own parameters and buffers).
        """
        return _summary(self._meter.spent - self._at_reset, *self._now())

    @property
    def spent(self) -> Spent:
        """What was counted since the beginning, without a look at what has changed."""
        return self._meter.spent

    def predict(self, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of a (N, C, H, W) batch, from which nothing is learnt; errors as above.

        What the adapter keeps predicts, by its ``predict`` or else by the network as the last step left it. Its
        passes count, the batch does not.
        """
        with torch.no_grad():
            return self._computed(
                images, lambda batch: predicted(self._adapter, self._state, self._model, batch), adapts=False
            )

    @property
    def totals(self) -> dict[str, float]:
        """The same over all resets: sums, and the most of each parameter and of bytes that were met at one."""
        return _summary(self._meter.spent, *self._most())

    @property
    def adapted_modules(self) -> list[str]:
        """Names of the modules whose parameters have been moved, of parameters that are in none, over all resets."""
        changed = self._most_changed()
        ordered = [name for name, _ in self._model.named_parameters() if name in changed]
        return list(dict.fromkeys(name.rpartition(".")[0] or name for name in [*ordered, *changed]))

    @property
    def facts(self) -> dict[str, Any]:
        """What the adapter's state says of itself by a method ``facts``, over all resets.

        Counts add up; lists hold numbers of batches since a reset, or ranges of them, and become numbers since the
        beginning. Of an adapter that judges domains, ``domain_changes`` are the numbers, from 0, of the batches with
        which it saw a new one, ``judged_batches`` those that it could judge, numbers or ranges ``[first, stop]``.
        """
        facts = facts_of(self._state)
        joined = dict(self._facts)
        for name, value in facts.items():
            if isinstance(value, list):
                own = later(value, self._at_reset.batches)  # of those that it adapted on
                counted = own if len(self._taken) == self._shown else renumbered(own, self._taken)
                joined[name] = [*joined.get(name, []), *counted]
            else:
                joined[name] = joined.get(name, 0) + value
        return joined

    def _now(self) -> tuple[dict[str, int], int]:
        return changed_parameters(self._model, self._before), self._kept_now()

    def _kept_now(self) -> int:
        owned = [tensor for name, tensor in _tensors(self._model).items() if name in self._own_names]
        return kept_bytes((self._model, self._state), owned)

    def _most(self) -> tuple[dict[str, int], int]:
        return self._most_changed(), max(self._kept_now(), self._kept)

    def _most_changed(self) -> dict[str, int]:
        changed = changed_parameters(self._model, self._before)
        return self._changed | {name: max(count, self._changed.get(name, 0)) for name, count in changed.items()}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _summary(spent: Spent, changed: Mapping[str, int], kept: int) -> dict[str, float]:
    return {
        "batches": spent.batches,
        "forwards": spent.forwards,
        "backwards": spent.backwards,
        "seconds": spent.seconds,
        "forward_seconds": spent.forward_seconds,
        "adapted_parameters": sum(changed.values()),
        "state_bytes": kept,
    }


def _checked(given: Any, what: str, kind: tuple[torch.dtype, torch.device]) -> Tensor:
    images = image_tensor(given, what, *kind)
    broken = images.numel() - int(torch.isfinite(images).sum())
    if broken:
        raise RequestError(f"{what} has {broken} values that are not finite; expected finite images")
    return images


def adapt(
    model: nn.Module, method: str | type | Adapter, source_images: Tensor, *, seed: int = 0, **options: Any
) -> AdaptedModel:
    """Adapt a network at test time.

    Parameters
    ----------
    model : the network as deployed, quantized or not; it stays untouched.
    method : an adapter's name (``evalsuite list adapters``), ``package.module:Class`` or ``path.py:Class``; or an
        adapter's class that can be imported, or an instance of one.
    source_images : (N, C, H, W) unlabelled clean images, normalised as the network expects them; an array or a list of
        images will do.
    seed : seed of the adapter's random draws.
    options : the method's options; none beside an instance, which has its own.

    Returns
    -------
    AdaptedModel
        A callable batch (N, C, H, W) -> logits (N, classes), with ``reset()`` and ``costs``.

    Raises
    ------
    RequestError
        If the method, an option or the images are wrong.
    Refused
        If the method does not apply to the model.
    """
    name, options = registry.named("adapters", method, options)
    setting = registry.configure("adapters", name, options)
    return AdaptedModel.from_setting(setting, model, source_images, torch_generator(seed, "adapt", name))
