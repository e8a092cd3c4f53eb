"""Which trials of a study ``[[exclude]]`` leaves out, decided setting by setting instead of trial by trial.

A filter asks several settings to have certain values, and each of them belongs to one axis of the study: its tasks,
calibration sets, quantizers, adapters, streams or seeds. So a value of an axis either meets its part of a filter or
does not, and a trial is matched where all its values do: a study of 100,000 trials has hundreds of such values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json

Columns = Mapping[str, Any]
"""What a value of an axis puts into the columns of its trials."""


class Filters:
    """The filters of a study and how the values of its axes meet them.

    Parameters
    ----------
    texts : canonical JSON of each filter.
    axes : for each axis, the columns of its values.
    """

    def __init__(self, texts: Sequence[str], axes: Sequence[Sequence[Columns]]) -> None:
        self._texts, self._unused = texts, set(range(len(texts)))
        wanted = [json.loads(text) for text in texts]
        known = [{key for columns in axis for key in columns} for axis in axes]
        nowhere = [any(all(key not in keys for keys in known) for key in each) for each in wanted]
        self._met = [
            [
                frozenset(
                    number
                    for number, each in enumerate(wanted)
                    if not nowhere[number] and _matches(columns, {k: v for k, v in each.items() if k in keys})
                )
                for columns in axis
            ]
            for axis, keys in zip(axes, known, strict=True)
        ]

    def match(self, place: Sequence[int]) -> bool:
        """Whether any filter matches the trial whose values have these positions on their axes."""
        if not self._texts:
            return False
        matching = frozenset.intersection(*(met[number] for met, number in zip(self._met, place, strict=True)))
        self._unused -= matching
        return bool(matching)

    def check_used(self) -> None:
        """Raise RequestError if a filter has matched nothing yet."""
        if self._unused:
            text = min(self._texts[number] for number in self._unused)
            raise RequestError(f"[[exclude]] {text} matches no trial of the study: expected one that does")


def still_meant(texts: Sequence[str], before: Sequence[Columns], after: Sequence[Columns]) -> tuple[str, ...]:
    """Return the filters of a study with overridden values, without what they say of values that are gone.

    Parameters
    ----------
    texts : canonical JSON of each filter.
    before, after : columns of all values of all axes, as the study's file has them and as they are now.
    """
    gone: dict[str, list[Any]] = {}
    for columns in before:
        for key, value in columns.items():
            if value not in [now.get(key) for now in after]:
                gone.setdefault(key, []).append(value)
    kept = []
    for text in texts:
        wanted = json.loads(text)
        for key in wanted.keys() & gone.keys():
            values = wanted[key] if isinstance(wanted[key], list) else [wanted[key]]
            left = [value for value in values if value not in gone[key]]
            wanted[key] = left if isinstance(wanted[key], list) or not left else left[0]
        if all(value != [] for value in wanted.values()):
            kept.append(canonical_json(wanted))
    return tuple(kept)


def _matches(columns: Columns, wanted: Columns) -> bool:
    return all(columns.get(key) in (value if isinstance(value, list) else [value]) for key, value in wanted.items())
