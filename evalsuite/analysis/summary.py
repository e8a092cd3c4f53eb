"""``summary.csv``: what each method combination got wrong, its worst groups, its cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.analysis._settings import Settings, Values, differences
from evalsuite.analysis.claims import LEVEL, harmed
from evalsuite.analysis.families import worst_group_families, worst_group_family_in_words
from evalsuite.analysis.outcomes import COMBINATION, GROUPS, Combination, Int8Array, Outcome, Outcomes, Rows, pooled
from evalsuite.errors import RequestError
from evalsuite.groups import OF_A_GROUP
from evalsuite.metrics import (
    FloatArray,
    between_group_deviation,
    cvar,
    flip_rate,
    group_means,
    mean_corruption_error,
    worst_group,
)
from evalsuite.statistics import (
    WorstGroupNull,
    holm,
    interquartile_mean,
    kendalls_w,
    mean_bounds,
    middle_half,
    worst_group_null,
)


def summary_columns(groups: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of ``summary.csv`` for some groupings."""
    return (
        *COMBINATION,
        *("bits", "seeds", "images", "unit", "error", "error_low", "error_high", "drop", "drop_low", "drop_high"),
        *("iqm", "iqm_low", "iqm_high", "flip_rate", "mce", "family", "question"),
        *(column.format(group) for group in groups for column in OF_A_GROUP),
        *("ece", "ece_mass", "nll", "brier", "jitter_flip_rate", "jitter_error"),
        *("forwards_per_batch", "backwards_per_batch", "seconds_per_image", "adapted_parameters", "state_bytes"),
    )


SUMMARY_COLUMNS = summary_columns(GROUPS)


ORACLE_COLUMNS = (
    *COMBINATION,
    *("bits", "seeds", "images", "error", "error_low", "error_high", "unit"),
    *("forwards_per_batch", "backwards_per_batch", "seconds_per_image"),
)
"""Of ``oracles.csv``: what may be said of an adapter that was told the labels."""


def oracles_of(outcomes: Outcomes, baselines: dict[str, tuple[str, str]], settings: Settings) -> pd.DataFrame:
    """Return a row per oracle: its error, and what it cost; without a test, for it competes with nothing."""
    if not outcomes.oracles:
        return pd.DataFrame(columns=list(ORACLE_COLUMNS))
    told = replace(outcomes, combinations=outcomes.oracles)
    return summary_of(told, baselines, settings)[list(ORACLE_COLUMNS)]


def summary_of(outcomes: Outcomes, baselines: dict[str, tuple[str, str]], settings: Settings) -> pd.DataFrame:
    """Return the table; see :func:`evalsuite.analysis.summarise`."""
    all_of, groups = outcomes.combinations, settings.groups_of(outcomes)
    found: list[Values] = [{**combination.labels} for combination in all_of]
    for combination, values in zip(all_of, found, strict=True):
        values |= combination.facts | {"question": question(combination, baselines.get(combination.task, ("", ""))[1])}
        values |= {"family": worst_group_family_in_words(values)}
        values |= _no_drop(groups) if combination.is_reference else {}
    own = [list(each.outcomes.values()) for each in all_of]
    for rows, members in outcomes.batches((each.task, part) for each, part in zip(all_of, own, strict=True)):
        wrong = np.column_stack([pooled(own[member]) for member in members])
        for member, values in zip(members, _errors(rows, wrong, settings, groups), strict=True):
            found[member] |= values
    paired = [[] if each.is_reference else outcomes.paired_with_reference(each) for each in all_of]
    for rows, members in outcomes.batches(
        (each.task, [own for own, _ in pairs]) for each, pairs in zip(all_of, paired, strict=True)
    ):
        drops = differences([paired[member] for member in members])
        for member, values in zip(members, _drops(rows, drops, settings, groups), strict=True):
            found[member] |= values | _against_reference(rows, paired[member])
    frame = pd.DataFrame(found, columns=list(summary_columns(groups)))
    families = worst_group_families(frame)
    for group in groups:
        drop = f"worst_drop_{group}"
        corrected = frame.groupby(families)[f"{drop}_p"].transform(lambda p: holm(p.astype(float)))
        shown = harmed(corrected, frame[f"{drop}_value"])
        frame[f"{drop}_p_holm"], frame[f"{drop}_shown"] = corrected, shown
    return frame


def question(combination: Combination, unadapted: str) -> str:
    """Return the code of what a combination's worst group helps to answer: :func:`worst_group_families`."""
    return "networks_without_adaptation" if combination.adapter == unadapted else "adapters_of_network"


def _no_drop(groups: Sequence[str]) -> Values:
    columns = ["drop", *(f"worst_drop_{group}_value" for group in groups)]
    edges = [f"{column.removesuffix('_value')}_{edge}" for column in columns for edge in ("low", "high")]
    return dict.fromkeys([*columns, *edges], 0.0)


def _errors(rows: Rows, wrong: Int8Array, settings: Settings, groups: Sequence[str]) -> list[Values]:
    """Columns of ``summary.csv`` that need no reference, for each column of ``wrong`` (N, M)."""
    generator = settings.generator("summary", rows.task, "error")
    interval = settings.interval(wrong, rows, generator, signed=False)
    found: list[Values] = [
        {"error": estimate, "error_low": low, "error_high": high, "unit": interval.unit}
        for estimate, low, high in zip(interval.estimate, interval.low, interval.high, strict=True)
    ]
    for values, middle in zip(found, _middles(rows, wrong), strict=True):
        values |= middle
    for group in filter(rows.has, groups):
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


def _drops(rows: Rows, drops: Int8Array, settings: Settings, groups: Sequence[str]) -> list[Values]:
    """Columns of ``summary.csv`` that compare with the reference, for each column of ``drops`` (N, M)."""
    generator = settings.generator("summary", rows.task, "drop")
    interval = settings.interval(drops, rows, generator)
    found: list[Values] = [
        {"drop": estimate, "drop_low": low, "drop_high": high}
        for estimate, low, high in zip(interval.estimate, interval.low, interval.high, strict=True)
    ]
    for group in filter(rows.has, groups):
        codes, names = rows.group(group)
        null = null_of(rows, drops, codes, group, settings)
        for code in np.unique(null.group):
            inside, columns = np.flatnonzero(codes == code), np.flatnonzero(null.group == code)
            generator = settings.generator("summary", rows.task, "drop", group, names[code])
            # The group is the worst of all: an interval that holds for any group named needs all at once.
            level = 1 - LEVEL / len(names)
            interval = settings.interval(drops[:, columns], rows, generator, inside, level)
            for index, column in enumerate(columns):
                found[column] |= {
                    f"worst_drop_{group}": names[code],
                    f"worst_drop_{group}_value": null.observed[column],
                    f"worst_drop_{group}_low": interval.low[index],
                    f"worst_drop_{group}_high": interval.high[index],
                    f"worst_drop_{group}_null": null.null[column],
                    f"worst_drop_{group}_p": null.p[column],
                }
        for values, table in zip(found, _by_replicate(drops, codes, len(names), rows), strict=True):
            agreement = kendalls_w(table) if np.isfinite(table).all() else None
            values[f"stability_{group}"] = agreement.w if agreement else np.nan
            values[f"stability_{group}_p"] = agreement.p if agreement else np.nan
    return found


def null_of(rows: Rows, drops: Int8Array, codes: NDArray[np.int64], group: str, settings: Settings) -> WorstGroupNull:
    """Hold the largest drop of a group against chance, for each column of ``drops`` (N, M); always the same draws."""
    generator = settings.generator("summary", rows.task, "null", group)
    return worst_group_null(drops, codes, rows.image, generator, permutations=settings.permutations)


def _by_replicate(values: Int8Array, codes: NDArray[np.int64], groups: int, rows: Rows) -> Iterator[FloatArray]:
    """Yield, for each column of (N, M) values, the group means of each seed (seeds, groups); NaN without rows."""
    seeds = len(rows.layouts)
    means, _ = group_means(values, rows.replicate * groups + codes, seeds * groups)
    yield from means.reshape(seeds, groups, -1).transpose(2, 0, 1)


def _middles(rows: Rows, wrong: Int8Array) -> Iterator[Values]:
    """Yield the interquartile mean of the errors of all seeds and domains, of each column, with its interval.

    The interval is that of the mean of the rows in the middle half, which is taken as given.
    """
    shown = np.bincount(
        rows.replicate * len(rows.domains) + rows.domain, minlength=len(rows.layouts) * len(rows.domains)
    )
    everywhere = (shown.reshape(len(rows.layouts), -1) > 0).all(axis=0)
    tables = [table[:, everywhere] for table in _by_replicate(wrong, rows.domain, len(rows.domains), rows)]
    if not everywhere.any():
        raise RequestError(f"{rows.task}: no domain is shown in every seed; expected the same stream in all")
    kept = np.zeros((len(rows.layouts), len(rows.domains), wrong.shape[1]), np.bool_)
    for column, table in enumerate(tables):
        kept[:, everywhere, column] = middle_half(table)
    inside = kept[rows.replicate, rows.domain]
    bounds = mean_bounds(wrong, rows.image, rows.replicate, inside=inside, signed=False)
    for table, mean, low, high in zip(tables, bounds.mean, bounds.low, bounds.high, strict=True):
        middle = interquartile_mean(table)
        yield {"iqm": middle, "iqm_low": max(0.0, middle - (mean - low)), "iqm_high": min(1.0, middle + (high - mean))}


def _against_reference(rows: Rows, pairs: list[tuple[Outcome, Outcome]]) -> Values:
    own, reference = (pooled(pair[side] for pair in pairs) for side in (0, 1))
    predictions = (np.concatenate([pair[side].prediction for pair in pairs]) for side in (0, 1))
    errors = [_by_severity(rows, wrong) for wrong in (own, reference)]
    defined = len(errors[1]) > 0 and (np.nansum(errors[1], axis=1) > 0).all()
    return {
        "flip_rate": flip_rate(*predictions),
        "mce": mean_corruption_error(*errors) if defined else np.nan,
    }


def _by_severity(rows: Rows, wrong: Int8Array) -> FloatArray:
    """Return the errors (corruptions, severities) of what is not clean; NaN for a severity that is not shown."""
    means, _ = group_means(wrong, rows.domain, len(rows.domains))
    names = sorted({name for name, severity in rows.domains if severity})
    table = np.full((len(names), 6), np.nan)
    for (name, severity), error in zip(rows.domains, means, strict=True):
        if severity:
            table[names.index(name), severity] = error
    return table
