"""ZOA: continual zeroth-order adaptation of a quantized network (Deng et al. 2025, arXiv 2508.02180).

Where paper and reference program are silent, the docstrings of this module and of its parts say *choice*.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evalsuite.adaptation.batches import as_ranges
from evalsuite.adapters._bank import KnowledgeBank
from evalsuite.adapters._detector import Distance, DomainDetector, WhitenedDistance, gaussian_distance
from evalsuite.adapters._losses import softmax_entropy
from evalsuite.adapters._norms import FlatParameters, affine_norms, before_tail, finite, use_batch_statistics
from evalsuite.adapters._observer import (
    SOURCE_BATCH,
    Moments,
    Observation,
    Observer,
    moment_distance,
    source_statistics,
)
from evalsuite.adapters._spsa import gradient_estimate, perturbation
from evalsuite.errors import AdaptationWarning, Refused, RequestError
from evalsuite.plugins import later
from evalsuite.structure import Structure, describe

_HISTORY = 0.9

# The authors' values: ViT-B W8A8 (they take lr 2e-4 for W6A6; bits are unknown here) and ResNet-50 W8A8.
_AUTHORS: dict[str, dict[str, float]] = {
    "transformer": {"lr": 5e-4, "scale": 0.02, "moment_weight": 30.0, "threshold": 0.1},
    "cnn": {"lr": 1e-4, "scale": 0.01, "moment_weight": 1.0, "threshold": 0.2},
}
# Ours: above all distances within a domain of four held-out corruptions at severities 1, 3 and 5.
_WHITENED_THRESHOLD = {"transformer": 0.035, "cnn": 0.06}


@dataclass(frozen=True)
class ZOA:
    """Zeroth-order adaptation of norm parameters with a bank of domain knowledge: two forwards a batch.

    Options that are None take the authors' value for the architecture: ViT-B W8A8 for transformers, ResNet-50 W8A8
    for CNNs.

    Parameters
    ----------
    lr : learning rate of epsilon, the current domain's offset (5e-4 transformer, 1e-4 CNN).
    scale : size of epsilon's perturbation (0.02, 0.01).
    moment_weight : weight of the batch statistics' distance from the source's in the loss (30, 1).
    threshold : distance at which the detector sees a new domain (0.1, 0.2; 0.035, 0.06 with the whitened
        distance, *ours*).
    decay : weight decay of epsilon.
    coefficient_lr : learning rate (AdamW) of the bank's coefficients.
    coefficient_scale : size of their perturbation.
    coefficient_decay : their weight decay.
    keep_moments : whether AdamW keeps its moments between steps. Without, as in the authors' program, each coefficient
        moves by its rate a batch, whatever the size of the estimate.
    softmax_scale : factor of the coefficients in their softmax.
    bank : largest number of domains remembered. With 0 nothing is stored: epsilon goes on into the next domain, and a
        change resets the activation shift alone.
    margin : mean |epsilon| of any parameter tensor that storing may leave.
    perturbations : directions averaged a batch; a batch costs 1 + this many forwards.
    min_batch : the detector does not judge smaller batches; the first of them gives a warning.
    activation_shift : whether predictions are made on features moved toward the source mean. *Choice*: left out,
        with a warning, where the logits are not the head's output of one feature vector per image.
    shift_reset : when a new domain resets the shift: ``before`` its first batch is predicted, or ``after``, as in the
        authors' program, which shifts that batch by the old domain's history. *Choice*: before.
    detector_passes : whose statistics move the detector's running ones: the ``first`` pass of a batch, or ``all``, as
        in the authors' program, whose detector so forgets faster. *Choice*: first.
    detector_start : where the running statistics begin: with the ``stream``'s first batch, or with the ``source``
        images, as in the authors' program for CNNs, so that the first batch can be a change. *Choice*: stream.
    distance : what the detector measures: the authors' divergence of ``gaussian`` channels, or the ``whitened`` one
        (*ours*, :class:`evalsuite.adapters._detector.WhitenedDistance`).

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    lr: float | None = None
    scale: float | None = None
    moment_weight: float | None = None
    threshold: float | None = None
    decay: float = 0.4
    coefficient_lr: float = 0.01
    coefficient_scale: float = 0.05
    coefficient_decay: float = 0.1
    softmax_scale: float = 10.0
    bank: int = 32
    margin: float = 0.01
    perturbations: int = 1
    min_batch: int = 64
    activation_shift: bool = True
    keep_moments: bool = False
    shift_reset: Literal["before", "after"] = "before"
    detector_passes: Literal["first", "all"] = "first"
    detector_start: Literal["stream", "source"] = "stream"
    distance: Literal["gaussian", "whitened"] = later("gaussian")

    def __post_init__(self) -> None:
        for name in ("scale", "coefficient_scale", "softmax_scale", "margin", "perturbations", "min_batch"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise RequestError(f"{name} = {value}: expected more than 0")
        for name in ("lr", "moment_weight", "threshold", "decay", "coefficient_lr", "coefficient_decay", "bank"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise RequestError(f"{name} = {value}: expected 0 or more")

    @property
    def expected_passes(self) -> float:
        """One forward and one for each direction."""
        return 1 + self.perturbations

    def prepare(self, model: nn.Module, source: Tensor, generator: torch.Generator) -> ZOAState:
        """Find what adapts and measure the source statistics, in the mode in which test batches are seen (*choice*).

        Refused where no norm has affine parameters, or with fewer than two source images.
        """
        if len(source) < 2:
            raise Refused(f"zoa needs at least 2 source images for their statistics; got {len(source)}")
        structure = describe(model, source)
        norms = adapted_norms(model, structure)
        if not norms:
            raise Refused("zoa needs norm layers with affine parameters; this model has none (or folded ones)")
        model.requires_grad_(False)
        use_batch_statistics(model)
        flat = FlatParameters(model.get_submodule(name) for name in norms)
        start = flat.read()
        observer = Observer(model, structure)
        statistics, feature, shiftable = source_statistics(observer, source)
        if self.activation_shift and not shiftable:
            warnings.warn(
                "zoa: the logits are not the head's output of one feature vector per image, "
                "so predictions are made without the activation shift",
                AdaptationWarning,
                stacklevel=3,  # past AdaptedModel
            )
        authors = _AUTHORS[structure.architecture]
        if self.distance == "whitened":
            authors = authors | {"threshold": _WHITENED_THRESHOLD[structure.architecture]}
        given = {name: getattr(self, name) for name in authors}
        options = _Options(**{name: authors[name] if value is None else value for name, value in given.items()})
        bank = KnowledgeBank(flat.sizes, self.bank, self.softmax_scale, like=start)
        return ZOAState(
            observer=observer,
            flat=flat,
            start=start,
            epsilon=torch.zeros_like(start),
            bank=bank,
            optimizer=self._coefficient_optimizer(bank),
            detector=self._detector(options.threshold, observer, source),
            statistics=statistics,
            source_feature=feature,
            shifts=self.activation_shift and shiftable,
            options=options,
            generator=generator,
        )

    @torch.no_grad()
    def _detector(self, threshold: float, observer: Observer, source: Tensor) -> DomainDetector:
        distance: Distance = gaussian_distance
        if self.distance == "whitened":
            stems = [observer(image).stem for image in source[:, None]]
            means, variances = ([getattr(stem, name) for stem in stems] for name in ("mean", "spread"))
            distance = WhitenedDistance.of_images(torch.stack(means), torch.stack(variances))
        detector = DomainDetector(threshold, self.min_batch, distance)
        if self.detector_start == "source":
            for images in source.chunk(-(-len(source) // SOURCE_BATCH)):
                stem = observer(images).stem
                detector.follow(len(images), stem.mean, stem.spread)
        return detector

    def _coefficient_optimizer(self, bank: KnowledgeBank) -> torch.optim.Optimizer:
        return torch.optim.AdamW([bank.coefficients], lr=self.coefficient_lr, weight_decay=self.coefficient_decay)

    @torch.no_grad()
    def step(self, state: ZOAState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images, then move along one gradient estimate."""
        if state.detector.unjudged == 0 and len(images) < self.min_batch:
            warnings.warn(
                f"zoa: a batch of {len(images)} images is under min_batch = {self.min_batch}; the detector does not "
                "judge such batches, so domain changes in them go unseen",
                AdaptationWarning,
                stacklevel=4,  # past no_grad and AdaptedModel
            )
        seen = state.observer(images)
        changed = state.detector.changed(len(images), seen.stem.mean, seen.stem.spread)
        if changed:
            state.epsilon = state.bank.store(state.epsilon, self.margin)
            state.optimizer = self._coefficient_optimizer(state.bank)
            state.domain_changes.append(state.batches)
        logits = state.predict(seen, changed, self.shift_reset)
        self._update(state, images, state.loss(seen))
        state.batches += 1
        return logits

    @torch.no_grad()
    def predict(self, state: ZOAState, images: Tensor) -> Tensor:
        """Return the (N, classes) logits of (N, C, H, W) images, shifted by the history; nothing is judged."""
        return state.shifted(state.observer(images))

    def _update(self, state: ZOAState, images: Tensor, before: Tensor) -> None:
        bank, options = state.bank, state.options
        slope = torch.zeros_like(state.epsilon)
        coefficient_slope = torch.zeros_like(bank.coefficients)
        for _ in range(self.perturbations):
            direction = perturbation(len(slope), state.generator).to(slope)
            turn = perturbation(len(coefficient_slope), state.generator).to(slope)
            mixed = bank.mix(bank.coefficients + self.coefficient_scale * turn)
            state.flat.write(state.start + mixed + state.epsilon + options.scale * direction)
            seen = state.observer(images)
            if self.detector_passes == "all":
                state.detector.follow(len(images), seen.stem.mean, seen.stem.spread)
            after = state.loss(seen)
            slope += gradient_estimate(before, after, options.scale, direction) / self.perturbations
            coefficient_slope += gradient_estimate(before, after, self.coefficient_scale, turn) / self.perturbations
        if finite([slope, coefficient_slope]):
            state.epsilon = state.epsilon * (1 - options.lr * self.decay) - options.lr * slope
            if len(bank) > 0:
                bank.coefficients.grad = coefficient_slope
                state.optimizer.step()
                state.optimizer.zero_grad(set_to_none=True)
                if not self.keep_moments:
                    state.optimizer.state.clear()
        else:
            state.skipped += 1
        state.flat.write(state.start + bank.mix() + state.epsilon)


@dataclass(frozen=True)
class _Options:
    """The options that depend on the architecture, filled in."""

    lr: float
    scale: float
    moment_weight: float
    threshold: float


@dataclass
class ZOAState:
    """What ZOA keeps between batches.

    Attributes
    ----------
    start, epsilon : (P,) source values of the adapted parameters, and the current domain's offset.
    shifts : whether the activation shift is applied: it was asked for, and the head gives the model's logits
        (*choice*).
    history : (D,) running batch mean of the head's input in this domain; None before its first batch.
    domain_changes : numbers of the batches at which a new domain was seen, from 0.
    batches, skipped : batches seen, and those whose update was not finite and not made.
    """

    observer: Observer
    flat: FlatParameters
    start: Tensor
    epsilon: Tensor
    bank: KnowledgeBank
    optimizer: torch.optim.Optimizer
    detector: DomainDetector
    statistics: list[Moments]
    source_feature: Tensor
    shifts: bool
    options: _Options
    generator: torch.Generator
    history: Tensor | None = None
    domain_changes: list[int] = field(default_factory=list)
    batches: int = 0
    skipped: int = 0

    def facts(self) -> dict[str, Any]:
        """Return what a trial's row should say: where domains changed, among which batches, and what was left out."""
        return {
            "domain_changes": list(self.domain_changes),
            "judged_batches": as_ranges(self.detector.judged),
            "unjudged": self.detector.unjudged,
            "skipped": self.skipped,
        }

    @property
    def bank_entries(self) -> int:
        """Domains remembered."""
        return len(self.bank)

    def loss(self, seen: Observation) -> Tensor:
        """Mean entropy plus the weighted distance of the batch statistics from the source's, a scalar."""
        distance = moment_distance(seen.groups, self.statistics)
        return softmax_entropy(seen.logits).mean() + self.options.moment_weight * distance

    def predict(self, seen: Observation, changed: bool, reset: Literal["before", "after"]) -> Tensor:
        """Return the (N, classes) logits, shifted by the history of earlier batches (*choice*: without this one).

        Where the domain has ``changed``, the history is begun anew ``before`` or ``after`` the prediction.
        """
        if not self.shifts:
            return seen.logits
        mean, known = seen.feature.mean(dim=0), self.history
        logits = seen.logits if changed and reset == "before" else self.shifted(seen)
        self.history = mean if known is None or changed else _HISTORY * known + (1 - _HISTORY) * mean
        return logits

    def shifted(self, seen: Observation) -> Tensor:
        """Return the (N, classes) logits of features moved by the distance of their history from the source's mean."""
        if not self.shifts or self.history is None:
            return seen.logits
        return self.observer.classify(seen.feature + (self.source_feature - self.history))


def adapted_norms(model: nn.Module, structure: Structure) -> tuple[str, ...]:
    """Return the norms that ZOA adapts, in order of execution.

    Left alone are all norms up to the end of the first block, and all from the last stage (CNN) or the last quarter
    of the blocks, at least one (transformer), to the head; in a CNN also norms on shortcuts and the last norm of
    each bottleneck. *Choice*: a bottleneck is a block with at least three norms on its main path; where the rule
    leaves nothing (few blocks, one stage), all norms with affine parameters adapt.
    """
    with_parameters = set(map(id, affine_norms(model)))
    norms = [name for name in structure.norms if id(model.get_submodule(name)) in with_parameters]
    chosen = [name for name in norms if name in _between(structure)]
    return tuple(chosen or norms)


def _between(structure: Structure) -> set[str]:
    if not structure.blocks:
        return set()
    position = {name: index for index, name in enumerate(structure.norms)}
    first = [position[norm] for norm in structure.block_norms[structure.blocks[0]]]
    inside = set(before_tail(structure)[max(first, default=-1) + 1 :])
    if structure.architecture == "cnn":
        inside -= set(structure.shortcut_norms)
        for block in structure.blocks:
            main = [norm for norm in structure.block_norms[block] if norm not in structure.shortcut_norms]
            inside -= set(main[-1:] if len(main) >= 3 else [])
    return inside
