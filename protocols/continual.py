"""Continual streams: domains one after the other or mixed, classes shuffled, clustered or rare, in one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from evalsuite.corruptions import COMMON, check
from evalsuite.errors import RequestError
from evalsuite.plugins import IntArray, later
from evalsuite.streams import CLEAN, Domain, Stream, batch_starts
from protocols.label_order import burst_order, dirichlet_order, long_tail, sorted_order


@dataclass(frozen=True)
class ContinualOrder:
    """Corruptions one after the other (Wang et al. 2022, arXiv 2203.13591), in the order and mixture asked for.

    A round shows ``images`` test images, the same ones and shuffled anew, at each step: each corruption at its
    severity, or at each of its severities in turn. Batches do not stop at the end of a domain, because nothing tells a
    deployed model where it is. All options compose; the labels are ordered after domains are mixed, bursts come last.

    Parameters
    ----------
    order : corruptions as ``corruptions`` lists them (``usual``), backwards, or in one random order.
    severity : 1..5; the highest, where it is gradual.
    images : test images shown at each step: the first ones, or of a long tail (see ``imbalance``).
    batch_size : images in a batch; the last one of a stream may be smaller.
    clean_first : begin each round with the uncorrupted images.
    reset : ``never``; ``domain``, an oracle that ends batches and resets where the domain (of a mixed stream: the
        round) changes; a number n, before every n-th batch; or ``collapse``, when nearly all of the last 500
        predictions are one class.
    corruptions : their names, in any order; ``clean`` may be among them, or be the only one.
    gradual : each corruption rises from severity 1 to ``severity`` and falls again, a step each (Wang et al. 2022;
        Marsden et al. 2024, arXiv 2306.00650).
    rounds : how often the sequence is shown (recurring domains); :func:`evalsuite.streams.round_of` tells them apart.
    mixed : show all images of a round in one random order, so that a batch holds several domains.
    label_order : ``shuffled``; ``sorted`` by class within each domain (of a mixed stream: each round); or in clusters
        (``dirichlet``; Gong et al. 2022, arXiv 2208.05117; Yuan et al. 2023, arXiv 2303.13899).
    concentration : the Dirichlet distribution's parameter, above 0; a small one keeps a class together. Both papers use
        0.1; see :func:`protocols.label_order.dirichlet_order`.
    slots : into how many parts of a domain its classes are spread; None takes the number of classes, at most 100.
    imbalance : how many times as often as the rarest the most frequent class is shown, by an exponential profile
        (Cui et al. 2019, arXiv 1901.05555) with classes ranked at random.
    constant_speed : batches come as fast as the network predicts them, and an adapter that takes k times as long adapts
        on every k-th (Alfarra et al. 2023, arXiv 2304.04795); its passes are counted for that, not its time.
    own_images : each domain shows images of its own, the next ones of the test set, not the same as the others: as many
        passes over more images, whose errors do not depend on one another; no image is met under two domains then.
    bursts : how many runs of images of one class are gathered, at random times of each domain (of a mixed stream: each
        round). *Ours.*
    burst_length : images in each of them. *Ours.*

    Raises
    ------
    RequestError
        If an option is out of range.
    """

    # Streams that differ in other options only are drawn alike, which is what comparisons want.
    drawn_by: ClassVar[tuple[str, ...]] = (
        *("order", "severity", "images", "batch_size", "clean_first", "reset", "corruptions"),
    )

    order: Literal["usual", "reversed", "random"] = "usual"
    severity: int = 5
    images: int = 1000
    batch_size: int = 64
    clean_first: bool = False
    reset: Literal["never", "domain", "collapse"] | int = "never"
    corruptions: tuple[str, ...] = COMMON
    gradual: bool = False
    rounds: int = 1
    mixed: bool = False
    label_order: Literal["shuffled", "sorted", "dirichlet"] = "shuffled"
    concentration: float = 0.1
    slots: int | None = None
    imbalance: float = 1.0
    bursts: int = 0
    burst_length: int = 16
    constant_speed: bool = later(False)
    own_images: bool = later(False)

    def __post_init__(self) -> None:
        for name in self.corruptions:
            if name != CLEAN:
                check(name, self.severity)
        if not (self.corruptions or self.clean_first) or self.images < 1 or self.batch_size < 1:
            raise RequestError(
                f"a stream of {len(self.corruptions)} corruptions x {self.images} images in batches of "
                f"{self.batch_size}: expected at least one of each"
            )
        for name, least in (("rounds", 1), ("slots", 1), ("bursts", 0), ("burst_length", 2), ("reset", 1)):
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise RequestError(f"{name} = {value}: expected at least {least}")
        if not 0 < self.concentration < math.inf:
            raise RequestError(f"concentration = {self.concentration}: expected a finite number above 0")
        if self.slots is not None and self.slots > self.images:
            raise RequestError(f"slots = {self.slots}: expected at most as many as images of a domain, {self.images}")
        if not 1 <= self.imbalance < math.inf:
            raise RequestError(f"imbalance = {self.imbalance}: expected 1 (as the test set has them) or more")
        if self.own_images and self.imbalance > 1:
            raise RequestError(f"own_images with imbalance = {self.imbalance}: expected one of them")

    def __str__(self) -> str:
        severity = f"1 to {self.severity} and back" if self.gradual else str(self.severity)
        corrupted = any(name != CLEAN for name in self.corruptions)
        named = {"domain": "oracle reset", "collapse": "reset on collapse"}
        reset = named.get(str(self.reset), f"reset every {self.reset} batches")
        parts = {
            f"{self.order} order, severity {severity}" if corrupted else CLEAN: True,
            f"{self.rounds} rounds": self.rounds > 1,
            "mixed domains": self.mixed,
            "sorted labels": self.label_order == "sorted",
            f"Dirichlet {self.concentration:g} labels": self.label_order == "dirichlet",
            f"long tail {self.imbalance:g}": self.imbalance > 1,
            f"{self.bursts} bursts of {self.burst_length}": self.bursts > 0,
            f"batches of {self.batch_size}": self.batch_size != ContinualOrder.batch_size,
            reset: self.reset != "never",
            "constant speed": self.constant_speed,
            "images of its own for each domain": self.own_images,
        }
        return ", ".join(part for part, said in parts.items() if said)

    @property
    def length(self) -> int:
        """Number of images in the stream."""
        return self.rounds * len(self._steps(self.corruptions)) * self.images

    def domains(self) -> tuple[Domain, ...]:
        """Return the domains as they first come, or as ``corruptions`` lists them where the order is random."""
        return tuple(dict.fromkeys(self._steps(self._names())))

    def _names(self) -> tuple[str, ...]:
        return self.corruptions[::-1] if self.order == "reversed" else self.corruptions

    def _steps(self, names: Sequence[str]) -> list[Domain]:
        """Return what a round shows, step by step."""
        rising = range(1 if self.gradual else self.severity, self.severity + 1)
        severities = [*rising, *rising[-2::-1]]
        steps = [Domain()] if self.clean_first else []
        for name in names:
            steps += [Domain()] if name == CLEAN else [Domain(name, severity) for severity in severities]
        return steps

    def _first_images(self) -> dict[Domain, int]:
        """Return the first test image that each domain shows, the same in whatever order the domains come."""
        domains = dict.fromkeys(self._steps(self.corruptions))
        return {domain: place * self.images * self.own_images for place, domain in enumerate(domains)}

    def plan(self, labels: IntArray, generator: np.random.Generator) -> Stream:
        """Lay out the stream.

        Raises
        ------
        RequestError
            If the test set has fewer images, a class too few for the long tail, or all too few for a burst.
        """
        first = self._first_images()
        if max(first.values()) + self.images > len(labels):
            apart = f" for each of {len(first)}, none shown by two" if self.own_images else ""
            raise RequestError(f"{self.images} images a domain{apart}: the test set has {len(labels)}")
        # A generator for each option, so that none changes what another draws.
        ordering, ranking, mixing, labelling, bursting = generator.spawn(5)
        shown = np.arange(self.images)
        if self.imbalance > 1:
            shown = long_tail(labels, self.images, self.imbalance, ranking)
        domains = self.domains()
        names = self._names()
        if self.order == "random":
            names = tuple(names[k] for k in ordering.permutation(len(names)))
        shows = self._steps(names)
        steps = [domains.index(step) for step in shows]
        together = len(shown) * (len(steps) if self.mixed else 1)
        orders = [first[step] + shown[generator.permutation(len(shown))] for _ in range(self.rounds) for step in shows]
        image = np.concatenate(orders)
        domain = np.tile(np.repeat(np.array(steps, dtype=np.int16), len(shown)), self.rounds)
        classes = labels[image]
        for begin in range(0, len(image), together):
            own = slice(begin, begin + together)
            place = self._arranged(classes[own], mixing, labelling, bursting)
            image[own], domain[own] = image[own][place], domain[own][place]
        starts, resets = self._batches(len(image), together)
        number = np.repeat(np.arange(self.rounds, dtype=np.int16), len(image) // self.rounds)
        return Stream(
            *(domains, image.astype(np.int32), domain, starts, resets),
            reset_on_collapse=self.reset == "collapse",
            round=number,
            constant_speed=self.constant_speed,
        )

    def _arranged(
        self,
        labels: IntArray,
        mixing: np.random.Generator,
        labelling: np.random.Generator,
        bursting: np.random.Generator,
    ) -> NDArray[np.intp]:
        """Return the order in which the images of a domain, or of a mixed round, are shown."""
        place = mixing.permutation(len(labels)) if self.mixed else np.arange(len(labels))
        if self.label_order == "sorted":
            place = place[sorted_order(labels[place])]
        elif self.label_order == "dirichlet":
            place = place[dirichlet_order(labels[place], self.concentration, self.slots, labelling)]
        if self.bursts:
            place = place[burst_order(labels[place], self.bursts, self.burst_length, bursting)]
        return place

    def _batches(self, length: int, together: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return batch starts and resets of a stream in which every ``together`` images belong together."""
        if self.reset == "domain":
            within = batch_starts(together, self.batch_size)
            starts = (np.arange(0, length, together)[:, None] + within).ravel()
            return starts, np.tile(within == 0, length // together)
        starts = batch_starts(length, self.batch_size)
        every = 0 if isinstance(self.reset, str) else self.reset
        return starts, np.arange(len(starts)) % every == 0 if every else np.zeros(len(starts), dtype=np.bool_)
