"""What an audit asks: the target against each rival at equal bits, one question after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis._settings import baselines
from evalsuite.analysis.outcomes import Combination, Outcome, Outcomes
from evalsuite.analysis.verdict import Condition, Question
from evalsuite.hashing import canonical_json
from evalsuite.registry import Setting
from evalsuite.store import Run


@dataclass(frozen=True)
class Plain:
    """The settings of a task to which the others are held: the study's first stream and calibration set, no adapter."""

    calibration: str
    adapter: str
    stream: str

    @classmethod
    def of(cls, each: Combination) -> Plain:
        """Return those of a combination."""
        return cls(each.calibration, each.adapter, each.stream)


@dataclass(frozen=True, eq=False)
class Contest:
    """The target against one rival, all else equal.

    ``before``: the two with the first calibration set, where the question is what another set changes.
    """

    question: Question
    target: Combination
    rival: Combination
    before: tuple[Combination, Combination] | None = None

    @property
    def condition(self) -> Condition:
        """Under what the two were measured."""
        return condition_of(self.target)

    def outcomes(self) -> list[tuple[Outcome, ...]]:
        """Return (target, rival), and those before, by seed that is done for all and shows all the same rows."""
        sides = [self.target, self.rival, *(self.before or ())]
        seeds = [seed for seed in self.target.outcomes if all(seed in side.outcomes for side in sides)]
        found = [tuple(side.outcomes[seed] for side in sides) for seed in seeds]
        return [each for each in found if len({id(outcome.layout) for outcome in each}) == 1]


def condition_of(each: Combination) -> Condition:
    """Return the labels of what a combination was measured under."""
    return Condition(
        task=each.task,
        bits=str(each.facts["bits"]),
        calibration=each.calibration,
        adapter=each.adapter,
        stream=each.stream,
    )


def method_name(each: Combination) -> str:
    """Return a quantizer's label without its bits, which :func:`evalsuite.study.labels.labels` puts last."""
    return each.quantizer.removesuffix(f" {each.facts['bits']}")


def trials_of(run: Run, setting: Setting) -> pd.DataFrame:
    """Return the rows of the trials of one quantizer with one set of options."""
    trials = run.trials
    chosen = trials["quantizer"] == setting.name
    for option, value in setting.values().items():
        column = f"quantizer.{option}"
        recorded = trials[column] if column in trials else pd.Series(None, trials.index, object)
        chosen &= recorded.isna() if value is None else recorded.isin([_hashable(value), canonical_json(value)])
    return trials[chosen]


def _hashable(value: Any) -> Any:
    return None if isinstance(value, list | dict) else value


def plain_settings(run: Run) -> dict[str, Plain]:
    """Return, by task, the settings to which the others are held."""
    unadapted = {task: adapter for task, (_, adapter) in baselines(run).items()}
    quantized = run.trials[run.trials["weight_bits"].notna()].drop_duplicates("task")
    columns = (quantized[name] for name in ("task", "calibration_label", "stream_label"))
    return {
        task: Plain(calibration, unadapted[task], stream)
        for task, calibration, stream in zip(*columns, strict=True)
        if task in unadapted
    }


def panels_of(outcomes: Outcomes, plain: dict[str, Plain]) -> Iterator[list[Combination]]:
    """Yield the quantized networks of each task and bit width in the plain settings."""
    found: dict[tuple[str, str], list[Combination]] = {}
    for each in outcomes.combinations:
        if Plain.of(each) == plain.get(each.task) and not each.is_reference:
            found.setdefault((each.task, str(each.facts["bits"])), []).append(each)
    yield from found.values()


def contests_of(outcomes: Outcomes, target: Collection[str], plain: dict[str, Plain]) -> Iterator[Contest]:
    """Yield what is asked of the quantizer with these labels; ``plain``: by task.

    ``mean``, ``worst class`` and ``noise`` (worst domain) are asked of the plain settings, ``calibration`` of each
    other calibration set, ``adaptation`` of each adapter on the first stream, ``streams`` of each combination on
    another stream, but for what shows the unadapted network the same images again.
    """
    found: dict[tuple[str, ...], list[Combination]] = {}
    for each in outcomes.combinations:
        if each.task in plain and not each.is_reference:
            key = (each.task, str(each.facts["bits"]), each.calibration, each.adapter, each.stream)
            found.setdefault(key, []).append(each)
    for (task, bits, *labels), members in found.items():
        own, first = [each for each in members if each.quantizer in target], plain[task]
        settled = (first.calibration, first.adapter, first.stream)
        basis = {each.quantizer: each for each in found.get((task, bits, *settled), ())}
        for question in _questions(first, tuple(labels), _shows_again(own, basis)):
            for rival in members if own else ():
                if rival.quantizer in target:
                    continue
                if question != "calibration":
                    yield Contest(question, own[0], rival)
                elif {own[0].quantizer, rival.quantizer} <= basis.keys():
                    yield Contest(question, own[0], rival, (basis[own[0].quantizer], basis[rival.quantizer]))


def _questions(first: Plain, labels: tuple[str, ...], again: bool) -> tuple[Question, ...]:
    """Return what is asked of combinations with these labels of calibration set, adapter and stream."""
    changed = tuple(own != usual for own, usual in zip(labels, vars(first).values(), strict=True))
    asked: dict[tuple[bool, ...], tuple[Question, ...]] = {
        (False, False, False): ("mean", "worst class", "noise"),
        (True, False, False): ("calibration",),
        (False, True, False): ("adaptation",),
        (False, False, True): () if again else ("streams",),
        (False, True, True): ("streams",),
    }
    return asked.get(changed, ())


def _shows_again(own: list[Combination], basis: dict[str, Combination]) -> bool:
    """Whether a combination of the target shows what it shows in the plain settings, in another order at most."""
    return any(
        each.quantizer in basis
        and {id(outcome.layout) for outcome in each.outcomes.values()}
        <= {id(outcome.layout) for outcome in basis[each.quantizer].outcomes.values()}
        for each in own
    )
