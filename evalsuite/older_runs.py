"""What runs recorded by earlier versions lack, filled in where it is read: the one place that knows their formats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from evalsuite.hashing import canonical_json

# Once a collapse was a warning that began like this, and warnings were joined by semicolons.
_COLLAPSE = re.compile(r"collapse: .* up to image (\d+) of the stream")
_JOINT = "; "


def upgraded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's row with its warnings as a JSON list and its collapse as a number, as rows now have them."""
    if "collapsed_at" in row:
        return row
    given = row.get("warnings")
    if not isinstance(given, str):
        return row | {"collapsed_at": None}
    warnings = [part for part in given.split(_JOINT) if part]
    places = [matched for matched in map(_COLLAPSE.match, warnings) if matched]
    kept = [warning for warning in warnings if not _COLLAPSE.match(warning)]
    at = int(places[0].group(1)) if places else None
    return row | {"warnings": canonical_json(kept), "collapsed_at": at}


def filled_trials(frame: pd.DataFrame, later: Sequence[str]) -> pd.DataFrame:
    """Return a table of trials that has the columns ``later``; codes of reasons stay unknown."""
    absent = [name for name in later if name not in frame]
    if "collapsed_at" in absent:
        rows = [upgraded({"warnings": given}) for given in frame["warnings"]]
        frame = frame.assign(
            warnings=pd.Series([row["warnings"] for row in rows], frame.index, dtype=object),
            collapsed_at=pd.array([row["collapsed_at"] for row in rows], dtype="Int64"),
        )
    return frame.assign(reason_code=None) if "reason_code" in absent else frame


def filled_table(table: pa.Table, later: Sequence[pa.Field], order: Sequence[str] | None) -> pa.Table:
    """Return records with columns of nulls for the fields ``later``, in the order asked for if one is."""
    for field in later:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table if order is None else table.select(list(order))
