"""Records in, ``summary.csv`` and ``comparisons.csv`` out; the columns are described in ``docs/design.md``.

Combinations of one task that show the same images are the columns of one array and share bootstrap draws and
permutations. The draws depend on the study's seed and the task alone, so that a row is the same whatever
else is in the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from evalsuite.files import write_text
from evalsuite.metrics import between_group_deviation, cvar, group_means, worst_group
from evalsuite.outcomes import (
    COMBINATION,
    GROUPS,
    Combination,
    Int8Array,
    Outcome,
    Outcomes,
    Rows,
    pooled,
    read_outcomes,
)
from evalsuite.randomness import numpy_generator
from evalsuite.statistics import holm, paired_bootstrap, wilcoxon_signed_rank, worst_group_null
from evalsuite.store import Run

_OF_A_GROUP = (
    *("worst_{}", "worst_{}_size", "worst_{}_error"),
    *("worst_drop_{}", "worst_drop_{}_value", "worst_drop_{}_low", "worst_drop_{}_high"),
    *("worst_drop_{}_null", "worst_drop_{}_p", "worst_drop_{}_p_holm"),
    *("cvar10_{}", "cvar25_{}", "deviation_{}"),
)
SUMMARY_COLUMNS = (
    *COMBINATION,
    *("bits", "seeds", "images", "error", "error_low", "error_high", "drop", "drop_low", "drop_high"),
    *(column.format(group) for group in GROUPS for column in _OF_A_GROUP),
    *("ece", "forwards_per_batch", "backwards_per_batch", "seconds_per_image", "adapted_parameters", "state_bytes"),
)
COMPARISON_COLUMNS = (
    *("task", "factor", "context", "a", "b", "test", "unit", "n", "statistic", "p", "p_holm"),
    *("effect", "effect_name", "difference", "low", "high", "note"),
)

Values = dict[str, Any]


@dataclass(frozen=True)
class _Settings:
    """The study's ``analysis``."""

    seed: int
    permutations: int
    bootstrap: int

    def generator(self, *purpose: str) -> np.random.Generator:
        return numpy_generator(self.seed, *purpose)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two combinations that differ in one factor; ``b`` is the baseline."""

    factor: Literal["quantizer", "adapter"]
    a: Combination
    b: Combination

    def names(self) -> Values:
        """Return the columns that say what is compared."""
        # Full precision has no calibration set: the context is that of the quantized one.
        common = {
            "quantizer": self.a.quantizer,
            "calibration": self.a.calibration,
            "adapter": self.a.adapter,
            "stream": self.a.stream,
        }
        del common[self.factor]
        return {
            "task": self.a.task,
            "factor": self.factor,
            "context": ", ".join(f"{key} {label}" for key, label in common.items()),
            "a": getattr(self.a, self.factor),
            "b": getattr(self.b, self.factor),
        }

    def outcomes(self) -> list[tuple[Outcome, Outcome]]:
        """Return (a, b) by seed that is done for both."""
        return [(own, self.b.outcomes[seed]) for seed, own in self.a.outcomes.items() if seed in self.b.outcomes]


def summarise(run: Run) -> pd.DataFrame:
    """Return ``summary.csv``: a row per method combination of which a trial is done.

    Rows of all seeds are pooled, each seed's paired with that seed's reference. The interval of the worst
    drop is that of the group named, taken as given.

    Raises
    ------
    RequestError
        If a trial and its reference did not see the same images.
    """
    return _summarise(read_outcomes(run), _Settings(**run.study["analysis"]))


def compare(run: Run) -> pd.DataFrame:
    """Return ``comparisons.csv``: quantizers in pairs, and adapters against none, all else equal.

    Full precision is compared with every quantizer, whatever its calibration set. The test is over domains
    (at a severity each), of mean errors over images and the seeds done for both.
    """
    return _compare(read_outcomes(run), _baselines(run), _Settings(**run.study["analysis"]))


@dataclass(frozen=True, eq=False)
class Analysis:
    """Both tables, made from one reading of the records."""

    summary: pd.DataFrame
    comparisons: pd.DataFrame

    def write(self, out: Path) -> None:
        """Write ``summary.csv`` and ``comparisons.csv`` into ``out``."""
        write_text(out / "summary.csv", self.summary.to_csv(index=False))
        write_text(out / "comparisons.csv", self.comparisons.to_csv(index=False))


def analyse(run: Run) -> Analysis:
    """Do what :func:`summarise` and :func:`compare` do, reading the records once."""
    outcomes, settings = read_outcomes(run), _Settings(**run.study["analysis"])
    return Analysis(_summarise(outcomes, settings), _compare(outcomes, _baselines(run), settings))


def _summarise(outcomes: Outcomes, settings: _Settings) -> pd.DataFrame:
    all_of = outcomes.combinations
    found: list[Values] = [
        {name: getattr(each, name.removesuffix("_label")) for name in COMBINATION} for each in all_of
    ]
    for each, values in zip(all_of, found, strict=True):
        values |= each.facts | (_no_drop() if each.is_reference else {})
    own = [list(each.outcomes.values()) for each in all_of]
    for rows, members in outcomes.batches((each.task, part) for each, part in zip(all_of, own, strict=True)):
        wrong = np.column_stack([pooled(own[member]) for member in members])
        for member, values in zip(members, _errors(rows, wrong, settings), strict=True):
            found[member] |= values
    paired = [[] if each.is_reference else outcomes.paired_with_reference(each) for each in all_of]
    for rows, members in outcomes.batches(
        (each.task, [own for own, _ in pairs]) for each, pairs in zip(all_of, paired, strict=True)
    ):
        drops = _differences([paired[member] for member in members])
        for member, values in zip(members, _drops(rows, drops, settings), strict=True):
            found[member] |= values
    frame = pd.DataFrame(found, columns=list(SUMMARY_COLUMNS))
    for group in GROUPS:
        column = f"worst_drop_{group}_p"
        frame[f"{column}_holm"] = frame.groupby("task")[column].transform(lambda p: holm(p.astype(float)))
    return frame


def _differences(pairs: list[list[tuple[Outcome, Outcome]]]) -> Int8Array:
    """Stack a - b, seeds end to end, as columns."""
    return np.column_stack([pooled(a for a, _ in pair) - pooled(b for _, b in pair) for pair in pairs])


def _no_drop() -> Values:
    columns = ["drop", *(f"worst_drop_{group}_value" for group in GROUPS)]
    edges = [f"{column.removesuffix('_value')}_{edge}" for column in columns for edge in ("low", "high")]
    return dict.fromkeys([*columns, *edges], 0.0)


def _errors(rows: Rows, wrong: Int8Array, settings: _Settings) -> list[Values]:
    """Columns of ``summary.csv`` that need no reference, for each column of ``wrong`` (N, M)."""
    generator = settings.generator("summary", rows.task, "error")
    interval = paired_bootstrap(wrong, rows.image, generator, draws=settings.bootstrap)
    found: list[Values] = [
        {"error": estimate, "error_low": low, "error_high": high}
        for estimate, low, high in zip(interval.estimate, interval.low, interval.high, strict=True)
    ]
    for group in GROUPS:
        codes, names = rows.group(group)
        means, sizes = group_means(wrong, codes, len(names))
        for values, own in zip(found, means.T, strict=True):
            worst = worst_group(own, sizes)
            values |= {
                f"worst_{group}": names[worst.index],
                f"worst_{group}_size": worst.size,
                f"worst_{group}_error": worst.value,
                f"cvar10_{group}": cvar(own, 0.10),
                f"cvar25_{group}": cvar(own, 0.25),
                f"deviation_{group}": between_group_deviation(own),
            }
    return found


def _drops(rows: Rows, drops: Int8Array, settings: _Settings) -> list[Values]:
    """Columns of ``summary.csv`` that compare with the reference, for each column of ``drops`` (N, M)."""
    generator = settings.generator("summary", rows.task, "drop")
    interval = paired_bootstrap(drops, rows.image, generator, draws=settings.bootstrap)
    found: list[Values] = [
        {"drop": estimate, "drop_low": low, "drop_high": high}
        for estimate, low, high in zip(interval.estimate, interval.low, interval.high, strict=True)
    ]
    for group in GROUPS:
        codes, names = rows.group(group)
        generator = settings.generator("summary", rows.task, "null", group)
        null = worst_group_null(drops, codes, rows.image, generator, permutations=settings.permutations)
        for code in np.unique(null.group):
            inside, columns = np.flatnonzero(codes == code), np.flatnonzero(null.group == code)
            generator = settings.generator("summary", rows.task, "drop", group, names[code])
            interval = paired_bootstrap(
                drops[np.ix_(inside, columns)], rows.image[inside], generator, draws=settings.bootstrap
            )
            for index, column in enumerate(columns):
                found[column] |= {
                    f"worst_drop_{group}": names[code],
                    f"worst_drop_{group}_value": null.observed[column],
                    f"worst_drop_{group}_low": interval.low[index],
                    f"worst_drop_{group}_high": interval.high[index],
                    f"worst_drop_{group}_null": null.null[column],
                    f"worst_drop_{group}_p": null.p[column],
                }
    return found


def _baselines(run: Run) -> dict[str, tuple[str, str]]:
    """By task, the labels of its references' quantizer and adapter."""
    references = run.trials[run.trials["trial"] == run.trials["reference"]]
    labels = zip(references["task"], references["quantizer_label"], references["adapter_label"], strict=True)
    return {task: (quantizer, adapter) for task, quantizer, adapter in labels}


def _pairs(found: Iterable[Combination], baselines: dict[str, tuple[str, str]]) -> Iterator[_Pair]:
    by_quantizer: dict[tuple[str, ...], list[Combination]] = {}
    by_adapter: dict[tuple[str, ...], list[Combination]] = {}
    for each in found:
        by_quantizer.setdefault((each.task, each.adapter, each.stream), []).append(each)
        by_adapter.setdefault((each.task, each.calibration, each.quantizer, each.stream), []).append(each)
    for (task, *_), alike in by_quantizer.items():
        full, _ = baselines.get(task, ("", ""))
        # The later of two in the study is compared with the earlier, full precision being the first.
        for b, a in combinations(sorted(alike, key=lambda each: each.quantizer != full), 2):
            if a.quantizer != b.quantizer and (a.calibration == b.calibration or b.quantizer == full):
                yield _Pair("quantizer", a, b)
    for (task, *_), alike in by_adapter.items():
        _, unadapted = baselines.get(task, ("", ""))
        for b in (each for each in alike if each.adapter == unadapted):
            yield from (_Pair("adapter", a, b) for a in alike if a is not b)


def _compare(outcomes: Outcomes, baselines: dict[str, tuple[str, str]], settings: _Settings) -> pd.DataFrame:
    pairs = list(_pairs(outcomes.combinations, baselines))
    found = [pair.names() | {"test": "wilcoxon", "unit": "domain", "n": 0} for pair in pairs]
    both = [pair.outcomes() for pair in pairs]
    for index, seeds in enumerate(both):
        if not seeds:
            found[index]["note"] = "no seed is done for both"
        elif any(a.layout is not b.layout for a, b in seeds):
            found[index]["note"] = "the two did not see the same images"
            both[index] = []
    for rows, members in outcomes.batches(
        (pair.a.task, [a for a, _ in seeds]) for pair, seeds in zip(pairs, both, strict=True)
    ):
        differences = _differences([both[member] for member in members])
        for member, values in zip(members, _tested(rows, differences, settings), strict=True):
            found[member] |= values
    frame = pd.DataFrame(found, columns=list(COMPARISON_COLUMNS))
    frame["p_holm"] = frame.groupby(["task", "factor"])["p"].transform(lambda p: holm(p.astype(float)))
    return frame


def _tested(rows: Rows, differences: Int8Array, settings: _Settings) -> list[Values]:
    """Columns of ``comparisons.csv`` for each column of ``differences`` (N, M)."""
    generator = settings.generator("comparisons", rows.task)
    interval = paired_bootstrap(differences, rows.image, generator, draws=settings.bootstrap)
    by_domain, _ = group_means(differences, rows.domain, len(rows.domains))
    found = []
    for index, gaps in enumerate(by_domain.T):
        test = wilcoxon_signed_rank(gaps, np.zeros_like(gaps), unit="domain")
        found.append(
            {
                "n": test.n,
                "statistic": test.statistic,
                "p": test.p,
                "effect": test.effect,
                "effect_name": test.effect_name,
                "difference": interval.estimate[index],
                "low": interval.low[index],
                "high": interval.high[index],
                "note": test.note,
            }
        )
    return found
