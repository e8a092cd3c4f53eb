"""What the worst groups lose, in words: how many images flip, what they are taken for, how sure the networks were."""

from __future__ import annotations

from typing import Any

from reports.frames.lost_images import Group, Lost
from reports.frames.methods import readable
from reports.words.numbers import count, number, percent, points
from reports.words.verdict import named_class

_SPACE = "\N{NO-BREAK SPACE}"
_DOT, _DIAMOND = "\N{BLACK CIRCLE}", "\N{BLACK DIAMOND}"  # as the page draws them


def named(group: Any) -> str:
    """Call a group what it is: class 3, domain fog."""
    return named_class(group.name) if group.group == "class" else f"{group.group} {readable(str(group.name))}"


def headline(lost: Lost) -> str:
    """Say in a line what a network loses most of."""
    adapter = "" if lost.method.unadapted else f" with {lost.method.adapter_label}"
    first = lost.groups[0].row
    size = f"{named(first)} loses {points(first.drop)}" if first.drop > 0 else f"no {first.group} loses"
    return f"{lost.method.network}{adapter}: {size}"


def tally(group: Group) -> str:
    """Say how many of a group's rows flip, and how many the other way."""
    row = group.row
    if not row.flips:
        return f"None of its {count(row.rows, 'image')} is lost."
    share, verbs = percent(row.flips / row.rows), ("was", "is") if row.flips == 1 else ("were", "are")
    return (
        f"{row.flips:,} of {count(row.rows, 'image')} shown ({share}) {verbs[0]} right at full precision and "
        f"{verbs[1]} wrong now; "
        f"the reverse:{_SPACE}{row.repairs:,}."
    )


def sureness(group: Group) -> str:
    """Say how sure both networks were of what flips."""
    row = group.row
    before, after = (_spread(row, side) for side in ("before", "after"))
    return (
        f"Of these, from 0 to 100{_SPACE}%: probability of the right class at full precision {_DOT} {before}; "
        f"of the wrong class now {_DIAMOND} {after}."
    )


def _spread(row: Any, side: str) -> str:
    """Write a median probability, and its middle half where it is of several images."""
    middle, low, high = (sure(getattr(row, name)) for name in (side, f"{side}_low", f"{side}_high"))
    return middle if row.flips == 1 else f"{middle} (middle half {low} to {high})"


def sure(probability: float) -> str:
    """Write a probability in whole per cent."""
    return f"{number(100 * probability, 0)}{_SPACE}%"


def where(mistake: Any) -> str:
    """Say which image a mistake is of: fog 5, image 123."""
    severity = f" {mistake.severity}" if mistake.severity else ""
    return f"{readable(str(mistake.domain))}{severity}, image {mistake.image:,}"
