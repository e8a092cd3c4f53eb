"""A study in parts that machines do without knowing of each other: the same parts on each of them."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass

from evalsuite.errors import RequestError
from evalsuite.study.cost import passes_by_model, repetitions
from evalsuite.study.settings import Study
from evalsuite.study.trials import Trial, references

_WRITTEN = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Shard:
    """One of the parts that a study is cut into.

    Parameters
    ----------
    number : which, from 1.
    of : how many there are.

    Raises
    ------
    RequestError
        If there is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not all(type(each) is int for each in (self.number, self.of)) or not 1 <= self.number <= self.of:
            raise RequestError(f"shard {self}: expected K/N with whole numbers, K from 1 to N")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``K/N``. Raises RequestError if it says something else."""
        match = _WRITTEN.fullmatch(text.strip())
        if match is None:
            raise RequestError(f"shard {text!r}: expected K/N with whole numbers, for example 1/4")
        return cls(int(match[1]), int(match[2]))


def folder_name(study: Study, shard: Shard | None) -> str:
    """Return how the folder of a run is called unless the user says otherwise."""
    return study.name if shard is None else f"{study.name}-{shard.number}-of-{shard.of}"


def part_of(trials: Sequence[Trial], study: Study, shard: Shard) -> list[Trial]:
    """Return the trials of a shard in their order, with the references that they are compared with.

    Each trial is in one shard, a reference in every shard that has a trial of its task, stream and seed: a model that
    does not adapt costs one pass an image, and so each shard is a run that can be reported by itself.

    Parameters
    ----------
    trials : all of the study's.

    Raises
    ------
    RequestError
        If there are more shards than models.
    """
    own = split(trials, study, shard.of)[shard.number - 1]
    chosen = {trial.identity for trial in own} | {each.identity for each in map(references(study), own)}
    return [trial for trial in trials if trial.identity in chosen]


def split(trials: Sequence[Trial], study: Study, parts: int) -> list[list[Trial]]:
    """Deal trials out to so many parts, all those of one quantized model to one of them.

    Models are dealt by falling estimated cost (image passes and one for each trial), each to the part that has least
    so far (R. L. Graham, SIAM J. Appl. Math. 17, 1969: no part gets more than 4/3 of the best split's largest). What
    quantizing costs is not known before it is done, but it is alike for the models of a method and task: those of
    equal cost are dealt method by method, so that every part gets its share of the slow ones. *Ours.*

    Which trials a part gets depends on their settings and digests only, not on their order.

    Raises
    ------
    RequestError
        If there are more parts than models.
    """
    models: dict[str, list[Trial]] = {}
    for trial in trials:
        models.setdefault(trial.quantization, []).append(trial)
    if parts > len(models):
        raise RequestError(f"{parts} shards of {len(models)} models: expected at most one a model, quantized or not")
    passes, shows = passes_by_model(trials), repetitions(study)
    costs = {model: shows * passes[model] + len(own) for model, own in models.items()}
    kinds = {model: f"[{own[0].task.canonical},{own[0].quantizer.canonical}]" for model, own in models.items()}
    loads = [(0, number) for number in range(parts)]  # a heap
    place = {}
    for model in sorted(models, key=lambda model: (-costs[model], kinds[model], model)):
        load, number = loads[0]
        heapq.heapreplace(loads, (load + costs[model], number))
        place[model] = number
    dealt: list[list[Trial]] = [[] for _ in range(parts)]
    for trial in trials:
        dealt[place[trial.quantization]].append(trial)
    return dealt
