"""Answers to the questions of a reliability study and of an adaptation study, in sentences made from the numbers.

The first three questions are those of Yuan et al., arXiv 2303.13003; how they are answered is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import LEVEL, least_signed_rank_p, out_of_reach, shown, significant
from evalsuite.store import Run
from reports.frames.adaptation import adaptation
from reports.frames.calibration_draws import worst_classes
from reports.frames.calibration_sets import calibration_sets, effects
from reports.frames.diagnosis import diagnosis
from reports.frames.engines import engine_gaps
from reports.frames.evidence import Evidence, family_sizes, least_p
from reports.frames.first_screen import largest_drop_first
from reports.frames.methods import KEYS, each_row, readable
from reports.frames.paradigms import paradigms
from reports.frames.shift import shift_excess
from reports.words.adapters import QUESTION, of_adapters
from reports.words.diagnosis import QUESTION as BROKEN
from reports.words.diagnosis import of_diagnoses
from reports.words.engines import QUESTION as DEPLOYED
from reports.words.engines import of_engines
from reports.words.numbers import (
    CONFIDENCE_PERCENT,
    count,
    interval,
    is_missing,
    listed,
    number,
    p_value,
    percent,
    points,
)
from reports.words.shift import QUESTION as SHIFTED
from reports.words.shift import of_shift

CHOSEN = ("augmentation", "sampling")
"""The factors of the third question; all others belong to the first."""
_EQUALS = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
_DISTRIBUTION = "Does the distribution of the calibration set matter?"
_PARADIGM = "Does the choice of the calibration paradigm matter?"
_AUGMENTATION = "Do augmentation and sampling of the calibration set help?"
_FIGURES = {
    _DISTRIBUTION: ("calibration_effects", "calibration_curves", "severity_curves"),
    _PARADIGM: ("paradigm_comparison", "critical_difference", "performance_profile", "rank_stability"),
    _AUGMENTATION: (),
    QUESTION: ("stream_error", "ablation_bars", "cost_against_error", "recurring_rounds"),
    SHIFTED: ("shift_excess",),
    DEPLOYED: ("simulation_gap",),
    BROKEN: ("layer_diagnosis",),
}


@dataclass(frozen=True)
class Answer:
    """A question and what this run says to it, for each task."""

    question: str
    tasks: tuple[tuple[str, tuple[str, ...]], ...]
    figures: tuple[str, ...] = ()
    """Names of the figures that show it, the first beside the question."""


@dataclass(frozen=True)
class Answers:
    """All questions that a run has numbers for; ``note`` says what intervals and p-values cover."""

    answers: tuple[Answer, ...]
    note: str = ""


def answer(run: Run, evidence: Evidence) -> Answers:
    """Answer what the run can.

    Calibration sets against the first one and quantizers of equal bits against each other, without adaptation, in
    each task's first stream; adapters against none, on every network and stream. There is no answer where the run has
    one set, one quantizer and no adapter.
    """
    changed, compared, adapted = effects(run), paradigms(run, evidence), adaptation(run)
    chosen = changed["factor"].isin(CHOSEN)
    rows = evidence.methods.merge(worst_classes(run).drop(columns="worst_class"), on=KEYS, how="left")
    rows = rows.merge(calibration_sets(run)[["task", "calibration_label", "level"]], on=["task", "calibration_label"])
    least = pd.Series([least_p(run, int(tests)) for tests in family_sizes(rows)], rows.index, dtype=float)
    rows = rows.assign(least_p=least)
    compared = compared.merge(rows[[*KEYS, "least_p"]], on=KEYS)
    found = [
        _answer(_DISTRIBUTION, _of_sets, changed[~chosen], rows, evidence),
        _answer(_PARADIGM, _of_paradigms, compared, rows, evidence),
        _answer(_AUGMENTATION, _of_sets, changed[chosen], rows, evidence),
    ]
    tasks = [(str(task), tuple(of_adapters(own))) for task, own in adapted.groupby("task", sort=False)]
    shifted = [(str(task), tuple(of_shift(own))) for task, own in shift_excess(run).groupby("task", sort=False)]
    deployed = [(str(task), tuple(of_engines(own))) for task, own in engine_gaps(run).groupby("task", sort=False)]
    broken = [(str(task), tuple(of_diagnoses(own))) for task, own in diagnosis(run).groupby("task", sort=False)]
    by_question = {QUESTION: tasks, SHIFTED: shifted, DEPLOYED: deployed, BROKEN: broken}
    found += [Answer(name, tuple(own), _FIGURES[name]) for name, own in by_question.items()]
    answers = tuple(each for each in found if each.tasks)
    return Answers(answers, _note(evidence, len(changed) > 0, len(compared) > 0, len(adapted) > 0) if answers else "")


_Sentences = Callable[[pd.DataFrame, pd.DataFrame, Evidence], Iterator[str]]


def _answer(
    question: str, sentences: _Sentences, table: pd.DataFrame, rows: pd.DataFrame, evidence: Evidence
) -> Answer:
    tasks = [
        (str(task), tuple(sentences(own, rows[rows["task"] == task], evidence)))
        for task, own in table.groupby("task", sort=False)
    ]
    return Answer(question, tuple(tasks), _FIGURES[question])


def _of_sets(changed: pd.DataFrame, rows: pd.DataFrame, evidence: Evidence) -> Iterator[str]:
    changed = changed[changed["difference"].notna()]
    if changed.empty:
        yield "No calibration set has a result that can be compared with the first one's."
        return
    certain = changed[shown(changed["p_holm"], changed["low"], changed["high"])]
    harm, help_ = certain[certain["difference"] > 0], certain[certain["difference"] < 0]
    sets, networks = changed["calibration_label"].nunique(), changed["quantizer_label"].nunique()
    unclear = len(changed) - len(certain)
    yield (
        f"Against {readable(changed['first'].iloc[0])}, {count(sets, 'other set')} on {count(networks, 'network')}, "
        f"{count(len(changed), 'comparison')}: the mean error rises in {len(harm) or 'none'}, falls in "
        f"{len(help_) or 'none'}, and for {unclear or 'none'} no change is shown."
    )
    yield from _too_few_domains(changed)
    yield _extreme(changed, harm, "raises", "harmful")
    yield _extreme(changed, help_, "lowers", "helpful")
    if changed["factor"].nunique() > 1:
        yield _by_factor(changed, harm)
    yield from _worst_change(changed)
    alike = ["task", "quantizer_label", "calibration_label", "adapter_label", "stream_label"]
    own = rows.merge(changed[alike], on=alike)
    yield from _least_reliable(own)
    yield from _same_class(own)


def _too_few_domains(changed: pd.DataFrame) -> Iterator[str]:
    """Say where the signed-rank test, whose least p is 2^(1 - n), cannot reach the level after Holm's correction."""
    domains = changed[changed["unit"] == "domain"]
    least = least_signed_rank_p(domains["n"], domains["sets"])
    if len(domains) == len(changed) and out_of_reach(least).all():
        yield (
            f"No change could be shown: with {_range(domains['n'].astype(int))} domains that differ and "
            f"{count(int(domains['sets'].min()), 'set')}, Holm's p cannot fall below {min(1.0, least.min()):.2f}; "
            "intervals say how large the differences are on these images."
        )


def _extreme(changed: pd.DataFrame, certain: pd.DataFrame, verb: str, kind: str) -> str:
    """Name the set that is shown to harm (help) most, or say that none is."""
    sign = 1 if verb == "raises" else -1
    if certain.empty:
        row = next(each_row(changed.loc[[(sign * changed["difference"]).idxmax()]]))
        text = f"None of them is shown to {verb.removesuffix('s')} the mean error of any network"
        if sign * row.difference <= 0:
            return f"{text}: on these images, none does."
        return f"{text}; the largest difference is {points(row.difference)} ({row.level}, {_tested(row)})."
    row = next(each_row(certain.loc[[(sign * certain["difference"]).idxmax()]]))
    low, high = (row.low, row.high) if sign > 0 else (-row.high, -row.low)
    size = f"{points(sign * row.difference)} ({interval(low, high)}; {p_value(row.p_holm)}; "
    return (
        f"Most {kind} on average: {row.level}, which {verb} the mean error of {row.quantizer_label} by {size}"
        f"{count(int(row.n), row.unit)})."
    )


def _tested(row: Any) -> str:
    p = "not tested" if is_missing(row.p_holm) else p_value(row.p_holm)
    return f"{row.quantizer_label}; {interval(row.low, row.high)}; {p}"


def _by_factor(changed: pd.DataFrame, harm: pd.DataFrame) -> str:
    found, without = [], []
    for factor in changed["factor"].unique():
        own = harm[harm["factor"] == factor]
        if own.empty:
            without.append(str(factor))
            continue
        row = next(each_row(own.loc[[own["difference"].idxmax()]]))
        found.append(f"{factor} {number(row.difference * 100)} ({row.level}, {row.quantizer_label})")
    text = f"The largest shown rise of each kind of change, in points: {listed(found)}" if found else ""
    none = f"no rise is shown for {listed(without)}" if without else ""
    both = "; ".join(filter(None, (text, none)))
    return both[0].upper() + both[1:] + "."


def _worst_change(changed: pd.DataFrame) -> Iterator[str]:
    known = changed[changed["worst_change"].notna()]
    if known.empty:
        return
    higher = known[known["worst_low"] > 0]
    row = next(each_row((known if higher.empty else higher).sort_values("worst_change", kind="stable").iloc[[-1]]))
    if higher.empty:
        yield (
            "No set is seen to make the worst class worse: the largest change of its drop is "
            f"{points(row.worst_change)} ({row.level}, {row.quantizer_label}; "
            f"{interval(row.worst_low, row.worst_high)}; not tested)."
        )
        return
    yield (
        f"The worst class suffers most from {row.level}: that of {row.quantizer_label} then loses "
        f"{points(row.worst_drop)} ({readable(str(row.worst_class))}) instead of {number(row.first_worst_drop * 100)} "
        f"({readable(str(row.first_worst_class))}; change {number(row.worst_change * 100)}, "
        f"{interval(row.worst_low, row.worst_high)}; not tested). The interval lies above 0 in {len(higher)} of "
        f"{count(len(known), 'comparison')}."
    )


def _least_reliable(rows: pd.DataFrame) -> Iterator[str]:
    """Say of the combination with the largest drop of a class whether that is more than chance."""
    known = rows[rows["worst_drop_class_p"].notna()]
    if known.empty:
        return
    row = next(each_row(largest_drop_first(known)))
    yield _against_chance(row, f"For {row.quantizer_label} with {row.level}")
    if out_of_reach(known["least_p"]).all():
        return
    beyond = int(known["worst_drop_class_shown"].sum())
    yield (
        f"The worst class loses more than chance explains in {beyond} of {len(known)} combinations of network and set."
    )


def _against_chance(row: Any, who: str) -> str:
    """Say what the worst class loses; ``row.least_p``: the smallest p that the permutations allow."""
    p = row.worst_drop_class_p_holm
    text = (
        f"{who} the worst class, {readable(str(row.worst_drop_class))}, loses {points(row.worst_drop_class_value)} "
        f"against {number(row.drop * 100)} on average; "
        f"chance alone would give {number(row.worst_drop_class_null * 100)}"
    )
    if significant(p):
        return f"{text}; {p_value(p)}."
    if out_of_reach(row.least_p):
        return f"{text}; the permutations are too few to tell whether that is chance ({p_value(p)})."
    return f"{text}; not shown to be more than chance ({p_value(p)})."


def _same_class(rows: pd.DataFrame) -> Iterator[str]:
    """Say whether calibration draws agree on the worst class."""
    known = rows[rows["times"].notna()]
    if known.empty:
        return
    always = int((known["times"] == known["draws"]).sum())
    draws = _range(known["draws"].astype(int))
    yield (
        f"In {always} of {len(known)} combinations of network and set the same class is worst in each of {draws} "
        f"draws; Kendall's W of the classes' order is {_between(known['stability_class'])}."
    )


def _between(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "undefined"
    low, median, high = (number(float(each), 2) for each in (known.min(), known.median(), known.max()))
    return low if low == high else f"{low} to {high} (median {median})"


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return str(low) if low == high else f"{low} to {high}"


def _of_paradigms(compared: pd.DataFrame, rows: pd.DataFrame, evidence: Evidence) -> Iterator[str]:
    for bits, own in compared.groupby("bits", sort=False):
        best = next(each_row(own[own["best"]]))
        worse, unclear, untested = list[str](), list[str](), list[str]()
        for row in each_row(own[~own["best"]]):
            found = evidence.against_quantizer(row, str(best.quantizer_label))
            if found is not None and found.shown:
                size = f"{row.quantizer_label} by {points(found.difference)}"
                worse.append(f"{size} ({interval(found.low, found.high)}; {p_value(found.p)})")
            else:
                (untested if found is None else unclear).append(str(row.quantizer_label))
        text = f"Of {len(own)} quantizers at {bits}, {best.quantizer_label} has the lowest mean error, "
        text += percent(best.error)
        if worse:
            text += f"; worse: {listed(worse)}"
        if unclear:
            text += f"; not shown to be worse: {listed(unclear)}"
        if untested:
            text += f"; not compared with it: {listed(untested)}"
        yield text + "."
    ordered = compared.sort_values("worst_drop_class_value", kind="stable")
    for row in each_row(ordered.iloc[[0, -1]]):
        yield _against_chance(row, f"For {row.quantizer_label}")
    beyond = int(compared["worst_drop_class_shown"].sum())
    yield f"The worst class loses more than chance explains in {beyond} of {count(len(compared), 'network')}."
    yield from _draws(rows.merge(compared[KEYS], on=KEYS))


def _draws(rows: pd.DataFrame) -> Iterator[str]:
    known = rows[rows["times"].notna() & rows["stability_class"].notna()]
    if known.empty:
        return
    always = int((known["times"] == known["draws"]).sum())
    draws = _range(known["draws"].astype(int))
    least, most = (next(each_row(known.loc[[place]])) for place in _extremes(known["stability_class"]))
    alike = number(least.stability_class, 2) == number(most.stability_class, 2)
    ends = [
        f"{number(row.stability_class, 2)} ({row.quantizer_label}, p{_EQUALS}{row.stability_class_p:.3f})".replace(
            f"p{_EQUALS}0.000", p_value(0.0)
        )
        for row in ([least] if alike else [least, most])
    ]
    if alike and len(known) > 1:
        ends = [f"{number(least.stability_class, 2)} for all"]
    yield (
        f"The same class is worst in each of {draws} draws for {always} of {count(len(known), 'network')}; Kendall's W "
        f"of the classes' order is {' to '.join(ends)}, p uncorrected."
    )


def _extremes(values: pd.Series) -> tuple[Any, Any]:
    return values.idxmin(), values.idxmax()


IMAGES_ALONE = "test images"


def covered(evidence: Evidence) -> str:
    """Say over what the intervals of means are."""
    units = [str(unit) for unit in evidence.summary["unit"].dropna().unique()]
    crossed = [unit.partition(" x ")[2] for unit in units if " x " in unit]
    return f"{IMAGES_ALONE} and {listed(crossed)}" if crossed else IMAGES_ALONE


def _note(evidence: Evidence, sets: bool, quantizers: bool, adapters: bool) -> str:
    covers = covered(evidence)
    if covers == IMAGES_ALONE:
        covers += (
            " alone: with one calibration draw, how much results vary from draw to draw is in no interval, "
            "and whether the same class is worst in every draw cannot be said"
        )
    families = {
        "the calibration sets of one network": sets,
        "the quantizers of equal bits with the same calibration set, adapter and stream": quantizers,
        "the adapters of one network on one stream": adapters,
    }
    parts = [
        f"A change is called one where p < {LEVEL:g} and its {CONFIDENCE_PERCENT} % interval excludes 0; intervals are "
        f"of pairs, over {covers}.",
        "A mean error counts all images that a stream shows, clean ones too.",
    ]
    if any(families.values()):
        parts.append(
            f"p is corrected by Holm over {listed([name for name, asked in families.items() if asked])} (p_holm)"
            + ("; for worst classes, over the networks with the same calibration set." if sets or quantizers else ".")
        )
    if sets or quantizers:
        parts.append("Calibration sets and quantizers are compared without adaptation, in each task's first stream.")
    if adapters:
        parts.append("Times are those of simulated quantization: compare them only with each other.")
    return " ".join(parts)
