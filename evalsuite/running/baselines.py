"""Records of methods that were measured before: an audit runs only what is not there yet.

A trial's identity is made of the images, the weights and every setting, so what has the same identity is the same
question. What it does not say is with which libraries the answer was computed: these are compared here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite import checksums, store
from evalsuite.errors import RequestError
from evalsuite.files import write_json
from evalsuite.hashing import digest_arrays
from evalsuite.running.plan import Plan
from evalsuite.sameness import MATTERING, release

FACTS = ("name", "command", "seeds", "tasks", "versions", "hardware")
"""What of a run's ``study.json`` stays with packed records."""

_INDEX, _SHOWN, _PREDICTED = "baselines.json", "shown.parquet", "predicted.parquet"
_OF_TRIAL = ("prediction", "confidence", "loss", "brier", "reset")
_ROUNDED = ("confidence", "loss", "brier")  # of packed records, to 16 bits: nobody claims a fourth digit of these


@dataclass(frozen=True)
class Recorded:
    """Trials of an earlier run: their rows and records by identity, and what is known of the run.

    ``where``: how the run is named for people. ``shipped``: with evalsuite, so that nobody has chosen it.
    """

    where: str
    facts: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    records: Callable[[str], dict[str, Any]]
    shipped: bool = False

    def differences(self, plan: Plan) -> list[str]:
        """Say in what that matters the earlier run differs from one that is planned; nothing where it fits."""
        ours, theirs = plan.facts["versions"], self.facts["versions"]
        found = [
            f"{name} {theirs[name]}, here {ours[name]}"
            for name in MATTERING
            if name in ours and name in theirs and release(ours[name]) != release(theirs[name])
        ]
        for task, facts in plan.facts["tasks"].items():
            known = self.facts["tasks"].get(task, {})
            found += [
                f"other {what} of {task}"
                for what, name in (("images", "data_digest"), ("weights", "weights_digest"))
                if name in known and known[name] != facts.get(name)
            ]
        return found

    def lend(self, plan: Plan, folder: Path) -> Plan:
        """Write what a plan is missing, and is here, into its folder; return what is then left to do."""
        lent = [trial for trial in plan.missing if trial.identity in self.rows]
        for trial in lent:
            row = dict(self.rows[trial.identity])
            store.write_trial(folder, row, self.records(trial.identity) if row["status"] == "done" else None)
        left = tuple(trial for trial in plan.missing if trial.identity not in self.rows)
        there = store.read_rows(folder)  # an earlier call may have lent some
        same = sum(there.get(trial.identity) == self.rows.get(trial.identity, False) for trial in plan.trials)
        known = {"origin": self.where, "trials": same} | {key: self.facts[key] for key in ("versions", "hardware")}
        return replace(plan, missing=left, facts={**plan.facts, **({"baselines": known} if same else {})})


def recorded_run(folder: Path) -> Recorded:
    """Return the trials of a run's folder that have a result. Raises RequestError if it is none."""
    run = store.load(folder)
    rows = {name: row for name, row in store.read_rows(folder).items() if row["status"] != "failed"}

    def records(trial: str) -> dict[str, Any]:
        table = run.records_of(trial).combine_chunks()
        return {name: table[name].combine_chunks() for name in table.column_names if name != "trial"}

    return Recorded(str(folder), run.study, rows, records)


def pack(run: Path, out: Path) -> None:
    """Write the trials of a run into few small files: what was shown once for all trials, rounded probabilities."""
    known = recorded_run(run)
    shown: dict[str, pa.Table] = {}
    index, tables = [], []
    for trial, row in known.rows.items():
        columns = known.records(trial) if row["status"] == "done" else {}
        layout = {name: column for name, column in columns.items() if name not in _OF_TRIAL}
        key = _key(layout) if layout else ""
        if layout and key not in shown:
            shown[key] = pa.table({"shown": pa.array([key] * len(layout["image"])).dictionary_encode(), **layout})
        index.append({"row": dict(row), "shown": key, "images": len(columns["image"]) if columns else 0})
        if columns:
            tables.append(pa.table({name: _rounded(name, columns[name]) for name in _OF_TRIAL}))
    facts = {name: known.facts[name] for name in FACTS}
    write_json(out / _INDEX, {"facts": facts, "trials": index})
    for name, parts in ((_SHOWN, [*shown.values()]), (_PREDICTED, tables)):
        with checksums.sealing(out / name) as temporary:
            whole = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
            sealed = whole.replace_schema_metadata({checksums.KEY.encode(): checksums.BLANK.encode()})
            pq.write_table(sealed, temporary, compression="zstd", compression_level=19)


def _key(layout: Mapping[str, Any]) -> str:
    plain = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in layout.values()
    ]
    return digest_arrays(*(np.asarray(column.to_numpy(zero_copy_only=False)).astype(str) for column in plain))


def _rounded(name: str, column: Any) -> Any:
    return pa.array(column.to_numpy().astype(np.float16)) if name in _ROUNDED else column


@dataclass(frozen=True)
class _Packed:
    folder: Path

    @cached_property
    def index(self) -> dict[str, Any]:
        index: dict[str, Any] = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
        return index

    @cached_property
    def places(self) -> dict[str, tuple[str, int, int]]:
        """By trial: what it was shown, and from where to where its predictions are."""
        found, start = {}, 0
        for each in self.index["trials"]:
            found[each["row"]["trial"]] = (each["shown"], start, each["images"])
            start += each["images"]
        return found

    @cached_property
    def shown(self) -> dict[str, pa.Table]:
        table = pq.read_table(checksums.verified(self.folder / _SHOWN, lambda _: True))
        keys = table["shown"].combine_chunks().dictionary_decode().to_numpy(zero_copy_only=False)
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        return {
            str(keys[start]): table.slice(start, stop - start).drop_columns(["shown"]).combine_chunks()
            for start, stop in zip(starts, [*starts[1:], len(keys)], strict=True)
        }

    @cached_property
    def predicted(self) -> pa.Table:
        return pq.read_table(checksums.verified(self.folder / _PREDICTED, lambda _: True))

    def records(self, trial: str) -> dict[str, Any]:
        key, start, length = self.places[trial]
        tables = self.shown[key], self.predicted.slice(start, length).combine_chunks()
        columns = {name: table[name].combine_chunks() for table in tables for name in table.column_names}
        return columns | {name: columns[name].to_numpy().astype(np.float32) for name in _ROUNDED}


def packed_run(folder: Path) -> Recorded:
    """Return the trials that :func:`pack` wrote. Raises RequestError if there are none or they are damaged."""
    packed = _Packed(folder)
    try:
        index = packed.index
        rows = {each["row"]["trial"]: each["row"] for each in index["trials"]}
        known = Recorded(str(index["facts"]["name"]), index["facts"], rows, packed.records, shipped=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{folder} does not hold packed records ({error}): expected what pack() wrote") from error
    return known
