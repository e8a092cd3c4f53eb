"""The first table of a published page: what each network's tables say to the study's questions, a row per network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from benchmarks import claims
from evalsuite.analysis.claims import harmed, shown
from reports.frames.first_screen import largest_drop_first
from reports.markdown import escaped, table
from reports.words.answers import CHOSEN
from reports.words.numbers import number, p_cell
from reports.words.verdict import named_class

EFFECTS = "calibration_effects.csv"
LEAST_OF_CLASS = 10
_NONE = "\N{EN DASH}"


def at_a_glance(results: Path) -> str:
    """Return a table of the tasks of a study, ``results``: its folder of published runs; empty for a single task.

    Networks are those without adaptation; where several calibration sets were compared, those of the first.
    """
    rows = [cells for file in sorted(results.glob("*/summary.csv")) for cells in _cells(file)]
    if len(rows) < 2:
        return ""
    heads = [name for name in rows[0] if any(cells[name] != _NONE for cells in rows)]
    lines = table(heads, [], [name not in ("Task", "Least reliable", "Worst class") for name in heads]).splitlines()
    lines += [f"| {' | '.join(escaped(cells[name]) for name in heads)} |" for cells in rows]
    notes = "; ".join(f"{name}: {_NOTES[name]}" for name in heads if name in _NOTES)
    return "\n".join(lines) + f"\n\n*{notes}. Drops are in points.*"


_NOTES = {
    "Least reliable": (
        "of the networks without adaptation, under the study's first calibration set, the one whose worst class loses "
        f"most; where a class has fewer than {LEAST_OF_CLASS} images, the one that loses most on average"
    ),
    "Beyond chance": "networks whose worst class loses more than chance explains",
    "Sets": "calibration sets, of each network, that are shown to change its mean error",
    "Augmentation, sampling": "the same of sets that are augmented or chosen",
    "Apart": "pairs of methods of equal bits whose mean errors are told apart",
}
"""What a column is, where its head does not say."""


def unadapted(file: Path) -> Iterator[pd.DataFrame]:
    """Yield each task's unadapted quantized networks, of its first calibration set and stream, worst class first."""
    frame = claims.read_table(file)
    frame = frame[(frame["adapter_label"] == "none") & frame["worst_drop_class"].notna()]
    for _, own in frame.groupby("task", sort=False):
        first = own.iloc[0]
        own = own[
            (own[["calibration_label", "stream_label"]] == first[["calibration_label", "stream_label"]]).all(axis=1)
        ]
        yield largest_drop_first(own)


def large_enough(networks: pd.DataFrame) -> bool:
    """Whether enough images of a class were shown for its error to say something; ours."""
    return bool((networks["worst_class_size"] >= LEAST_OF_CLASS).all())


def _cells(file: Path) -> Iterator[dict[str, str]]:
    effects, compared = file.with_name(EFFECTS), claims.read_table(file.with_name("comparisons.csv"))
    changed = claims.read_table(effects) if effects.is_file() else None
    compared = compared[(compared["question"] == "quantizers_at_bits") & (compared["adapter_label"] == "none")]
    for networks in unadapted(file):
        large = large_enough(networks)
        worst, pairs = networks.iloc[0] if large else networks.loc[networks["drop"].idxmax()], compared
        for name in ("task", "calibration_label", "stream_label"):
            pairs = pairs[pairs[name] == worst[name]]
        yield {
            "Task": worst["task"],
            "Least reliable": worst["quantizer_label"],
            "Mean drop": number(100 * worst["drop"]),
            **_of_classes(networks, worst, large),
            "Sets": _changed(changed, worst["task"], chosen=False),
            "Augmentation, sampling": _changed(changed, worst["task"], chosen=True),
            "Apart": _share(pairs, lambda own: shown(own["p_holm"], own["low"], own["high"])),
        }


def _of_classes(networks: pd.DataFrame, worst: pd.Series, large: bool) -> dict[str, str]:
    heads = ("Worst class", "Its drop", "By chance", "p", "Beyond chance")
    if not large:
        return dict.fromkeys(heads, _NONE)
    cells = [named_class(worst["worst_drop_class"])]
    cells += [number(100 * worst[f"worst_drop_class_{name}"]) for name in ("value", "null")]
    cells += [p_cell(worst["worst_drop_class_p_holm"])]
    cells += [_share(networks, lambda own: harmed(own["worst_drop_class_p_holm"], own["worst_drop_class_value"]))]
    return dict(zip(heads, cells, strict=True))


def _changed(effects: pd.DataFrame | None, task: str, chosen: bool) -> str:
    if effects is None:
        return _NONE
    own = effects[
        (effects["task"] == task) & (effects["factor"].isin(CHOSEN) == chosen) & effects["difference"].notna()
    ]
    return _share(own, lambda rows: shown(rows["p_holm"], rows["low"], rows["high"]))


def _share(rows: pd.DataFrame, told: Callable[[pd.DataFrame], pd.Series]) -> str:
    return f"{int(told(rows).sum())} of {len(rows)}" if len(rows) else _NONE
