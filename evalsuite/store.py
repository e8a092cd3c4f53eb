"""A run's folder: one Parquet file of records per trial, with the trial's row in its metadata.

A trial's records and its row are one file, which appears whole or not at all; so there is nothing to bring
into step after an interrupt. ``trials.parquet`` is gathered from those rows whenever a run stops; of one that was
killed, or is under way, it is made when read, from those rows and ``plan.parquet``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evalsuite import checksums
from evalsuite.errors import RequestError
from evalsuite.files import write_json
from evalsuite.hashing import canonical_json
from evalsuite.older_runs import filled_table, filled_trials, upgraded
from evalsuite.stored_values import check_records, check_study, check_trials

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
        pa.field("brier", pa.float32()),
        pa.field("batch", pa.int32()),
        pa.field("reset", pa.bool_()),
        pa.field("round", pa.int16()),
    ]
)
_LATER_RECORDS = ("batch", "reset", "round")  # null in what was recorded before there were these
_LATER_TRIALS = ("reason_code", "collapsed_at")

TRIAL_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("trial", "task", "quantizer", "adapter", "stream")),
        *((name, pa.int64()) for name in ("seed", "source_images")),
        *((name, pa.string()) for name in ("calibration", "bits", "corrupted_images")),
        *((name, pa.int64()) for name in ("weight_bits", "activation_bits", "first_last_bits")),
        *((name, pa.bool_()) for name in ("per_channel", "symmetric", "fold_norm")),
        *((f"{name}_label", pa.string()) for name in ("calibration", "quantizer", "adapter", "stream")),
        *((name, pa.string()) for name in ("reference", "status", "reason", "reason_code")),
        *(("error", pa.float64()), ("images", pa.int64()), ("batches", pa.int64())),
        *((name, pa.float64()) for name in ("forwards", "backwards")),
        *((f"{name}_seconds", pa.float64()) for name in ("adapt", "forward", "quantize")),
        *((name, pa.int64()) for name in ("adapted_parameters", "state_bytes", "peak_bytes")),
        *((name, pa.string()) for name in ("engine", "stream_digest", "adapter_facts", "warnings")),
        ("collapsed_at", pa.int64()),
    ]
)
"""The columns of ``trials.parquet`` that every run has; the plugins' options come after them."""

STUDY = "study.json"
PLAN = "plan.parquet"
MODEL = "model"
"""Column of ``plan.parquet`` that ``trials.parquet`` does not have: hash of what a quantized model depends on."""
SIMULATION = "simulation"
"""Column of ``trials.parquet`` in runs with engines: the trial that simulates what an engine runs in this one."""
_JITTER = "jitter"
STUDY_KEYS = (
    *("name", "title", "description", "command", "settings", "trials", "seeds", "analysis", "tasks"),
    *("versions", "hardware", "notes"),
)

_RECORD_FILE = "a whole record file", "run again to redo this trial"
# What reading damaged bytes leads to; RecursionError and some of pyarrow's are a RuntimeError.
DAMAGE = (OSError, LookupError, TypeError, ValueError, RuntimeError, MemoryError, pa.ArrowException)
_SEAL = {checksums.KEY.encode(): checksums.BLANK.encode()}
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


Columns = Mapping[str, Any]
"""Arrays of equal lengths by name."""


def _later(column: str) -> Callable[[pa.BufferReader], bool]:
    """Return how a Parquet file without a checksum is known to have lost it: it names one, or has a later column."""

    def sealed(content: pa.BufferReader) -> bool:
        schema = pq.read_schema(content)
        return column in schema.names or checksums.KEY.encode() in (schema.metadata or {})

    return sealed


def verified_records(file: Path) -> pa.BufferReader:
    """Read and verify a file of records, see :func:`evalsuite.checksums.verified`."""
    return checksums.verified(file, _later(_LATER_RECORDS[0]))


def verified_trials(file: Path) -> pa.BufferReader:
    """Read and verify a table of trials, see :func:`evalsuite.checksums.verified`."""
    return checksums.verified(file, _later(_LATER_TRIALS[0]))


def _always_sealed(file: Path) -> pa.BufferReader:
    return checksums.verified(file, lambda _: True)  # there were no such files before there were checksums


def _names_a_checksum(content: pa.BufferReader) -> bool:
    return checksums.KEY in json.loads(content.read().decode())


def write_trial(folder: Path, row: dict[str, Any], records: Columns | Iterable[Columns] | None = None) -> None:
    """Write a trial's row and records: columns, or parts of them one after the other; none where it has no result."""
    parts = iter([records or {}] if records is None or isinstance(records, Mapping) else records)
    first = next(parts)
    schema = RECORD_SCHEMA
    for name in first:
        if name not in RECORD_SCHEMA.names:
            schema = schema.append(pa.field(name, pa.array(first[name]).type))
    schema = schema.with_metadata({_ROW: json.dumps(row, allow_nan=False).encode(), **_SEAL})
    file = record_file(folder, row["trial"])
    with checksums.sealing(file) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for part in itertools.chain([first], parts):
            writer.write_table(_table(part, row["trial"], schema))


def _table(columns: Columns, trial: str, schema: pa.Schema) -> pa.Table:
    length = len(columns["image"]) if columns else 0
    filled = {name: pa.nulls(length, schema.field(name).type) for name in _LATER_RECORDS}
    filled |= {"trial": pa.array([trial] * length, schema.field("trial").type), **columns}
    return pa.table({name: filled.get(name, []) for name in schema.names}, schema=schema)


def record_file(folder: Path, trial: str) -> Path:
    """File of a trial's records."""
    return folder / "records" / f"{trial}.parquet"


def write_jitter(folder: Path, trial: str, predictions: NDArray[np.int32]) -> None:
    """Write what (R, T) jittered repetitions of a trial predicted, in stream order."""
    table = pa.table({f"repetition_{number}": row for number, row in enumerate(predictions, start=1)})
    with checksums.sealing(folder / _JITTER / f"{trial}.parquet") as temporary:
        pq.write_table(table.replace_schema_metadata(_SEAL), temporary, compression="zstd")


def jitter_repetitions(folder: Path) -> dict[str, int]:
    """Return how many jittered repetitions there are, by trial; a damaged file counts for none."""
    known = {}
    for file in sorted((folder / _JITTER).glob("[!.]*.parquet")):
        try:
            known[file.stem] = int(pq.read_metadata(_always_sealed(file)).num_columns)
        except DAMAGE as error:
            checksums.warn_of(file, error, "its jitter is measured again by the next run")
    return known


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of all trials that have ended, by trial hash.

    A damaged file counts for nothing, with a :class:`DamageWarning`: its trial has not ended.
    """
    rows = {}
    for file in sorted((folder / "records").glob("[!.]*.parquet")):
        try:
            row = read_row(file)
        except FileNotFoundError:  # removed meanwhile
            continue
        except DAMAGE as error:
            checksums.warn_of(file, error, "its trial is run again by the next run")
        else:
            rows[row["trial"]] = row
    return rows


def read_row(file: Path) -> dict[str, Any]:
    """Return the row of the trial whose records a file holds. Raises one of ``DAMAGE`` if it cannot be read."""
    metadata = pq.read_metadata(verified_records(file)).metadata or {}
    row: dict[str, Any] = json.loads(metadata[_ROW])
    if row["trial"] != file.stem:
        raise ValueError(f"it holds trial {row['trial']}")
    return upgraded(row)


def write_study(folder: Path, facts: dict[str, Any]) -> None:
    """Write ``study.json``."""
    with checksums.sealing(folder / STUDY) as temporary:
        write_json(temporary, {**facts, checksums.KEY: checksums.BLANK})


def read_study(folder: Path) -> dict[str, Any]:
    """Read ``study.json``, without its checksum. Raises OSError or ValueError if it is missing or damaged."""
    study = json.loads(checksums.verified(folder / STUDY, _names_a_checksum).read().decode())
    if not isinstance(study, dict):
        raise ValueError(f"a {type(study).__name__}")  # noqa: TRY004 - of the file, not of an argument
    return {key: value for key, value in study.items() if key != checksums.KEY}


@contextmanager
def _expected(file: Path, what: str, cure: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise RequestError(f"{file} is missing: expected {what}; run again to make it") from error
    except DAMAGE as error:
        raise RequestError(" ".join(f"{file} is not {what} ({error}); {cure}".split())) from error


def write_trials(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write ``trials.parquet``, a row per trial in the order given.

    The columns of ``TRIAL_SCHEMA`` are always there; what a row does not have becomes null. An option that is
    text in one plugin and a number in another becomes canonical JSON in all rows.
    """
    _write_table(folder / "trials.parquet", _trials_table(rows))


def write_plan(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write ``plan.parquet``: the columns of ``trials.parquet`` that say what a run's trials are, before they are run.

    From it and ``records/`` the table of trials of a run that was killed is made.
    """
    _write_table(folder / PLAN, _trials_table(rows))


def read_plan(folder: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows that :func:`write_plan` wrote, or some of their columns.

    Raises
    ------
    RequestError
        If the file is missing or broken.
    """
    file = folder / PLAN
    with _expected(file, "a whole plan of the run", "run again to write it anew"):
        table = pq.read_table(_always_sealed(file), columns=None if columns is None else list(columns))
        _complete(["trial", *(columns or ())], table.column_names)
        rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _trials_table(rows: list[dict[str, Any]]) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys([*TRIAL_SCHEMA.names, *(name for row in rows for name in row)]):
        values = [row.get(name) for row in rows]
        fixed = name in TRIAL_SCHEMA.names
        columns[name] = pa.array(values, TRIAL_SCHEMA.field(name).type, from_pandas=True) if fixed else _option(values)
    table = pa.table(columns)
    frame = table.to_pandas(types_mapper=_NULLABLE.get)
    table = pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **_SEAL})


def _write_table(file: Path, table: pa.Table) -> None:
    with checksums.sealing(file) as temporary:
        pq.write_table(table, temporary)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def _option(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else canonical_json(value) for value in values])


@dataclass(frozen=True)
class Run:
    """A recorded run: everything a report may look at."""

    folder: Path

    @cached_property
    def study(self) -> dict[str, Any]:
        """The resolved study: settings, versions, seeds, digests, hardware. Raises RequestError if it is broken."""
        with _expected(self.folder / STUDY, "a whole study file", "run again to write it anew"):
            study = read_study(self.folder)
            _complete(STUDY_KEYS, study)
            check_study(study)
        return study

    @property
    def gathered(self) -> bool:
        """Whether ``trials.parquet`` is of the last call; else that call is under way, or was killed."""
        return _time(self.folder / "trials.parquet") >= _time(self.folder / PLAN)

    @property
    def changed(self) -> int:
        """When the run's trials or records last changed on disk, in nanoseconds."""
        return max(_time(self.folder / name) for name in ("trials.parquet", PLAN, "records"))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per trial that has ended, in the study's order; of a run that was killed made of its records.

        Raises RequestError if the file is broken.
        """
        file = self.folder / "trials.parquet"
        if not self.gathered:
            ended = read_rows(self.folder)
            planned = [row for row in read_plan(self.folder) if row["trial"] in ended]
            rows = [{key: row[key] for key in row if key != MODEL} | ended[row["trial"]] for row in planned]
            made: pd.DataFrame = _trials_table(rows).to_pandas(types_mapper=_NULLABLE.get, ignore_metadata=True)
            return made
        with _expected(file, "a whole table of trials", "run again to write it anew"):
            content = verified_trials(file)
            table = pq.read_table(content)
            _complete([name for name in TRIAL_SCHEMA.names if name not in _LATER_TRIALS], table.column_names)
            check_trials(table, TRIAL_SCHEMA)
            frame = pd.read_parquet(content)
        return filled_trials(frame, _LATER_TRIALS)

    @property
    def left(self) -> int:
        """How many trials of the study have not ended. Raises RequestError if a file is broken."""
        return max(0, int(self.study["trials"]) - len(self.trials))

    @cached_property
    def records(self) -> pd.DataFrame:
        """A row per (trial, image) of the trials that are done. Raises RequestError if a file is broken or missing."""
        return self.records_with(None, self.trials["trial"])

    def records_with(self, columns: Sequence[str] | None, trials: Iterable[str]) -> pd.DataFrame:
        """Return :attr:`records` of those of ``trials`` that are done, or some columns, in the study's order."""
        done = self.trials.loc[(self.trials["status"] == "done") & self.trials["trial"].isin(list(trials)), "trial"]
        none = RECORD_SCHEMA.empty_table().select(RECORD_SCHEMA.names if columns is None else list(columns))
        tables = [self.records_of(trial, columns) for trial in done] or [none]
        joined = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
        frame: pd.DataFrame = joined.replace_schema_metadata(None).to_pandas()
        return frame

    def jitter_of(self, trial: str) -> NDArray[np.int32] | None:
        """Return what jittered repetitions of a trial predicted, (R, T) in the order of its records; None without any.

        Raises RequestError if the file is broken.
        """
        file = self.folder / _JITTER / f"{trial}.parquet"
        if not file.is_file():
            return None
        with _expected(file, "a whole file of repetitions", "run again to make it anew"):
            table = pq.read_table(_always_sealed(file))
        return np.stack([column.to_numpy() for column in table.columns])

    def records_of(self, trial: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a trial's records, or some of their columns. Raises RequestError if its file is broken or missing.

        ``batch``, ``reset`` and ``round`` are null in what was recorded before there were these columns.
        """
        file = record_file(self.folder, trial)
        with _expected(file, *_RECORD_FILE), pq.ParquetFile(verified_records(file)) as opened:
            present, asked = opened.schema_arrow.names, RECORD_SCHEMA.names if columns is None else columns
            later = [RECORD_SCHEMA.field(name) for name in _LATER_RECORDS if name in asked and name not in present]
            absent = [field.name for field in later]
            _complete([name for name in asked if name not in absent], present)
            # A trial's file is small: threads cost more than they save.
            table = opened.read(
                None if columns is None else [name for name in columns if name not in absent], use_threads=False
            )
            check_records(table, RECORD_SCHEMA)
        return filled_table(table, later, columns) if later else table


def _complete(expected: Sequence[str], present: Container[str]) -> None:
    missing = [name for name in expected if name not in present]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")


def load(folder: str | Path) -> Run:
    """Open a run's folder. Raises RequestError if it is not one."""
    path = Path(folder)
    for name, other in ((STUDY, STUDY), ("trials.parquet", PLAN)):
        if not (path / name).is_file() and not (path / other).is_file():
            raise RequestError(f"{path} is not a run's folder: expected a file {name} in it")
    return Run(path)
