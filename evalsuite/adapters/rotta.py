"""RoTTA: robust adaptation in correlated, changing streams (Yuan et al. 2023, arXiv 2303.13899)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evalsuite.adapters._augmentation import Jitter, PixelScale, Views
from evalsuite.adapters._gradient import Adjustment, descend, follow, unadjusted
from evalsuite.adapters._losses import cross_entropy_between, softmax_entropy
from evalsuite.adapters._norms import affine_parameters, batch_norms, channel_moments
from evalsuite.errors import Refused, RequestError


@dataclass(frozen=True)
class RoTTA:
    """Robust BatchNorm, a memory balanced by category and time, and a mean teacher.

    BatchNorm normalises with a slowly moving average of statistics, which only the memory's images move. Every image
    is judged for the memory by the class predicted for it, its age and its entropy; after every ``update_every``
    images the student learns from the teacher's predictions on the memory, old ones weighing less, and the teacher
    follows. Predictions are the teacher's.

    Parameters
    ----------
    lr : of Adam (beta1 0.9), 1e-3.
    bank : images remembered, 64.
    update_every : images between two updates, 64.
    ema : share of the student that the teacher takes, 0.001.
    statistics : share of a batch that BatchNorm's average takes, 0.05.
    age_weight : of an image's age, by which the memory judges what to forget, 1.
    entropy_weight : of the entropy of its prediction, by which the memory judges likewise, 1.
    views : ``batch``: the student sees all images of the memory changed alike, as in the authors' program; ``image``:
        each in its own way (*ours*).

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    lr: float = 1e-3
    bank: int = 64
    update_every: int = 64
    ema: float = 0.001
    statistics: float = 0.05
    age_weight: float = 1.0
    entropy_weight: float = 1.0
    views: Views = "batch"

    def __post_init__(self) -> None:
        for name in ("lr", "bank", "update_every"):
            if not 0 < getattr(self, name) < float("inf"):
                raise RequestError(f"{name} = {getattr(self, name)}: expected more than 0")
        for name in ("ema", "statistics"):
            if not 0 <= getattr(self, name) <= 1:
                raise RequestError(f"{name} = {getattr(self, name)}: expected 0 to 1")

    @property
    def expected_passes(self) -> float:
        """The teacher's, and in an update two forwards and a backward of the whole memory."""
        return 1 + 4 * self.bank / self.update_every

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> RoTTAState:
        """Make BatchNorm robust and copy the network as teacher. Refused without BatchNorm that has statistics."""
        norms = batch_norms(model)
        if not norms or any(norm.running_mean is None for norm in norms):
            raise Refused("rotta needs BatchNorm layers with source statistics; this model has none (or folded ones)")
        model.requires_grad_(False)
        parameters = [parameter for norm in norms for parameter in affine_parameters(norm)]
        if not parameters:
            raise Refused("rotta needs BatchNorm layers with affine parameters; this model has none")
        teacher = copy.deepcopy(model)
        for parameter in parameters:
            parameter.requires_grad_(True)
        gates = [_made_robust(network, self.statistics) for network in (model, teacher)]
        return RoTTAState(
            model=model,
            teacher=teacher,
            gates=gates,
            optimizer=torch.optim.Adam(parameters, lr=self.lr, betas=(0.9, 0.999)),
            memory=Memory(self.bank, self.age_weight, self.entropy_weight),
            scale=PixelScale.of(source),
            generator=generator,
        )

    def step(self, state: RoTTAState, images: Tensor) -> Tensor:
        """Return the teacher's (N, classes) logits of (N, C, H, W) images, then learn when it is time."""
        with torch.no_grad():
            logits: Tensor = state.teacher(images)
        for image, own, entropy in zip(images, logits, softmax_entropy(logits), strict=True):
            if bool(entropy.isfinite()):
                state.memory.offer(image, int(own.argmax()), float(entropy), classes=len(own))
            state.waiting += 1
            if state.waiting >= self.update_every and state.memory.images:
                self._learn(state)
                state.waiting = 0
        return logits

    def predict(self, state: RoTTAState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images by the teacher as it is; none enters the memory."""
        logits: Tensor = state.teacher(images)
        return logits

    def _learn(self, state: RoTTAState) -> None:
        images, ages = state.memory.contents()
        weights = torch.exp(-ages) / (1 + torch.exp(-ages))
        for gate in state.gates:
            gate.open = True
        with torch.no_grad():
            target = state.teacher(images)
        with torch.enable_grad():
            logits = state.model(Jitter(views=self.views)(images, state.scale, state.generator))
            losses = cross_entropy_between(state.adjust(logits), target)
            taken = descend(state.optimizer, (losses * weights.to(losses)).mean())
        for gate in state.gates:
            gate.open = False
        state.skipped += not taken
        if taken:
            follow(state.teacher, state.model, self.ema)


@dataclass
class RoTTAState:
    """What RoTTA keeps between batches.

    Attributes
    ----------
    gates : of student and teacher; open while they look at the memory.
    waiting : images since the last update.
    skipped : how many updates were not made because they were not finite.
    """

    model: nn.Module
    teacher: nn.Module
    gates: list[_Gate]
    optimizer: torch.optim.Optimizer
    memory: Memory
    scale: PixelScale
    generator: torch.Generator
    adjust: Adjustment = unadjusted
    waiting: int = 0
    skipped: int = 0

    def facts(self) -> dict[str, int]:
        """Return what a trial's row should say."""
        return {"skipped": self.skipped}


@dataclass
class _Gate:
    """Moves BatchNorm's running statistics towards the input about to be normalised, while it is open.

    The normalisation uses the moved statistics, with the batch's own part differentiable in the paper; here they are
    constants of the backward pass (*choice*).
    """

    share: float
    open: bool = False

    @torch.no_grad()
    def move(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Forward pre-hook of a BatchNorm layer."""
        if not self.open:
            return
        assert isinstance(module, _BatchNorm)
        assert module.running_mean is not None
        assert module.running_var is not None
        mean, variance = channel_moments(args[0])
        module.running_mean.lerp_(mean, self.share)
        module.running_var.lerp_(variance, self.share)


def _made_robust(model: nn.Module, share: float) -> _Gate:
    gate = _Gate(share)
    for norm in batch_norms(model):
        norm.register_forward_pre_hook(gate.move)
    return gate


@dataclass
class Memory:
    """Category-balanced sampling with timeliness and uncertainty (arXiv 2303.13899, section 3.3).

    An image's score grows with its age and its entropy; the highest goes first. Only a class that holds the most
    images, or at least its share of the room, gives one up.
    """

    room: int
    age_weight: float
    entropy_weight: float
    images: list[Tensor] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)

    def offer(self, image: Tensor, label: int, entropy: float, classes: int) -> None:
        """Take one (C, H, W) image in, if it is worth the place of another."""
        held = [self.labels.count(c) for c in range(classes)]
        if held[label] >= self.room / classes:
            free = self._make_room({label}, entropy, classes)
        elif len(self.images) >= self.room:
            free = self._make_room({c for c in range(classes) if held[c] == max(held)}, entropy, classes)
        else:
            free = True
        if free:
            self.images.append(image.detach().clone())
            self.labels.append(label)
            self.entropies.append(entropy)
            self.ages.append(0)
        self.ages = [age + 1 for age in self.ages]

    def _make_room(self, classes: set[int], entropy: float, count: int) -> bool:
        scores = {k: self._score(self.ages[k], self.entropies[k], count) for k in range(len(self.images))}
        candidates = [k for k in scores if self.labels[k] in classes]
        worst = max(candidates, key=lambda k: scores[k], default=None)
        if worst is None or scores[worst] <= self._score(0, entropy, count):
            return worst is None
        for column in (self.images, self.labels, self.entropies, self.ages):
            del column[worst]
        return True

    def _score(self, age: int, entropy: float, classes: int) -> float:
        timeliness = 1 / (1 + math.exp(-age / self.room))
        return self.age_weight * timeliness + self.entropy_weight * entropy / math.log(classes)

    def contents(self) -> tuple[Tensor, Tensor]:
        """Return the images (n, C, H, W) and their ages as a share of the room, (n,)."""
        return torch.stack(self.images), torch.tensor(self.ages, dtype=torch.float32) / self.room
