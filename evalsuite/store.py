"""A run's folder: one Parquet file of records per trial, with the trial's row in its metadata.

A trial's records and its row are one file, which appears whole or not at all; so there is nothing to bring
into step after an interrupt. ``trials.parquet`` is gathered from those rows whenever a run stops.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite.errors import RequestError
from evalsuite.files import replacing

_ROW = b"evalsuite.trial"

RECORD_SCHEMA = pa.schema(
    [
        pa.field("trial", pa.dictionary(pa.int32(), pa.string())),
        pa.field("image", pa.int32()),
        pa.field("position", pa.int32()),
        pa.field("domain", pa.dictionary(pa.int32(), pa.string())),
        pa.field("family", pa.dictionary(pa.int32(), pa.string())),
        pa.field("severity", pa.int8()),
        pa.field("label", pa.int32()),
        pa.field("prediction", pa.int32()),
        pa.field("confidence", pa.float32()),
        pa.field("loss", pa.float32()),
    ]
)


def write_trial(folder: Path, row: dict[str, Any], records: dict[str, Any] | None = None) -> None:
    """Write a trial's row and records (columns by name, equal lengths; none for a trial that has no result)."""
    columns = records or {}
    extra = [name for name in columns if name not in RECORD_SCHEMA.names]
    schema = RECORD_SCHEMA
    for name in extra:
        schema = schema.append(pa.field(name, pa.array(columns[name]).type))
    length = len(columns["image"]) if columns else 0
    filled = {"trial": pa.array([row["trial"]] * length, schema.field("trial").type), **columns}
    table = pa.table({name: filled.get(name, []) for name in schema.names}, schema=schema)
    table = table.replace_schema_metadata({_ROW: json.dumps(row, allow_nan=False).encode()})
    with replacing(folder / "records" / f"{row['trial']}.parquet") as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of all trials that have ended, by trial hash. Raises RequestError for a broken file."""
    rows = {}
    for file in sorted((folder / "records").glob("[!.]*.parquet")):
        try:
            metadata = pq.read_metadata(file).metadata or {}
            row = json.loads(metadata[_ROW])
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise RequestError(
                f"{file} is not a whole record file ({error}); delete it and run again to redo this trial"
            ) from error
        rows[row["trial"]] = row
    return rows


def write_trials(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write ``trials.parquet``, a row per trial in the order given; absent settings become nulls."""
    frame = pd.DataFrame(rows)
    with replacing(folder / "trials.parquet") as temporary:
        frame.to_parquet(temporary, index=False)


@dataclass(frozen=True)
class Run:
    """A recorded run: everything a report may look at."""

    folder: Path

    @cached_property
    def study(self) -> dict[str, Any]:
        """The resolved study: settings, versions, seeds, digests, hardware."""
        study: dict[str, Any] = json.loads((self.folder / "study.json").read_text(encoding="utf-8"))
        return study

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per trial, in the study's order."""
        return pd.read_parquet(self.folder / "trials.parquet")

    @cached_property
    def records(self) -> pd.DataFrame:
        """A row per (trial, image) of the trials that are done."""
        done = self.trials.loc[self.trials["status"] == "done", "trial"]
        tables = [pq.read_table(self.folder / "records" / f"{trial}.parquet") for trial in done]
        if not tables:
            tables = [RECORD_SCHEMA.empty_table()]
        joined = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
        frame: pd.DataFrame = joined.replace_schema_metadata(None).to_pandas()
        return frame


def load(folder: str | Path) -> Run:
    """Open a run's folder. Raises RequestError if it is not one."""
    path = Path(folder)
    for name in ("study.json", "trials.parquet"):
        if not (path / name).is_file():
            raise RequestError(f"{path} is not a run's folder: expected a file {name} in it")
    return Run(path)
