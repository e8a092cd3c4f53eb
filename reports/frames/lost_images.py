"""What the worst class and the worst domain of every network lose, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from reports.frames.evidence import Evidence, with_room
from reports.frames.kept_images import Key, Shot
from reports.frames.methods import KEYS, each_row


@dataclass(frozen=True, eq=False)
class Group:
    """The group of a grouping that loses most."""

    row: Any
    """The columns of ``flips.csv``."""
    mistakes: pd.DataFrame
    """Rows of :func:`pictured`, the surest first."""


@dataclass(frozen=True, eq=False)
class Lost:
    """What a network, with an adapter or without, loses on its task's first stream."""

    method: Any
    """The columns of ``Evidence.methods``."""
    groups: tuple[Group, ...]
    """The worst class and the worst domain, where there are several."""
    confusion: pd.DataFrame
    """Rows of ``confusions.csv``: what the worst class is taken for."""


def pictured(evidence: Evidence, shots: Mapping[Key, Shot]) -> Evidence:
    """Return evidence whose ``mistakes`` have the column ``shot``: the picture that the run has kept of each, or None.

    By the run's own names, so before any of them is called otherwise.
    """
    mistakes = evidence.estimates["mistakes"]
    keys = mistakes[["task", "domain", "severity", "image"]].itertuples(index=False, name=None)
    shown = pd.Series([shots.get(key) for key in keys], index=mistakes.index, dtype=object)
    estimates = {**evidence.estimates, "mistakes": mistakes.assign(shot=shown)}
    return replace(evidence, analysis=replace(evidence.analysis, estimates=estimates))


def lost_images(evidence: Evidence) -> list[Lost]:
    """Return what every network loses, in the study's order, of the first calibration set where there are many.

    ``evidence`` is of :func:`pictured`.
    """
    tables = {name: evidence.estimates[name] for name in ("flips", "confusions", "mistakes")}
    parts = {name: dict(list(table.groupby(KEYS, sort=False))) for name, table in tables.items()}
    found = []
    for method in each_row(with_room(evidence).methods):
        key = tuple(getattr(method, name) for name in KEYS)
        if key in parts["flips"]:
            mistakes = parts["mistakes"].get(key, tables["mistakes"].iloc[:0])
            groups = tuple(
                Group(row, mistakes[mistakes["group"] == row.group]) for row in each_row(parts["flips"][key])
            )
            found.append(Lost(method, groups, parts["confusions"].get(key, tables["confusions"].iloc[:0])))
    return found
