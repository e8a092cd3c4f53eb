"""The pictures of the first screen, as rows that can be filtered: networks beside chance, and the matrix."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.frames.first_screen import Matrix, span
from reports.frames.methods import each_row, readable
from reports.page.filters import Filters
from reports.page.strips import Axis, Mark, Strip
from reports.words.numbers import NOTHING, interval, is_missing, number, p_value, points
from reports.words.verdict import named_class

_STEPS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)
"""Points at which a cell's colour changes."""


@dataclass(frozen=True)
class Row:
    """A network's row."""

    marks: str
    name: str
    mean: str
    worst: str
    worst_name: str
    beyond: bool
    strip: Strip


@dataclass(frozen=True)
class Hero:
    """All networks on one axis."""

    rows: tuple[tuple[str, tuple[Row, ...]], ...]
    """By task."""
    axis: Axis


def hero(rows: pd.DataFrame, filters: Filters) -> Hero | None:
    """Place every network of :func:`reports.frames.first_screen.networks` on a common axis; None without any."""
    rows = rows[rows["drop"].notna()]
    if rows.empty:
        return None
    axis = Axis.over(span(rows))
    marked = rows.assign(marks=filters.marks(rows))
    by_task = [
        (str(task), tuple(_row(row, axis) for row in each_row(own))) for task, own in marked.groupby("task", sort=False)
    ]
    return Hero(tuple(by_task), axis)


def _row(row: Any, axis: Axis) -> Row:
    named = "" if is_missing(row.worst_drop_class_p_holm) else named_class(row.worst_drop_class)
    worst = axis.both(row.worst_drop_class_low, row.worst_drop_class_high)
    return Row(
        marks=row.marks,
        name=str(row.network) if row.unadapted else f"{row.network} with {row.adapter_label}",
        mean=number(row.drop * 100),
        worst=number(row.worst_drop_class_value * 100),
        worst_name=named or NOTHING,
        beyond=bool(row.beyond),
        strip=Strip(
            axis,
            dot=Mark(axis.maybe(row.drop), axis.both(row.drop_low, row.drop_high), "mean"),
            diamond=Mark(axis.maybe(row.worst_drop_class_value), worst, "beyond" if row.beyond else "within"),
            said=_said(row, named),
            band=axis.both(0.0, max(0.0, row.chance_high) if not is_missing(row.chance_high) else row.chance_high),
        ),
    )


def _said(row: Any, named: str) -> str:
    """Say a strip in words, for those who do not see it."""
    text = f"mean drop {points(row.drop)} ({interval(row.drop_low, row.drop_high)})"
    if not named:
        return f"{text}."
    verdict = "beyond chance" if row.beyond else "not shown to be beyond chance"
    edges = interval(row.worst_drop_class_low, row.worst_drop_class_high)
    return (
        f"{text}; {named} {points(row.worst_drop_class_value)} ({edges}), {verdict} "
        f"(expected {number(row.worst_drop_class_null * 100)}, {p_value(row.worst_drop_class_p_holm)})."
    )


@dataclass(frozen=True)
class Box:
    """A cell of the matrix."""

    marks: str
    level: str
    text: str
    said: str
    beyond: bool


@dataclass(frozen=True)
class Grid:
    """A matrix as the page shows it: a box per network and adapter, None where there is no result."""

    task: str
    stream: str
    first: bool
    adapters: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Box | None, ...]], ...]

    @property
    def gaps(self) -> bool:
        """Whether a network has no result with an adapter."""
        return any(box is None for _, boxes in self.rows for box in boxes)


def grids(matrices: list[Matrix], filters: Filters) -> list[Grid]:
    """Return the matrices of all tasks and streams; ``first``: of its task's first stream."""
    seen: set[str] = set()
    found = []
    for each in matrices:
        rows = each.rows.assign(marks=filters.marks(each.rows))
        boxes = {(row.network, row.adapter_label): _box(row) for row in each_row(rows)}
        names = rows.sort_values("network_order")["network"].unique()
        lines = tuple((str(name), tuple(boxes.get((name, own)) for own in each.adapters)) for name in names)
        found.append(Grid(each.task, each.stream, each.task not in seen, each.adapters, lines))
        seen.add(each.task)
    return found


def _box(row: Any) -> Box | None:
    if is_missing(row.drop):
        return None
    size, beyond = row.drop * 100, bool(row.worst_drop_class_shown)
    group = ""
    if beyond:
        group = (
            f"; worst class beyond chance: {readable(str(row.worst_drop_class))}, {points(row.worst_drop_class_value)}"
        )
    return Box(row.marks, level(size), number(size), f"mean drop {points(row.drop)}{group}", beyond)


def level(size: float) -> str:
    """Return the name of a drop's colour: ``d1`` to ``d6`` for worse than full precision, ``g1`` to ``g3`` for better.

    ``size``: points. Below one point either way there is none, ``d0``.
    """
    step = bisect_right(_STEPS, abs(size))
    return f"d{step}" if size >= 0 or step == 0 else f"g{min(3, (step + 1) // 2)}"


LEGEND = (
    ("g3", "20 better"),
    ("g2", "5"),
    ("g1", "1"),
    ("d0", "alike"),
    ("d1", "1"),
    ("d2", "2"),
    ("d3", "5"),
    ("d4", "10"),
    ("d5", "20"),
    ("d6", "40 worse"),
)
"""The colours, each with the points from which it is used."""
