"""Cutting trials into groups that processes do one after the other: what is shared stays together, the rest is spread.

Trials of one quantized model and adapter share the loaded network. Where the adapter never changes it they share
predictions as well: those that show the same images of a domain are never parted, for each would run the network over
them again. All other trials are independent of each other, so that where they are cut changes no record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evalsuite.hashing import digest_text
from evalsuite.registry import Setting
from evalsuite.running.estimates import Estimates
from evalsuite.study.trials import Trial, adapts

GROUPS_PER_WORKER = 8
"""Into about how many groups the work of a process is cut: the last to end is then late by an eighth at most. Ours."""


class Shown(NamedTuple):
    """What a stream shows.

    Attributes
    ----------
    length : images in all.
    images : different ones of each domain, by their key.
    batch : images of its largest batch; 0: unknown.
    """

    length: int
    images: Mapping[str, int]
    batch: int = 0


Shows = Mapping[tuple[Setting, Setting, int], Shown]
"""What trials show, by task, stream and seed."""
_UNKNOWN = Shown(1, {"": 1})  # of a stream that cannot be laid out, whose trials will fail


def unit(trial: Trial) -> tuple[str, str, str]:
    """Return what trials have in common that share a quantized model, its engine and an adapter."""
    return *trial.network, digest_text(trial.adapter.canonical)


@dataclass(frozen=True, eq=False)
class Schedule:
    """What decides how trials are cut and ordered: the number of processes, what trials show and what they take.

    ``compiled``: whether networks may be evaluated by compiled code (:mod:`evalsuite.running.compiled`).
    """

    workers: int
    estimates: Estimates
    shows: Shows
    compiled: bool = False

    def groups(self, trials: Sequence[Trial]) -> list[list[Trial]]:
        """Cut trials into groups of one :func:`unit` each, those that take longest first.

        One process has nothing to be cut for: it gets whole units, in the order of their first trials.
        """
        units: dict[tuple[str, str, str], list[Trial]] = {}
        for trial in trials:
            units.setdefault(unit(trial), []).append(trial)
        if self.workers == 1:
            return list(units.values())
        parts = [[(part, self.seconds(part)) for part in _parts(own, self.shows)] for own in units.values()]
        most = self.share(sum(seconds for own in parts for _, seconds in own))
        packed = [group for own in parts for group in _packed(own, most)]
        return [group for group, _ in sorted(packed, key=lambda each: -each[1])]

    def share(self, seconds: float) -> float:
        """Return how much of so many seconds of work a group of several parts may hold."""
        return seconds / (self.workers * GROUPS_PER_WORKER)

    def seconds(self, part: Sequence[Trial]) -> float:
        """Return what trials of a unit that share all predictions take, or a single one."""
        rate, first = self.estimates.image_seconds(part[0]), part[0]
        if adapts(first.adapter):
            return rate * sum(_shown(trial, self.shows).length for trial in part)
        images: dict[str, int] = {}
        for trial in part:
            images.update(_shown(trial, self.shows).images)
        return rate * sum(images.values())

    def quantizing_order(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return trials by what their networks take to quantize, those of which nothing is known before all others."""
        known = [self.estimates.quantize_seconds(trial) for trial in trials]
        order = sorted(range(len(known)), key=lambda n: -math.inf if (took := known[n]) is None else -took)
        return [trials[number] for number in order]


def _shown(trial: Trial, shows: Shows) -> Shown:
    return shows.get((trial.task, trial.stream, trial.seed), _UNKNOWN)


def _parts(own: Sequence[Trial], shows: Shows) -> list[list[Trial]]:
    """Return the trials of a unit in parts that share no prediction, each in order."""
    if adapts(own[0].adapter):
        return [[trial] for trial in own]
    first: dict[str, int] = {}
    parent = list(range(len(own)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    for number, trial in enumerate(own):
        for key in _shown(trial, shows).images:
            one, other = root(first.setdefault(key, number)), root(number)
            parent[max(one, other)] = min(one, other)
    parts: dict[int, list[Trial]] = {}
    for number, trial in enumerate(own):
        parts.setdefault(root(number), []).append(trial)
    return list(parts.values())


def _packed(parts: Sequence[tuple[list[Trial], float]], most: float) -> list[tuple[list[Trial], float]]:
    """Join parts in their order to groups of at most so many seconds; a part that takes more stays alone."""
    found: list[tuple[list[Trial], float]] = []
    for part, seconds in parts:
        if found and found[-1][1] + seconds <= most:
            found[-1][0].extend(part)
            found[-1] = (found[-1][0], found[-1][1] + seconds)
        else:
            found.append((list(part), seconds))
    return found
