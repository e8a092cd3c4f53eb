"""What was found, in sentences made from the numbers; nothing is claimed that its test does not say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import out_of_reach, significant
from evalsuite.store import Run
from reports.frames.evidence import Comparison, Evidence, with_room
from reports.frames.first_screen import by_reliability, worst_first
from reports.frames.methods import each_row, readable
from reports.words.numbers import count, interval, is_missing, listed, number, p_value, percent, points

_MOST = 6  # names in one list
_MOST_STREAMS = 1  # the others are in the answers
_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class TaskVerdict:
    """What was found on one task (and stream, where there are several), the most important sentence first."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The finding that matters first, and then each task's."""

    lead: str
    tasks: tuple[TaskVerdict, ...]
    note: str = ""
    """What it leaves out."""


def judge(run: Run, evidence: Evidence) -> Verdict:
    """Put the evidence of a run into words; of many calibration sets, that of the first one."""
    everything, evidence = evidence, with_room(evidence)
    ranked = {str(task): by_reliability(run, evidence, str(task)) for task in run.trials["task"].unique()}
    found = [
        TaskVerdict(_title(evidence, task, own), tuple(_sentences(run, evidence, own))) for task, own in ranked.items()
    ]
    networks = pd.concat(ranked.values()) if ranked else evidence.methods
    note = ""
    if len(evidence.methods) < len(everything.methods):
        note = (
            "Where a task has many calibration sets, this is about the study's first one; what the other sets change "
            "is said in the answers."
        )
    return Verdict(_lead(evidence, networks), tuple(found), note)


def change(subject: str, whose: str, found: Comparison, detail: str = "") -> str:
    """Say what ``subject`` does to ``whose`` error, or that it is not shown to do anything.

    >>> change("zoa", "the error of rtn W4A4", Comparison(-0.031, -0.042, -0.02, 0.012, 15)).replace(chr(160), " ")
    'zoa lowers the error of rtn W4A4 by 3.1 points (95 % interval 2.0 to 4.2; p = 0.012)'
    """
    falls = found.difference < 0
    verb = "lowers" if falls else "raises"
    low, high = (-found.high, -found.low) if falls else (found.low, found.high)
    size, between = points(abs(found.difference)) + detail, interval(low, high)
    tested = f"not tested: {found.note or 'too few domains'}" if is_missing(found.p) else p_value(found.p)
    if found.shown:
        return f"{subject} {verb} {whose} by {size} ({between}; {tested})"
    if found.apart:
        return (
            f"{subject} {verb} {whose} by {size}, on these images ({between}), "
            f"but that this holds across domains is not shown ({tested})"
        )
    signed = f"difference {points(found.difference)}{detail}; {interval(found.low, found.high)}; {tested}"
    return f"{subject} is not shown to change {whose} ({signed})"


def mean_sentence(method: Any, reference_error: float, found: Comparison | None) -> str:
    """Say how a quantized network's mean error compares with full precision."""
    rates = f", from {percent(reference_error)} at full precision to {percent(method.error)}"
    if found is not None:
        return sentence(change(_name(method), "the mean error", found, rates))
    size = f"{interval(method.drop_low, method.drop_high)}, not tested"
    return f"The drop of {_name(method)} is {points(method.drop)} on average{rates} ({size})."


def group_sentence(method: Any, group: str) -> str:
    """Say whether a network harms its worst class, domain or other group more than chance explains.

    ``method.least_p`` is the smallest p that the number of permutations allows; where even that is too large,
    the sentence says so instead of calling it not shown.
    """
    name, value, null, p = (getattr(method, f"worst_drop_{group}{part}") for part in ("", "_value", "_null", "_p_holm"))
    if is_missing(p):
        return f"Nothing can be said about its worst {group}: there is no full-precision result to compare with."
    worst = f"{readable(str(name))}, loses {points(value)} where chance alone would give {number(null * 100)}"
    if value <= 0:
        return f"In no {group} does it make more errors than full precision (largest drop {points(value)})."
    if significant(p):
        return f"Its worst {group}, {worst} ({p_value(p)})."
    if out_of_reach(method.least_p):
        return (
            f"Its worst {group}, {worst}; the permutations are too few to tell whether that is chance ({p_value(p)})."
        )
    return f"It is not shown to harm one {group} more than another: the worst, {worst} ({p_value(p)})."


def _title(evidence: Evidence, task: str, ranked: pd.DataFrame) -> str:
    streams = evidence.methods.loc[evidence.methods["task"] == task, "stream_label"].nunique()
    return f"{task}, stream {ranked['stream_label'].iloc[0]}" if streams > 1 and len(ranked) else task


def _lead(evidence: Evidence, ranked: pd.DataFrame) -> str:
    if ranked.empty:
        return "This run has no result of a quantized network, so there is nothing to judge."
    worst = next(each_row(worst_first(ranked)))
    if is_missing(worst.worst_drop_class_p_holm):
        return (
            "There is no full-precision result to compare with: this run says how large the errors are, "
            "not what quantization costs."
        )
    if ranked["worst_drop_class_value"].max() <= 0:
        return "No quantized network makes more errors than full precision in any class."
    where = f"{_name(worst)} on {worst.task}"
    loses = (
        f"{named_class(worst.worst_drop_class)} loses {points(worst.worst_drop_class_value)} where chance alone "
        f"would give {number(worst.worst_drop_class_null * 100)} ({p_value(worst.worst_drop_class_p_holm)})"
    )
    if not worst.beyond:
        largest = f"The largest drop is that of {where}: {loses}; on average it {lost(worst.drop)}."
        if out_of_reach(ranked["least_p"]).all():
            return f"This run has too few permutations to tell unequal harm of the classes from chance. {largest}"
        return f"No quantized network is shown to harm one class more than another. {largest}"
    text = f"By its worst class, the least reliable network is {where}: {loses}; on average it {lost(worst.drop)}."
    tried = tried_on_its_stream(evidence, worst)
    if not tried:
        return text
    helped = [(row, found) for row, found in tried if found.lowers]
    if not helped:
        return f"{text} No adapter is shown to lower its error."
    return f"{text} Adaptation helps: {_helpers(sorted(helped, key=lambda each: each[1].difference))}."


def _helpers(helped: Sequence[tuple[Any, Comparison]]) -> str:
    """Say what the adapters that help do, the most effective first; which of them is best is not tested."""
    row, found = helped[0]
    after = f"its worst class then {lost(row.worst_drop_class_value)}"
    if len(helped) == 1:
        return f"{change(row.adapter_label, 'its mean error', found)}; {after}"
    names = _shortened([other.adapter_label for other, _ in helped])
    least, most = (number(-each.difference * 100) for each in (helped[-1][1], found))
    sizes = points(-found.difference) if least == most else f"{least} to {points(-found.difference)}"
    largest = max(each.p for _, each in helped)
    with_best = f"with {row.adapter_label} {after}"
    tested = p_value(largest) if largest < 0.001 else p_value(largest).replace("=", "\N{LESS-THAN OR EQUAL TO}")
    return f"{names} lower its mean error by {sizes} (each {tested}); {with_best}"


def _sentences(run: Run, evidence: Evidence, ranked: pd.DataFrame) -> Iterator[str]:
    if ranked.empty:
        yield "No quantized network has a result on this task."
        return
    worst = next(each_row(ranked))
    if is_missing(worst.drop):
        yield "There is no full-precision result to compare with; the errors are in the tables."
    else:
        yield from _of_network(evidence, worst)
        yield from _of_others(ranked.iloc[1:])
    yield from _of_rivals(evidence, ranked)
    yield from _of_adapters(evidence, worst)
    if out_of_reach(worst.least_p):
        made = count(int(run.study["analysis"]["permutations"]), "permutation")
        yield (
            f"After Holm's correction no p-value of a worst group can fall below {worst.least_p:.2f} with {made}: "
            "raise analysis.permutations to tell unequal harm from chance."
        )


def _of_network(evidence: Evidence, worst: Any) -> Iterator[str]:
    methods = evidence.methods
    full = methods[
        (methods["task"] == worst.task)
        & (methods["stream_label"] == worst.stream_label)
        & methods["full_precision"]
        & methods["unadapted"]
    ]
    found = evidence.against_quantizer(worst, full["quantizer_label"].iloc[0]) if worst.unadapted else None
    yield mean_sentence(worst, float(full["error"].iloc[0]), found)
    for group in evidence.groups:
        # NaN where the task lacks the column; fewer than all rows where there are two groups at least.
        if getattr(worst, f"worst_{group}_size") < worst.images * worst.seeds:
            yield group_sentence(worst, group)


def _of_others(others: pd.DataFrame) -> Iterator[str]:
    beyond, within = others[others["beyond"]], others[~others["beyond"]]
    if len(beyond):
        names = [
            f"{_name(row)} ({named_class(row.worst_drop_class)}, {points(row.worst_drop_class_value)})"
            for row in each_row(beyond)
        ]
        yield f"The worst class of {_shortened(names)} also loses more than chance explains."
    within = within[significant(within["least_p"])]
    if len(within):
        names = [_name(row) for row in each_row(within)]
        yield f"{_shortened(names)} {_are(names)} not shown to harm one class more than another."


def _of_rivals(evidence: Evidence, ranked: pd.DataFrame) -> Iterator[str]:
    """Compare the best and the worst quantizer among those with equal bits and calibration set."""
    alike = ["bits", "calibration_label", "adapter_label", "stream_label"]
    for _, rivals in ranked.groupby(alike, sort=False):
        if len(rivals) < 2:
            continue
        by_error = rivals.sort_values("error", kind="stable")
        best, last = (next(each_row(part)) for part in (by_error.iloc[:1], by_error.iloc[-1:]))
        found = evidence.against_quantizer(best, str(last.quantizer_label))
        if found is not None:
            yield sentence(change(f"{_name(best)} instead of {_name(last)}", "the mean error", found))


def _of_adapters(evidence: Evidence, worst: Any) -> Iterator[str]:
    adapted = with_adapters(evidence, worst)
    streams = list(dict.fromkeys(row.stream_label for row, _ in adapted))
    streams.sort(key=lambda stream: stream != worst.stream_label)
    for stream in streams[:_MOST_STREAMS]:
        own = sorted((each for each in adapted if each[0].stream_label == stream), key=lambda each: each[1].difference)
        where = f"On the stream {stream}, " if len(streams) > 1 else ""
        best, found = own[0]
        text = where + change(best.adapter_label, f"the mean error of {worst.network}", found)
        if len(own) > 1:
            text += "; " + "; ".join(_briefly(own[1:]))
        yield sentence(text)
    if len(streams) > _MOST_STREAMS:
        yield f"{count(len(streams) - _MOST_STREAMS, 'further stream')} of this task: see the answers."
    if not adapted:
        return
    best, found = min(
        (each for each in adapted if each[0].stream_label == streams[0]), key=lambda each: each[1].difference
    )
    if found.lowers and not is_missing(best.worst_drop_class_value):
        yield (
            f"With {best.adapter_label}, the largest drop of a class of {worst.network} is "
            f"{points(best.worst_drop_class_value)} ({named_class(best.worst_drop_class)}) instead of "
            f"{number(worst.worst_drop_class_value * 100)}; no test compares the two."
        )


def _briefly(others: Sequence[tuple[Any, Comparison]]) -> Iterator[str]:
    for verb, chosen in (
        ("lower", [each for each in others if each[1].lowers]),
        ("raise", [each for each in others if each[1].shown and each[1].difference > 0]),
    ):
        if chosen:
            names = [row.adapter_label for row, _ in chosen][:_MOST]
            sizes = [number(abs(found.difference) * 100) for _, found in chosen][:_MOST]
            yield f"{listed(names)} {verb}{'s' if len(names) == 1 else ''} it by {listed(sizes)}{_SPACE}points"
    unclear = [row.adapter_label for row, found in others if not found.shown]
    if unclear:
        yield f"{_shortened(unclear)} {_are(unclear)} not shown to change it"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def with_adapters(evidence: Evidence, worst: Any) -> list[tuple[Any, Comparison]]:
    """Return the adapters of a network, each with its comparison with the unadapted one, where there is one."""
    if not worst.unadapted:
        return []
    methods = evidence.methods
    own = methods[~methods["unadapted"]]
    for name in ("task", "calibration_label", "quantizer_label"):  # what a network is called depends on what is shown
        own = own[own[name] == getattr(worst, name)]
    found = [(row, evidence.against_unadapted(row, worst.adapter_label)) for row in each_row(own)]
    return [(row, each) for row, each in found if each is not None and not is_missing(each.difference)]


def tried_on_its_stream(evidence: Evidence, worst: Any) -> list[tuple[Any, Comparison]]:
    """Return what :func:`with_adapters` does, of the network's own stream."""
    return [each for each in with_adapters(evidence, worst) if each[0].stream_label == worst.stream_label]


def named_class(name: Any) -> str:
    """Call a class a class, for its name may be a mere number."""
    text = readable(str(name))
    return text if text.startswith("class") else f"class {text}"


def lost(drop: float) -> str:
    """Say that a network loses or gains so many points, where it is the subject."""
    return f"{'loses' if drop >= 0 else 'gains'} {points(abs(drop))}"


def _name(method: Any) -> str:
    return str(method.network) if method.unadapted else f"{method.network} with {method.adapter_label}"


def _shortened(names: Sequence[str], last: str = "and") -> str:
    kept = list(names[:_MOST])
    return listed([*kept, f"{len(names) - _MOST} more"] if len(names) > _MOST else kept, last)


def sentence(text: str) -> str:
    """End a clause with a full stop; only words of ours get a capital, never a method's name."""
    return (text[0].upper() + text[1:] if text.startswith("there is ") else text) + "."
