"""The images behind the worst groups, as the page shows them: each picture embedded once, however often it is shown."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from reports.frames.kept_images import Shot
from reports.frames.lost_images import Group, Lost
from reports.frames.methods import each_row, readable
from reports.page.filters import Filters
from reports.words import images as words
from reports.words.numbers import is_missing, number

_MOST_CONFUSED = 4


@dataclass(frozen=True)
class Mistake:
    """An image that is lost; ``picture``: its place among the pictures, None where there is none."""

    picture: int | None
    said: str
    label: str
    taken_for: str
    before: str
    after: str


@dataclass(frozen=True)
class Span:
    """Median and middle half of a probability, in % of the width."""

    kind: str
    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Part:
    """A worst group: what is lost of it."""

    title: str
    tally: str
    sureness: str
    spans: tuple[Span, ...]
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class Confused:
    """A class that the worst one is taken for: shares in whole per cent, now and at full precision."""

    name: str
    now: int
    full: int
    right: bool


@dataclass(frozen=True)
class Lot:
    """What one network loses, with an adapter or without."""

    marks: str
    task: str
    title: str
    adapted: bool
    parts: tuple[Part, ...]
    confused: tuple[Confused, ...]
    whose: str


@dataclass(frozen=True)
class Embedded:
    """A picture in the page."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class Images:
    """All lots, by task, and the pictures that they show."""

    tasks: tuple[tuple[str, tuple[Lot, ...]], ...]
    pictures: tuple[Embedded, ...]
    private: frozenset[str]

    @property
    def places(self) -> frozenset[str]:
        """The combinations that have a lot, by their marks."""
        return frozenset(lot.marks for _, lots in self.tasks for lot in lots)


def images(found: list[Lost], private: Collection[str], filters: Filters) -> Images:
    """Arrange what is lost: the lots of each task, and every picture that one of them shows.

    ``private``: the tasks of which there is no picture to be shown, whatever was kept.
    """
    places: dict[Shot, int] = {}
    tasks: dict[str, list[Lot]] = {}
    for lost in found:
        parts = tuple(_part(group, places) for group in lost.groups)
        marks = filters.mark(vars(lost.method))
        task = str(lost.method.task)
        whose = words.named(lost.groups[0].row)
        lot = Lot(marks, task, words.headline(lost), not lost.method.unadapted, parts, _confused(lost), whose)
        tasks.setdefault(task, []).append(lot)
    pictures = tuple(_embedded(shot) for shot in places)
    return Images(tuple((task, tuple(lots)) for task, lots in tasks.items()), pictures, frozenset(private))


def _part(group: Group, places: dict[Shot, int]) -> Part:
    row = group.row
    known = row.flips > 0 and not is_missing(row.before) and not is_missing(row.after)
    spans = tuple(
        Span(kind, *(round(100 * getattr(row, name), 1) for name in (f"{side}_low", side, f"{side}_high")))
        for side, kind in (("before", "mean"), ("after", "beyond"))
    )
    mistakes = tuple(_mistake(each, places) for each in each_row(group.mistakes))
    title = f"Worst {group.row.group}: {words.named(row).removeprefix(f'{row.group} ')}"
    return Part(title, words.tally(group), words.sureness(group) if known else "", spans if known else (), mistakes)


def _mistake(row: Any, places: dict[Shot, int]) -> Mistake:
    place = None if row.shot is None else places.setdefault(row.shot, len(places))
    names = (readable(str(row.label)), readable(str(row.prediction)))
    return Mistake(place, words.where(row), *names, number(100 * row.before, 0), words.sure(row.after))


def _confused(lost: Lost) -> tuple[Confused, ...]:
    """Return what the worst class is taken for: itself first, then the most frequent others."""
    table = lost.confusion
    own = table["prediction"] == table["name"]
    shown = [(True, row) for row in each_row(table[own])]
    shown += [(False, row) for row in each_row(table[~own].head(_MOST_CONFUSED))]
    return tuple(
        Confused(readable(str(row.prediction)), round(100 * row.share), round(100 * row.reference_share), right)
        for right, row in shown
    )


def _embedded(shot: Shot) -> Embedded:
    return Embedded(f"data:image/webp;base64,{base64.b64encode(shot.webp).decode()}", shot.width, shot.height)
