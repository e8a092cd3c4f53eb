"""Runs that were compared, in words: how many results are told apart, which difference is largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from evalsuite.analysis.claims import LEVEL
from evalsuite.analysis.verdict import Standing
from reports.frames.methods import each_row
from reports.words.audit_tiles import GLYPHS, short, signed
from reports.words.first_screen import Tile
from reports.words.numbers import CONFIDENCE_PERCENT, count, interval, is_missing, listed, number, p_value, points

_NAME = 32
_ORDER: tuple[Standing, ...] = ("better", "worse", "not told apart", "not tested")
_UNTOLD: dict[Standing, str] = {"not told apart": "not told apart", "not tested": "without a test"}
_TESTED = "The p-value is corrected by Holm over all results of the later run"
RULE = (
    f"A difference is the later run's error minus the first run's, in points with a {CONFIDENCE_PERCENT} % interval: "
    f"below zero the later run errs less. It is claimed where p < {LEVEL:g} after Holm's correction over all results "
    "of that run, and the interval excludes zero. Without a test: the two differ on too few images or domains for a "
    "small p, see the notes."
)


def standing(row: Any, prefix: str = "") -> Standing:
    """Say how the later run stands in a row of the table; ``prefix``: empty for the mean, ``worst_class_``."""
    if is_missing(getattr(row, f"{prefix}p_holm")):
        return "not tested"
    if not bool(getattr(row, f"{prefix}shown")):
        return "not told apart"
    return "better" if getattr(row, f"{prefix}difference") < 0 else "worse"


def tally(standings: Sequence[Standing]) -> str:
    """Count standings, each with its shape."""
    return "  ".join(f"{GLYPHS[each]} {standings.count(each)}" for each in _ORDER if each in standings)


def brief(found: pd.DataFrame) -> str:
    """Say in at most sixty words what the comparison found."""
    several = found["a"].nunique() > 1
    texts = []
    for name, own in found.groupby("a", sort=False):
        who, base = short(str(name), _NAME), short(str(own["b"].iloc[0]), _NAME)
        texts.append(f"{who} against {base}: {_said([standing(row) for row in each_row(own)])}.")
        if not several:
            worst = [standing(row, "worst_class_") for row in each_row(own)]
            texts.append(
                f"Worst class: {worst.count('better') or 'none'} with less error, "
                f"{worst.count('worse') or 'none'} with more."
            )
    if len(texts) > 3:
        stands = [standing(row) for row in each_row(found)]
        base = short(str(found["b"].iloc[0]), _NAME)
        return f"{found['a'].nunique()} runs against {base}: {tally(stands)} of {count(len(found), 'result')}."
    return " ".join(texts)


def _said(stands: Sequence[Standing]) -> str:
    counts = {each: stands.count(each) for each in _ORDER}
    left = [f"{counts[each]} {said}" for each, said in _UNTOLD.items() if counts[each]]
    if not counts["better"] + counts["worse"]:
        return f"none of {count(len(stands), 'result')} is told apart" + (f" ({', '.join(left)})" if left else "")
    told = [f"{counts['better'] or 'none'} with less error", f"{counts['worse'] or 'none'} with more"]
    return f"of {count(len(stands), 'result')} {listed([*told, *left])}"


def tiles(found: pd.DataFrame, unpaired: pd.DataFrame) -> list[Tile]:
    """Return the tiles: how many differ, on average and in the worst class, the largest difference, what was left."""
    return [*_told(found), *_largest(found), _left(found, unpaired)]


def _told(found: pd.DataFrame) -> Iterator[Tile]:
    for title, prefix, unit in (
        ("Mean error told apart", "", "domains; of images shown once, McNemar's test over images. Unit: domain."),
        ("Worst class told apart", "worst_class_", "exchanges of the two runs within images. Unit: test image."),
    ):
        stands = [standing(row, prefix) for row in each_row(found)]
        better, worse = stands.count("better"), stands.count("worse")
        lines = (f"{GLYPHS['better']} less error in {better}", f"{GLYPHS['worse']} more error in {worse}")
        how = f"{_TESTED}; the test is over {unit}"
        kind = "worse" if worse else "better" if better else ""
        value = f"{better + worse} of {count(len(found), 'result')}"
        yield Tile(title, value, lines, how, "how-claimed", kind)


def _largest(found: pd.DataFrame) -> Iterator[Tile]:
    known = found[found["difference"].notna()]
    if known.empty:
        return
    row = next(each_row(known.loc[[known["difference"].abs().idxmax()]]))
    stand = standing(row)
    edges = f" ({interval(row.low, row.high)})"
    lines = (
        f"{stand}{'' if is_missing(row.p_holm) else f', {p_value(row.p_holm)}'}",
        f"{short(row.quantizer_label, _NAME)}, adapter {short(row.adapter_label, _NAME)}",
        f"on {short(row.task, _NAME)}{edges}",
    )
    how = f"The largest difference of mean errors, of any sign. {_TESTED}. Unit: domain."
    kind = stand if stand in ("better", "worse") else ""
    yield Tile("Largest difference", f"{signed(row.difference)} points", lines, how, "how-claimed", kind)


def _left(found: pd.DataFrame, unpaired: pd.DataFrame) -> Tile:
    tested = int(found["p_holm"].isna().sum())
    lines = (
        f"{tested or 'none'} compared without a test: see their notes" if tested else "all others were tested",
        f"{len(unpaired) or 'none'} in one run only",
    )
    how = "Method combinations pair up by task, calibration set, quantizer, adapter and stream, by their labels."
    return Tile("Not compared", f"{count(len(unpaired), 'result')}", lines, how, "how-paired")


def said(row: Any) -> str:
    """Say a row in words, for those who do not see the picture."""
    parts = []
    for title, prefix in (("mean", ""), ("worst class", "worst_class_")):
        value, low, high = (getattr(row, f"{prefix}{name}") for name in ("difference", "low", "high"))
        if not is_missing(value):
            edges = "" if is_missing(low) else f" ({number(low * 100)} to {number(high * 100)})"
            parts.append(f"{title} {points(value)}{edges}, {standing(row, prefix)}")
    return "; ".join(parts) or "no number"
