"""What adaptation does, in sentences made from the numbers: an adapter at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from evalsuite.adaptation.collapse import SHARE, WINDOW
from evalsuite.analysis import claims
from evalsuite.analysis.detection import WITHIN
from reports.frames.evidence import Comparison
from reports.frames.methods import each_row
from reports.words.numbers import count, interval, is_missing, listed, number, p_value, percent, points
from reports.words.verdict import change, sentence

QUESTION = "Does adaptation lower the error on the stream?"

_EACH = 3  # pairs of network and stream that are said one by one
_SPACE = "\N{NO-BREAK SPACE}"


def of_adapters(table: pd.DataFrame) -> Iterator[str]:
    """Say of each adapter of a task what it does, costs and sees; ``table``: rows of ``reports.frames.adaptation``."""
    streams = table["stream_label"].nunique() > 1
    for _, own in table.groupby("adapter_label", sort=False):
        parts = [_effect(own, streams), _cost(own), *_collapses(own, streams), *_changes(own)]
        yield " ".join(parts)
    if not table["collapsed"].any():
        yield (
            f"No trial collapsed: none predicts one class for over {100 * SHARE:g}{_SPACE}% of {WINDOW} images in a "
            "row that show more classes."
        )


def _effect(own: pd.DataFrame, streams: bool) -> str:
    name = str(own["adapter_label"].iloc[0])
    known = own[own["difference"].notna()]
    if known.empty:
        return f"{name} cannot be compared with the unadapted network on the same images."
    if len(known) <= _EACH:
        clauses = [
            change(name if place == 0 else "it", f"the error of {_where(row, streams)}", _comparison(row), _rates(row))
            for place, row in enumerate(each_row(known))
        ]
        return sentence("; ".join(clauses))
    shown = known[claims.shown(known["p"], known["low"], known["high"])]
    better, worse = shown[shown["difference"] < 0], shown[shown["difference"] > 0]
    text = (
        f"{name} lowers the error in {len(better) or 'none'} of {len(known)} pairs of network and stream and raises it "
        f"in {len(worse) or 'none'}; in {len(known) - len(shown) or 'none'} no change is shown."
    )
    ends = [("It helps most with", better, "idxmin"), ("It harms most with", worse, "idxmax")]
    said = [
        f"{verb} {_where(row, streams)}: by {points(abs(row.difference))} "
        f"({interval(*sorted((abs(row.low), abs(row.high))))}; {p_value(row.p)})"
        for verb, part, extreme in ends
        if len(part)
        for row in each_row(part.loc[[getattr(part["difference"], extreme)()]])
    ]
    if not said:
        row = next(each_row(known.loc[[known["difference"].idxmin()]]))
        said = [f"The lowest difference is {points(row.difference)} ({_where(row, streams)}; {_tested(row)})"]
    return " ".join([text, *(f"{each}." for each in said)])


def _where(row: Any, streams: bool) -> str:
    return f"{row.network} (stream: {row.stream_label})" if streams else str(row.network)


def _comparison(row: Any) -> Comparison:
    return Comparison(row.difference, row.low, row.high, row.p, int(row.n), row.note or "")


def _rates(row: Any) -> str:
    return f", from {percent(row.unadapted_error)} to {percent(row.error)}"


def _tested(row: Any) -> str:
    return f"{interval(row.low, row.high)}; {'not tested' if is_missing(row.p) else p_value(row.p)}"


def _cost(own: pd.DataFrame) -> str:
    forwards, backwards = (_range(own[f"{name}_per_batch"]) for name in ("forwards", "backwards"))
    passes = f"{forwards} forward{_plural(forwards)}"
    passes += f", {backwards} backward{_plural(backwards)}" if own["backwards_per_batch"].gt(0).any() else ""
    ratio = own["seconds_ratio"].dropna()
    times = _range(ratio) if len(ratio) else ""
    time = f" and takes {'' if times == '1' else f'{times} times '}as long as without adaptation" if times else ""
    return f"A batch costs {passes}{time}."


def _plural(amount: str) -> str:
    return "" if amount == "1" else "s"


def _range(values: pd.Series) -> str:
    low, high = (number(edge).removesuffix(".0") for edge in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _collapses(own: pd.DataFrame, streams: bool) -> Iterator[str]:
    fallen = own[own["collapsed"] > 0]
    if fallen.empty:
        return
    places = [_where(row, streams) for row in each_row(fallen)]
    shown = [*places[:_EACH], f"{len(places) - _EACH} more"] if len(places) > _EACH else places
    total = count(int(own["trials"].sum()), "trial")
    yield f"It collapsed in {int(fallen['collapsed'].sum())} of {total}: with {listed(shown)}."


def _changes(own: pd.DataFrame) -> Iterator[str]:
    """Say how many changes of domain an adapter saw, and how often it saw one that was none."""
    known = own[own["changes_1"] > 0]
    if known.empty:
        return
    later = WITHIN[-1]
    total = {name: int(known[name].sum()) for name in ("hits_1", f"hits_{later}", "changes_1", "alarms_1", "others_1")}
    changes = total["changes_1"]
    text = (
        f"It reported {total['hits_1']} of {count(changes, 'change')} of domain "
        f"({percent(total['hits_1'] / changes)}) with the first batch that shows the new one, "
        f"{total[f'hits_{later}']} within {later} batches"
    )
    if total["others_1"]:
        share = percent(total["alarms_1"] / total["others_1"])
        others = count(total["others_1"], "other batch", "other batches")
        text += f"; in {total['alarms_1']} of {others} ({share}) it reported a change that was none"
    yield text + "."
