"""``comparisons.csv``: pairs that differ in one thing, tested on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from evalsuite.analysis._settings import Settings, Values, differences
from evalsuite.metrics import group_means
from evalsuite.outcomes import Combination, Int8Array, Outcome, Outcomes, Rows, pooled
from evalsuite.statistics import PairedTest, holm, mcnemar_exact, resampled_worst_groups, wilcoxon_signed_rank
from evalsuite.statistics.worst_groups import reflected

COMPARISON_COLUMNS = (
    *("task", "factor", "context", "a", "b", "test", "unit", "n", "statistic", "p", "p_holm", "p_holm_context"),
    "family",
    *("effect", "effect_name", "difference", "low", "high"),
    *("worst_class_difference", "worst_class_low", "worst_class_high", "worst_class_p", "worst_class_p_holm", "note"),
)

Factor = Literal["quantizer", "adapter", "adapter pair", "calibration"]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two combinations that differ in one factor; ``b`` is the baseline, or the earlier in the study."""

    factor: Factor
    a: Combination
    b: Combination

    def names(self, full_precision: str) -> Values:
        """Return the columns that say what is compared; ``full_precision``: the label of that network."""
        # Full precision has no calibration set: the context is that of the quantized one.
        common = {
            "quantizer": self.a.quantizer,
            "calibration": self.a.calibration,
            "adapter": self.a.adapter,
            "stream": self.a.stream,
        }
        varied = self.factor.partition(" ")[0]
        del common[varied]
        context = ", ".join(f"{key} {label}" for key, label in common.items())
        return {
            "task": self.a.task,
            "factor": self.factor,
            "context": context,
            "family": f"{self._question(full_precision)}, {context}",
            "a": getattr(self.a, varied),
            "b": getattr(self.b, varied),
        }

    def _question(self, full_precision: str) -> str:
        """Return what is asked; with what both have in common it makes the family that Holm's correction is over."""
        if self.factor != "quantizer":
            return {
                "adapter": "adapters against none",
                "adapter pair": "adapters in pairs",
                "calibration": "calibration sets against the first",
            }[self.factor]
        if self.b.quantizer == full_precision:
            return "quantizers against full precision"
        bits = [each.facts["bits"] for each in (self.b, self.a)]
        return f"quantizers at {bits[0]}" if bits[0] == bits[1] else "quantizers across bits"

    def outcomes(self) -> list[tuple[Outcome, Outcome]]:
        """Return (a, b) by seed that is done for both."""
        return [(own, self.b.outcomes[seed]) for seed, own in self.a.outcomes.items() if seed in self.b.outcomes]


def pairs_of(found: Iterable[Combination], baselines: dict[str, tuple[str, str]]) -> Iterator[Pair]:
    """Yield every pair that is compared; ``baselines``: by task, the full-precision and the unadapted label."""
    by_quantizer: dict[tuple[str, ...], list[Combination]] = {}
    by_adapter: dict[tuple[str, ...], list[Combination]] = {}
    by_calibration: dict[tuple[str, ...], list[Combination]] = {}
    for each in found:
        by_quantizer.setdefault((each.task, each.adapter, each.stream), []).append(each)
        by_adapter.setdefault((each.task, each.calibration, each.quantizer, each.stream), []).append(each)
        by_calibration.setdefault((each.task, each.quantizer, each.adapter, each.stream), []).append(each)
    for (task, *_), alike in by_quantizer.items():
        full, _ = baselines.get(task, ("", ""))
        # The later of two in the study is compared with the earlier, full precision being the first.
        for b, a in combinations(sorted(alike, key=lambda each: each.quantizer != full), 2):
            if a.quantizer != b.quantizer and (a.calibration == b.calibration or b.quantizer == full):
                yield Pair("quantizer", a, b)
    for (task, *_), alike in by_adapter.items():
        _, unadapted = baselines.get(task, ("", ""))
        for b, a in combinations(sorted(alike, key=lambda each: each.adapter != unadapted), 2):
            yield Pair("adapter" if b.adapter == unadapted else "adapter pair", a, b)
    for alike in by_calibration.values():
        yield from (Pair("calibration", a, alike[0]) for a in alike[1:])


def comparisons_of(outcomes: Outcomes, baselines: dict[str, tuple[str, str]], settings: Settings) -> pd.DataFrame:
    """Return the table; see :func:`evalsuite.analysis.compare`."""
    pairs = list(pairs_of(outcomes.combinations, baselines))
    full = {task: quantizer for task, (quantizer, _) in baselines.items()}
    found = [pair.names(full.get(pair.a.task, "")) | {"test": "wilcoxon", "unit": "domain", "n": 0} for pair in pairs]
    for values, tested in zip(found, tested_pairs(outcomes, pairs, settings), strict=True):
        values |= tested
    frame = pd.DataFrame(found, columns=list(COMPARISON_COLUMNS))
    question, wider = ["task", "family"], ["task", "factor", "context"]
    for p, family in (("p", question), ("worst_class_p", question), ("p", wider)):
        column = f"{p}_holm_context" if family is wider else f"{p}_holm"
        frame[column] = frame.groupby(family)[p].transform(lambda values: holm(values.astype(float)))
    return frame


def tested_pairs(outcomes: Outcomes, pairs: list[Pair], settings: Settings) -> list[Values]:
    """Return what the tests say of each pair; a ``note`` where its two did not see the same images."""
    found: list[Values] = [{} for _ in pairs]
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
        seen = [both[member] for member in members]
        tested, worst = _tested(rows, differences(seen), settings), _worst_classes(rows, seen, settings)
        for member, values, classes in zip(members, tested, worst, strict=True):
            found[member] |= values | classes
    return found


def _tested(rows: Rows, gaps: Int8Array, settings: Settings) -> list[Values]:
    """Columns of ``comparisons.csv`` for each column of ``gaps`` (N, M)."""
    generator = settings.generator("comparisons", rows.task)
    interval = settings.interval(gaps, rows, generator)
    once = len(np.unique(rows.image)) == len(rows.image)
    by_domain, _ = group_means(gaps, rows.domain, len(rows.domains))
    found = []
    for index in range(gaps.shape[1]):
        test = _mcnemar(gaps[:, index]) if once else wilcoxon_signed_rank(by_domain[:, index], np.zeros(len(by_domain)))
        found.append(
            vars(test)
            | {
                "difference": interval.estimate[index],
                "low": interval.low[index],
                "high": interval.high[index],
            }
        )
    return found


def _worst_classes(rows: Rows, pairs: list[list[tuple[Outcome, Outcome]]], settings: Settings) -> list[Values]:
    """Compare the worst class of a with that of b."""
    column: dict[tuple[int, ...], int] = {}
    values: list[Int8Array] = []
    places: list[int] = []
    for pair in pairs:
        for side in zip(*pair, strict=True):
            key = tuple(map(id, side))
            if key not in column:
                column[key] = len(values)
                values.append(pooled(side))
            places.append(column[key])
    code, _ = rows.group("class")
    generator = settings.generator("worst classes", rows.task)
    observed, resampled = resampled_worst_groups(
        np.column_stack(values), code, rows.image, rows.replicate, generator, draws=settings.bootstrap
    )
    a, b = places[::2], places[1::2]
    gap = observed[a] - observed[b]
    names = [f"worst_class_{name}" for name in ("difference", "low", "high", "p")]
    columns = (gap, *reflected(gap, resampled[:, a] - resampled[:, b]))
    return [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]


def _mcnemar(gaps: Int8Array) -> PairedTest:
    return mcnemar_exact(int(np.count_nonzero(gaps > 0)), int(np.count_nonzero(gaps < 0)))
