"""``comparisons.csv``: pairs that differ in one thing, tested on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from evalsuite.analysis._settings import Settings, Values, differences
from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.analysis.families import (
    IN_COMMON,
    VARIES,
    comparison_families,
    context_in_words,
    family_in_words,
    wider_families,
)
from evalsuite.analysis.outcomes import Combination, Int8Array, Outcome, Outcomes, Rows, pooled
from evalsuite.metrics import FloatArray, group_means
from evalsuite.statistics import (
    Bounds,
    PairedTest,
    difference_bounds,
    holm,
    largest_mean_bounds,
    mcnemar_exact,
    swap_test,
    wilcoxon_signed_rank,
)
from evalsuite.statistics.swaps import swapped_worst_groups

COMPARISON_COLUMNS = (
    *("task", "factor", "context", *IN_COMMON, "a", "b", "test", "unit", "n", "statistic", "p"),
    *("p_holm", "p_holm_context", "family", "question", "bits"),
    *("effect", "effect_name", "difference", "low", "high", "shown", "level"),
    *("worst_class_difference", "worst_class_low", "worst_class_high", "worst_class_p", "worst_class_p_holm"),
    *("worst_class_note", "note"),
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
        # Full precision has no calibration set: what is common is that of the quantized one.
        varied = f"{VARIES.get(self.factor, self.factor)}_label"
        bits = [pair.facts["bits"] for pair in (self.a, self.b)]
        values = self.a.labels | {varied: None} | {"factor": self.factor, "question": self._question(full_precision)}
        values |= {"a": self.a.labels[varied], "b": self.b.labels[varied]}
        values |= {"bits": bits[0] if bits[0] == bits[1] else None}
        return values | {"context": context_in_words(values), "family": family_in_words(values)}

    def _question(self, full_precision: str) -> str:
        """Return the code of what is asked; with what both have in common it makes the family of Holm's correction."""
        if self.factor != "quantizer":
            return {
                "adapter": "adapters_against_none",
                "adapter pair": "adapters_in_pairs",
                "calibration": "calibration_sets_against_first",
            }[self.factor]
        if self.b.quantizer == full_precision:
            return "quantizers_against_full_precision"
        alike = self.a.facts["bits"] == self.b.facts["bits"]
        return "quantizers_at_bits" if alike else "quantizers_across_bits"

    def outcomes(self) -> list[tuple[Outcome, Outcome]]:
        """Return (a, b) by seed that is done for both."""
        return [(own, self.b.outcomes[seed]) for seed, own in self.a.outcomes.items() if seed in self.b.outcomes]


def pairs_of(
    found: Iterable[Combination], baselines: dict[str, tuple[str, str]], first: dict[tuple[str, str], str]
) -> Iterator[Pair]:
    """Yield every pair that is compared.

    ``baselines``: by task, the full-precision and the unadapted label; ``first``: by task and quantizer, the label of
    the study's first calibration set, with which all others are compared, or none where it did not end.
    """
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
            same = a.calibration == b.calibration and a.exported_to == b.exported_to  # else: engine_gaps.csv
            if a.quantizer != b.quantizer and (same or b.quantizer == full):
                yield Pair("quantizer", a, b)
    for (task, *_), alike in by_adapter.items():
        _, unadapted = baselines.get(task, ("", ""))
        for b, a in combinations(sorted(alike, key=lambda each: each.adapter != unadapted), 2):
            yield Pair("adapter" if b.adapter == unadapted else "adapter pair", a, b)
    for (task, quantizer, *_), alike in by_calibration.items():
        base = next((each for each in alike if each.calibration == first.get((task, quantizer))), None)
        yield from (Pair("calibration", a, base) for a in alike if base is not None and a is not base)


def comparisons_of(
    outcomes: Outcomes, baselines: dict[str, tuple[str, str]], first: dict[tuple[str, str], str], settings: Settings
) -> pd.DataFrame:
    """Return the table; see :func:`evalsuite.analysis.compare`, and :func:`pairs_of` for the parameters."""
    pairs = list(pairs_of(outcomes.combinations, baselines, first))
    full = {task: quantizer for task, (quantizer, _) in baselines.items()}
    found = [pair.names(full.get(pair.a.task, "")) | {"test": "wilcoxon", "unit": "domain", "n": 0} for pair in pairs]
    for values, tested in zip(found, tested_pairs(outcomes, pairs, settings), strict=True):
        values |= tested
    frame = pd.DataFrame(found, columns=list(COMPARISON_COLUMNS))
    family, wider = comparison_families(frame), wider_families(frame)
    for column, p, members in (
        ("p_holm", "p", family),
        ("worst_class_p_holm", "worst_class_p", family),
        ("p_holm_context", "p", wider),
    ):
        frame[column] = frame.groupby(members)[p].transform(lambda values: holm(values.astype(float)))
    return frame.assign(shown=shown(frame["p_holm"], frame["low"], frame["high"]), level=LEVEL)


def corrected(tested: Sequence[Values]) -> FloatArray:
    """Return Holm's p over what :func:`tested_pairs` or :func:`gap_tests` say; NaN where there was no test."""
    return holm(np.array([values.get("p", np.nan) for values in tested], np.float64))


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
        tested, worst = gap_tests(rows, differences(seen), settings), worst_groups(rows, seen, settings, "class")
        for member, values, classes in zip(members, tested, worst, strict=True):
            found[member] |= values | {f"worst_class_{name}": value for name, value in classes.items()}
    return found


def gap_tests(rows: Rows, gaps: Int8Array, settings: Settings, span: int = 1) -> list[Values]:
    """Columns of ``comparisons.csv`` for each column of ``gaps`` (N, M): whole numbers, ``span`` the largest.

    Wrong minus the other's wrong has a span of 1, a difference of two such one of 2.
    """
    generator = settings.generator("comparisons", rows.task)
    # The bounds are made for -1..1; the tests look at signs and ranks, and count.
    interval = settings.interval(gaps if span == 1 else gaps / span, rows, generator)
    once = len(np.unique(rows.image)) == len(rows.image)
    by_domain, _ = group_means(gaps, rows.domain, len(rows.domains))
    swapped = np.full(gaps.shape[1], np.nan) if once else swap_test(gaps, rows.image, rows.replicate)
    edges = [span * np.asarray(edge) for edge in (interval.estimate, interval.low, interval.high)]
    found = []
    for index, (estimate, low, high) in enumerate(zip(*edges, strict=True)):
        test = _mcnemar(gaps[:, index]) if once else _over_domains(by_domain[:, index], float(swapped[index]))
        found.append(vars(test) | {"difference": estimate, "low": low, "high": high})
    return found


def _over_domains(gaps: FloatArray, swapped: float) -> PairedTest:
    """Test over domains, held to what the images allow: all domains show the same ones, and so go together.

    p is the larger of Wilcoxon's, for domains drawn at random, and of :func:`evalsuite.statistics.swap_test`, for
    images drawn at random.
    """
    test = wilcoxon_signed_rank(gaps, np.zeros(len(gaps)))
    if np.isnan(test.p) or not np.isnan(swapped):
        return replace(test, p=max(test.p, swapped))
    return replace(test, p=np.nan, note=f"the two differ on fewer than 6 images; p < {LEVEL:g} needs at least 6")


def worst_groups(
    rows: Rows, pairs: list[list[tuple[Outcome, Outcome]]], settings: Settings, group: str
) -> list[Values]:
    """Compare the worst group of a with that of b: ``difference``, ``low``, ``high``, ``p``, ``note`` of each pair."""
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
    code, _ = rows.group(group)
    generator = settings.generator("worst classes", rows.task)
    wrong = np.column_stack(values)
    a, b = places[::2], places[1::2]
    largest = largest_mean_bounds(wrong, code, rows.image, rows.replicate, level=1 - LEVEL / 2)
    first, second = (Bounds(largest.mean[side], largest.low[side], largest.high[side]) for side in (a, b))
    bounds = difference_bounds(first, second)
    gap, p, notes = swapped_worst_groups(
        wrong[:, a], wrong[:, b], code, rows.image, rows.replicate, generator, settings.permutations
    )
    names = ("difference", "low", "high", "p", "note")
    columns = (gap.tolist(), bounds.low.tolist(), bounds.high.tolist(), p.tolist(), notes)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _mcnemar(gaps: Int8Array) -> PairedTest:
    return mcnemar_exact(int(np.count_nonzero(gaps > 0)), int(np.count_nonzero(gaps < 0)))
