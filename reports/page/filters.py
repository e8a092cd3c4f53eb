"""What a run's page can be filtered by: each row of a table says which method combinations it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from evalsuite.analysis.families import VARIES
from reports.frames.methods import KEYS, as_rows

_DIMENSIONS = {
    "task": ("task", "Task"),
    "quantizer": ("quantizer_label", "Quantizer"),
    "bits": ("bits", "Bits"),
    "calibration": ("calibration_label", "Calibration set"),
    "adapter": ("adapter_label", "Adapter"),
    "stream": ("stream_label", "Stream"),
}
"""By the name that stands in a link: the column, and the label of the choice."""


OTHERS = {name: each for name, each in _DIMENSIONS.items() if name not in ("task", "calibration")}
"""What a page about several runs is filtered by, beside its own."""


def choices(rows: pd.DataFrame, dimensions: Mapping[str, tuple[str, str]], note: str) -> dict[str, Any]:
    """Return what the page's script reads where a row of a frame is one thing, named by its place.

    Parameters
    ----------
    rows : of the page's tables, in the order of their marks.
    dimensions : by the name that stands in a link: the column, and the label of the choice.
    note : what is said beside the number of rows shown.
    """
    found, codes = [], []
    for name, (column, label) in dimensions.items():
        places, values = pd.factorize(rows[column].astype(str))
        found.append({"name": name, "label": label, "values": [*map(str, values)], "chosen": len(values) > 1})
        codes.append(places.tolist())
    return {"dimensions": found, "methods": list(zip(*codes, strict=True)), "note": note}


@dataclass(frozen=True, eq=False)
class Filters:
    """The method combinations of a run, each with a number by which rows name it."""

    places: Mapping[tuple[str, ...], int]
    """By the columns ``KEYS``."""
    dimensions: tuple[dict[str, Any], ...]
    """Name, label and values of everything that may be chosen, in the study's order."""
    methods: tuple[tuple[int, ...], ...]
    """Of each combination its value of every dimension, as an index."""

    @classmethod
    def of(cls, trials: pd.DataFrame) -> Filters:
        """Number the combinations of trials as :func:`reports.frames.methods.labelled` has them."""
        table = trials.drop_duplicates(KEYS)
        found, codes = [], []
        for name, (column, label) in _DIMENSIONS.items():
            places, values = pd.factorize(table[column].astype(str))
            own = table.loc[~table["full_precision"], column]  # whose calibration set, "none", is no choice
            chosen = own.nunique() > 1 if name == "calibration" else len(values) > 1
            found.append({"name": name, "label": label, "values": [str(each) for each in values], "chosen": chosen})
            codes.append(places.tolist())
        keys = table[KEYS].astype(str).itertuples(index=False, name=None)
        return cls({key: place for place, key in enumerate(keys)}, tuple(found), tuple(zip(*codes, strict=True)))

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        note = "figures below show everything"
        return {"dimensions": self.dimensions, "methods": self.methods, "note": note}

    def marks(self, frame: pd.DataFrame) -> list[str]:
        """Return the numbers of the combinations that each row is about: of a comparison both, if the run has them."""
        return [self.mark(row) for row in as_rows(frame)]

    def mark(self, row: Mapping[str, Any]) -> str:
        """Return the numbers of the combinations that a row is about."""
        return " ".join(map(str, self._of(row)))

    def _of(self, row: Mapping[str, Any]) -> Iterable[int]:
        if "factor" not in row:
            return self._known([row])
        varied = f"{VARIES.get(row['factor'], row['factor'])}_label"
        return self._known([{**row, varied: row[name]} for name in ("a", "b", "method") if name in row])

    def _known(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        keys = (tuple(str(row[name]) for name in KEYS) for row in rows)
        return [self.places[key] for key in keys if key in self.places]
