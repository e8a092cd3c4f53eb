"""The first screen of a run's page in words: what was asked, the verdict in sixty words, the tiles."""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.store import Run
from reports.frames.calibration_sets import effects
from reports.frames.evidence import Comparison, Evidence, with_room
from reports.frames.first_screen import worst_first
from reports.frames.methods import each_row, readable
from reports.words.audit_tiles import short
from reports.words.numbers import (
    CONFIDENCE_PERCENT,
    count,
    interval,
    is_missing,
    listed,
    number,
    p_value,
    points,
)
from reports.words.verdict import lost, named_class, tried_on_its_stream

_TIMES = "\N{MULTIPLICATION SIGN}"
_ARROW = " \N{RIGHTWARDS ARROW} "
_NAME = 32  # characters of a name in the verdict and on a tile
_MOST_LINES = 4
_MARKUP = re.compile(r"(?::\w+:)?`+([^`]*)`+")  # of reStructuredText
_OF_NETWORK = ("task", "calibration_label", "quantizer_label", "stream_label")


@dataclass(frozen=True)
class Tile:
    """One number that matters, what it is of, and how it is made."""

    title: str
    value: str
    lines: tuple[str, ...]
    how: str
    """One sentence: the statistic and its unit of replication."""
    anchor: str
    """The entry of "How the numbers are made" that says more."""
    standing: str = ""
    """``worse`` where harm is shown, ``better`` where help is; else empty."""


def asked(run: Run, evidence: Evidence) -> str:
    """Say in one line what the study asks."""
    methods = evidence.methods
    rows = methods[~methods["full_precision"]]
    sets = rows["calibration_label"].nunique()
    # Where a task has many calibration sets, what is judged are the networks of its first one.
    judged = with_room(evidence).methods
    quantized = judged.loc[~judged["full_precision"], "network"].nunique()
    adapters = methods.loc[~methods["unadapted"], "adapter_label"].nunique()
    where = (
        f"on {count(run.trials['task'].nunique(), 'task')} and {count(run.trials['stream_label'].nunique(), 'stream')}"
    )
    ask = f"Which of {count(quantized, 'quantized network')} is least reliable, on average and in its worst class"
    if quantized == 1:
        ask = "How reliable is the quantized network, on average and in its worst class"
    if not quantized:
        return f"How large the errors are {where}."
    others = 0
    if len(judged) < len(methods):
        first = judged.loc[~judged["full_precision"], "calibration_label"].unique()
        ask += f", calibrated on {readable(first[0]) if len(first) == 1 else 'the first calibration set of each task'}"
        others = sets - len(first)
    changes = [count(n, what) for n, what in ((adapters, "adapter"), (others, "other calibration set")) if n]
    if not changes:
        return f"{ask}, {where}?"
    return f"{ask}, {where}; and what {'does' if adapters + others == 1 else 'do'} {listed(changes)} change?"


def methods(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each method's name and what it says of itself, as people write them; none of a run that says nothing."""
    told = study.get("methods")
    if not isinstance(told, Mapping):
        return []
    return [(readable(name.rpartition(":")[2]), _MARKUP.sub(r"\1", str(line))) for name, line in told.items() if line]


def selected(asked: Mapping[str, Sequence[str]], called: Mapping[str, str]) -> list[str]:
    """Say what of a run is shown, and what is called otherwise; nothing where that is all, under its own names."""
    found = []
    if asked:
        chosen = "; ".join(f"{key} {', '.join(values)}" for key, values in asked.items())
        found.append(
            f"Selected: {chosen}. Pictures, matrices, images and tables show this alone; sentences and tiles are of "
            "the whole run, and every p is corrected over all that was run."
        )
    if called:
        names = "; ".join(f"{label} is {name}" for label, name in called.items())
        found.append(f"Called otherwise in pictures and tables: {names}. Sentences and tiles keep the study's names.")
    return found


def brief(evidence: Evidence, rows: pd.DataFrame) -> str:
    """Return the verdict in at most sixty words; ``rows``: :func:`reports.frames.first_screen.networks`."""
    if rows.empty:
        return "This run has no result of a quantized network, so there is nothing to judge."
    worst = _least_reliable(rows)
    if is_missing(worst.worst_drop_class_p_holm):
        return "There is no full-precision result to compare with: only the size of the errors can be said."
    if rows["worst_drop_class_value"].max() <= 0:
        return "No quantized network makes more errors than full precision in any class."
    tested = p_value(worst.worst_drop_class_p_holm)
    name = f"{short(worst.network, _NAME)} on {short(worst.task, _NAME)}"
    size = f"{_worst_class(worst)} loses {points(worst.worst_drop_class_value)}"
    chance = f"chance alone would give {number(worst.worst_drop_class_null * 100)}"
    if not worst.beyond:
        return (
            f"No network is shown to harm one class more than another. Largest drop: {name}, where {size}; {chance} "
            f"({tested} over all networks). On average it {lost(worst.drop)}."
        )
    chance = f"{chance} ({tested})"
    text = f"Least reliable: {name}. Its {size}; {chance}. On average it {lost(worst.drop)}."
    return f"{text} {_adaptation_in_brief(evidence, worst)}".strip()


def _adaptation_in_brief(evidence: Evidence, worst: Any) -> str:
    best = best_adapter(evidence, worst)
    if best is None:
        return ""
    row, found = best
    if not found.lowers:
        return "No adapter is shown to lower its error."
    others = sum(each.lowers for _, each in tried_on_its_stream(evidence, worst)) - 1
    return (
        f"Adaptation helps it: {short(row.adapter_label, _NAME)} lowers its mean error by {points(-found.difference)} "
        f"({p_value(found.p)}{f'; so {_do(others)}' if others else ''}); "
        f"its worst class with it, {_worst_class(row)}, {lost(row.worst_drop_class_value)}."
    )


def _do(others: int) -> str:
    return "does another" if others == 1 else f"do {others} others"


def best_adapter(evidence: Evidence, worst: Any) -> tuple[Any, Comparison] | None:
    """Return the adapter with the lowest error on a network and stream, those shown to lower it first."""
    tried = tried_on_its_stream(evidence, worst)
    return min(tried, key=lambda each: (not each[1].lowers, each[1].difference), default=None)


def _least_reliable(rows: pd.DataFrame) -> Any:
    return next(each_row(worst_first(rows)))


def _worst_class(row: Any) -> str:
    return short(named_class(row.worst_drop_class), _NAME)


def tiles(run: Run, evidence: Evidence, rows: pd.DataFrame) -> list[Tile]:
    """Return the tiles; none where there is no quantized network that can be held against full precision."""
    if rows.empty:
        return []
    worst = _least_reliable(rows)
    if is_missing(worst.drop):
        return []
    best = best_adapter(evidence, worst)
    return [
        _reliability(worst),
        _errors(evidence, worst, best),
        _calibration(run, rows),
        _cost(worst, best, evidence),
        _not_told_apart(evidence, rows, worst),
    ]


def _reliability(worst: Any) -> Tile:
    how = (
        "The largest drop of a class against full precision; the p-value is the share of exchanges of whole test "
        "images between classes that reach it, corrected by Holm over the networks. Unit: test image."
    )
    if is_missing(worst.worst_drop_class_p_holm) or worst.worst_drop_class_value <= 0:
        lines: tuple[str, ...] = ("no class loses against full precision",)
    else:
        verdict = "beyond chance" if worst.beyond else "not shown to be beyond chance"
        lines = (
            f"{_worst_class(worst)} loses {points(worst.worst_drop_class_value)}",
            f"{verdict}: {number(worst.worst_drop_class_null * 100)} expected, "
            f"{p_value(worst.worst_drop_class_p_holm)}",
        )
    name = short(str(worst.network), _NAME)
    standing = "worse" if worst.beyond else ""
    return Tile("Least reliable network", name, (short(worst.task, _NAME), *lines), how, "how-chance", standing)


def _errors(evidence: Evidence, worst: Any, best: tuple[Any, Comparison] | None) -> Tile:
    methods = evidence.methods
    alike = (methods["task"] == worst.task) & (methods["stream_label"] == worst.stream_label)
    full = methods.loc[alike & methods["full_precision"] & methods["unadapted"], "error"].iloc[0]
    shown_errors, named = [full, worst.error], ["full precision", "quantized"]
    lines = [f"drop {points(worst.drop)} ({interval(worst.drop_low, worst.drop_high)})"]
    if best is not None:
        row, found = best
        shown_errors.append(row.error)
        named.append(short(row.adapter_label, _NAME))
        tested = not is_missing(found.p)
        text = points(found.difference) if found.shown else "not shown to change it" if tested else "not tested"
        lines.append(f"with {named[-1]}: {text}" + (f", {p_value(found.p)}" if tested else ""))
    value = f"{_ARROW.join(number(each * 100) for each in shown_errors)}\N{NO-BREAK SPACE}%"
    how = (
        f"Share of test images that are predicted wrongly; intervals of {CONFIDENCE_PERCENT} % are over test images "
        "and, where there are several, calibration draws; differences are tested by signed ranks over domains, or over "
        "images where each was shown once. Unit: test image; domain."
    )
    better = best is not None and best[1].lowers
    return Tile("Its mean error", value, (_ARROW.join(named), *lines), how, "how-error", "better" if better else "")


def _calibration(run: Run, rows: pd.DataFrame) -> Tile:
    how = (
        "Mean error with another calibration set minus that with the study's first one, where it is farthest from 0; "
        "signed-rank test over domains, or a test over images where each was shown once, corrected by Holm over the "
        "sets of one network. Unit: domain, or image."
    )
    changed = effects(run)
    changed = changed[changed["difference"].notna()]
    if changed.empty:
        sets = listed([short(str(each), _NAME) for each in rows["calibration_label"].unique()][:_MOST_LINES])
        return Tile("Calibration sensitivity", "not asked", (f"one calibration set: {sets}",), how, "how-comparisons")
    changed = changed.assign(certain=shown(changed["p_holm"], changed["low"], changed["high"]))
    largest = next(each_row(changed.loc[[changed["difference"].abs().idxmax()]]))
    size = number(largest.difference * 100)
    where = f"{short(str(largest.level), _NAME)}, {short(largest.quantizer_label, _NAME)}"
    found = bool(largest.certain)
    lines = (
        f"{where}{'' if found else ': not shown'} ({interval(largest.low, largest.high)})",
        f"a change is shown in {int(changed['certain'].sum())} of {count(len(changed), 'comparison')}",
    )
    value = f"{'+' if largest.difference > 0 else ''}{size} points"
    standing = ("worse" if largest.difference > 0 else "better") if found else ""
    return Tile("Calibration sensitivity", value, lines, how, "how-comparisons", standing)


def _cost(worst: Any, best: tuple[Any, Comparison] | None, evidence: Evidence) -> Tile:
    how = (
        "Time an image with the adapter over that without, both simulated, so no engine's; passes are of one batch "
        "through the whole network. Unit: trial; not tested."
    )
    if best is None:
        return Tile("Cost of adaptation", "not asked", ("no adapter on this network",), how, "how-cost")
    row, _ = best
    ratio = row.seconds_per_image / worst.seconds_per_image if worst.seconds_per_image else math.nan
    forwards, backwards = (f"{each:.3g}" for each in (row.forwards_per_batch, row.backwards_per_batch))
    passes = f"{forwards} forward {'pass' if forwards == '1' else 'passes'} and {backwards} backward a batch"
    lines = (
        f"{short(row.adapter_label, _NAME)} on {short(worst.network, _NAME)}",
        passes,
        f"{count(int(row.adapted_parameters), 'parameter')} change, {_bytes(int(row.state_bytes))} more memory",
    )
    if is_missing(ratio):
        value = "unknown"
    elif ratio < 1:  # noise of short trials: to adapt includes what is done without
        value = "no more time"
    else:
        value = f"{_TIMES} {number(ratio)} the time"
    return Tile("Cost of adaptation", value, lines, how, "how-cost")


def _bytes(size: int) -> str:
    return f"{size / 1000:,.0f} kB" if size >= 1000 else count(size, "byte")


def _not_told_apart(evidence: Evidence, rows: pd.DataFrame, worst: Any) -> Tile:
    how = (
        f"Pairs of quantizers with equal bits whose mean errors are not shown to differ (p below {LEVEL:g} after Holm "
        "and an interval without 0 would show it); then the adapters of the least reliable network. Unit: domain, or "
        "image where each was shown once."
    )
    title, pairs = "Quantizers not told apart", evidence.comparisons
    first = rows.drop_duplicates(["task", "stream_label", "adapter_label"])[["task", "stream_label", "adapter_label"]]
    pairs = pairs[pairs["question"] == "quantizers_at_bits"].merge(first)
    if pairs.empty:
        return Tile(title, "not asked", ("no two quantizers have equal bits",), how, "how-comparisons")
    alike = pairs[~pairs["shown"].astype(bool)]
    value = f"{len(alike)} of {count(len(pairs), 'pair')}"
    return Tile(title, value, (*_pairs(pairs), *_adapter_pairs(evidence, worst)), how, "how-comparisons")


def _adapter_pairs(evidence: Evidence, worst: Any) -> Iterator[str]:
    pairs = evidence.comparisons
    alike = [pairs[name] == getattr(worst, name) for name in _OF_NETWORK]
    pairs = pairs[(pairs["question"] == "adapters_in_pairs") & functools.reduce(operator.and_, alike)]
    if len(pairs):
        left = int((~pairs["shown"].astype(bool)).sum())
        yield f"and of adapters on {short(worst.network, _NAME)}: {left} of {len(pairs)}"


def _pairs(pairs: pd.DataFrame) -> Iterator[str]:
    """Say of each task and bit width how many pairs are not told apart."""
    groups = list(pairs.groupby(["bits", "task"], sort=False))
    for (bits, task), own in groups[:_MOST_LINES]:
        left = int((~own["shown"].astype(bool)).sum())
        yield f"{bits}, {short(str(task), _NAME)}: {left} of {len(own)}"
    if len(groups) > _MOST_LINES:
        yield f"and {len(groups) - _MOST_LINES} more in the comparisons"
