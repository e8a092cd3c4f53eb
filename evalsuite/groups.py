"""Which columns divide the rows into groups: class, domain, family, severity, a task's own, and products of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from evalsuite.errors import RequestError, unknown_name

ALWAYS = ("class", "domain")
"""What every analysis looks at, and reports rank by."""
OF_RECORDS = (*ALWAYS, "family", "severity")
"""The groupings that every record has; a task's own columns come after them."""
PRODUCT = " x "

OF_A_GROUP = (
    *("worst_{}", "worst_{}_size", "worst_{}_error"),
    *("worst_drop_{}", "worst_drop_{}_value", "worst_drop_{}_low", "worst_drop_{}_high"),
    *("worst_drop_{}_null", "worst_drop_{}_p", "worst_drop_{}_p_holm", "worst_drop_{}_shown"),
    *("cvar10_{}", "cvar25_{}", "deviation_{}", "stability_{}", "stability_{}_p"),
)
"""The columns of ``summary.csv`` of one grouping."""


def parts(group: str, known: Iterable[str] = ()) -> list[str]:
    """Return the columns whose product a grouping is; itself where it is the name of a known column."""
    return [group] if group in known else group.split(PRODUCT)


def check_groups(groups: Sequence[str]) -> None:
    """Raise RequestError for a grouping that is empty, named twice, or a product of a column with itself."""
    seen: set[frozenset[str]] = set()
    for group in groups:
        columns = parts(group)
        if not all(column and column == column.strip() for column in columns):
            raise RequestError(f"[analysis] groups, {group!r}: expected a column, or columns joined by {PRODUCT!r}")
        if len(set(columns)) < len(columns) or frozenset(columns) in seen:
            raise RequestError(f"[analysis] groups, {group!r}: expected every column of a product, and product, once")
        seen.add(frozenset(columns))


def chosen_groups(asked: Sequence[str], own: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the groupings that an analysis looks at.

    Parameters
    ----------
    asked : the study's ``[analysis] groups``; without any, all own columns of the tasks.
    own : of each task, its own group columns.

    Returns
    -------
    ``ALWAYS``, then the others. A column of a task that is named as one of ``OF_RECORDS`` is not looked at.

    Raises
    ------
    RequestError
        If no task has all columns of a grouping, or two groupings would share a column of ``summary.csv``.
    """
    columns = list(dict.fromkeys(column for each in own for column in each if column not in OF_RECORDS))
    for group in asked:
        if not any(_has(each, group) for each in own):
            known = [*OF_RECORDS, *columns]
            strange = [part for part in parts(group, known) if part not in known]
            if strange:
                raise unknown_name("group column in [analysis] groups", strange[0], known)
            raise RequestError(f"[analysis] groups, {group!r}: expected a task that has all of its columns; none has")
    found = tuple(dict.fromkeys([*ALWAYS, *(asked or columns)]))
    names = Counter(column.format(group) for group in found for column in OF_A_GROUP)
    if max(names.values()) > 1:
        clash = next(name for name, times in names.items() if times > 1)
        raise RequestError(
            f"groups {', '.join(found)}: two of them make the column {clash!r} of summary.csv; expected other names"
        )
    return found


def _has(own: Sequence[str], group: str) -> bool:
    known = [*OF_RECORDS, *own]
    return all(part in known for part in parts(group, known))
