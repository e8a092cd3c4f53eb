"""One run from several: the parts that machines did without knowing of each other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from evalsuite import store
from evalsuite.diagnoses import merge_diagnoses
from evalsuite.errors import RequestError
from evalsuite.running.examples import merge_examples
from evalsuite.sameness import other_digests, other_releases
from evalsuite.store import Run, load

_LEFT_OUT = ("command", "hardware", "shard", "trials", "gate", "notes", "baselines")
"""What runs of one study may say otherwise in ``study.json``; versions are compared by themselves."""


@dataclass(frozen=True)
class Merged:
    """What a merge gave.

    Attributes
    ----------
    folder : of the run.
    trials : that it holds.
    missing : trials of the study that no run has; the same study run with ``--out`` this folder does them.
    """

    folder: Path
    trials: int
    missing: int


def merge(out: Path, runs: Sequence[Path]) -> Merged:
    """Write the trials of several runs of one study into a new folder, which appears whole or not at all.

    Raises
    ------
    RequestError
        If ``out`` is there and not empty; if one is no run, is damaged, or is of another study, other images or
        weights, or versions that matter; or if two recorded a trial otherwise.
    """
    if not runs:
        raise RequestError("nothing to merge: expected folders of runs")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"{out} is there already: expected a new folder, or an empty one")
    loaded = [load(folder) for folder in runs]
    for other in loaded[1:]:
        _check_alike(loaded[0], other)
    rows, sources = _trials(loaded)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        whole = Path(folder) / out.name
        (whole / "records").mkdir(parents=True)
        for trial, source in sources.items():
            shutil.copyfile(store.record_file(source.folder, trial), store.record_file(whole, trial))
        for run in loaded:
            if (run.folder / "jitter").is_dir():
                shutil.copytree(run.folder / "jitter", whole / "jitter", dirs_exist_ok=True)
        merge_diagnoses(whole, [run.folder for run in loaded])
        merge_examples(whole, [run.folder for run in loaded])
        total = _of_study(loaded)
        store.write_study(whole, _facts(loaded) | {"trials": total, "merged": [str(run.folder) for run in loaded]})
        store.write_trials(whole, [*rows.values()])
        if out.exists():
            out.rmdir()
        whole.rename(out)
    return Merged(out, len(rows), total - len(rows))


def _facts(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what is known of the study: of tasks, gates and notes what any run knows, of the machine the first's."""
    facts = {key: value for key, value in runs[0].study.items() if key != "shard"}
    for key in ("tasks", "gate"):
        facts[key] = {name: value for run in reversed(runs) for name, value in run.study[key].items()}
    facts["notes"] = list(dict.fromkeys(note for run in runs for note in run.study["notes"]))
    return facts


def _check_alike(first: Run, other: Run) -> None:
    ours, theirs = ({k: v for k, v in run.study.items() if k not in (*_LEFT_OUT, "merged")} for run in (first, other))
    versions = ours.pop("versions"), theirs.pop("versions")
    known, found = ours.pop("tasks"), theirs.pop("tasks")
    if ours != theirs:
        keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        raise RequestError(f"{other.folder} is of another study than {first.folder}: {', '.join(keys)} differ")
    for task in known.keys() & found.keys():
        for name in other_digests(known[task], found[task]):
            raise RequestError(f"{other.folder} and {first.folder}: {name} of {task} differs; expected the same")
    for name in other_releases(*versions):
        pair = [each.get(name, "") for each in versions]
        raise RequestError(f"{other.folder} has {name} {pair[1]}, {first.folder} {pair[0]}: expected the same")


def _trials(runs: Sequence[Run]) -> tuple[dict[str, dict[str, Any]], dict[str, Run]]:
    """Return the rows of all trials, in the study's order, and the run that has the record of each.

    A trial that failed in one run may be done in another.
    """
    rows: dict[str, dict[str, Any]] = {}
    places: dict[str, int] = {}
    sources: dict[str, Run] = {}
    for run in runs:
        table = run.trials.astype(object).where(run.trials.notna(), None).to_dict("records")
        order = _order(run)
        for row in table:
            trial = str(row["trial"])
            places.setdefault(trial, order.get(trial, len(order)))
            there = store.record_file(run.folder, trial).is_file()
            if there:
                _intact(store.record_file(run.folder, trial))
            elif row["status"] == "done":
                raise RequestError(
                    f"{run.folder}: the record of trial {trial}, which is done, is missing; run it again"
                )
            if trial in rows and "failed" not in (rows[trial]["status"], row["status"]):
                if rows[trial]["status"] != row["status"]:
                    here, before = row["status"], rows[trial]["status"]
                    raise RequestError(
                        f"trial {trial} is {here} in {run.folder}, {before} in another: expected the same"
                    )
                if row["status"] == "done":
                    _check_equal(trial, sources[trial], run)
            elif trial not in rows or (rows[trial]["status"] == "failed" and row["status"] != "failed"):
                rows[trial] = {str(key): value for key, value in row.items()}
                if there:
                    sources[trial] = run
                else:
                    sources.pop(trial, None)
    return {trial: rows[trial] for trial in sorted(rows, key=lambda trial: places[trial])}, sources


def _order(run: Run) -> dict[str, int]:
    """Return the place of each trial of a run in the study's order."""
    there = (run.folder / store.PLAN).is_file()
    planned = [row["trial"] for row in store.read_plan(run.folder, ["trial"])] if there else [*run.trials["trial"]]
    places = run.study["shard"]["places"] if "shard" in run.study else range(len(planned))
    return dict(zip(planned, places, strict=False))  # of an earlier version's run only what ended is known


def _intact(file: Path) -> None:
    try:
        store.verified_records(file)
    except (OSError, ValueError) as error:
        raise RequestError(f"{file} is damaged ({error}): run its part again") from error


def _check_equal(trial: str, first: Run, other: Run) -> None:
    if not _bits(first.records_of(trial)).equals(_bits(other.records_of(trial))):
        raise RequestError(f"trial {trial} differs between {first.folder} and {other.folder}: expected equal records")


def _bits(table: pa.Table) -> pa.Table:
    """Return a table with its numbers as the bits that they are: NaN is not equal to itself."""
    for index, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            width = {2: "uint16", 4: "uint32", 8: "uint64"}[field.type.bit_width // 8]
            plain = table[index].combine_chunks().to_numpy(zero_copy_only=False).view(width)
            table = table.set_column(index, field.name, pa.array(plain))
    return table


def _of_study(runs: Sequence[Run]) -> int:
    """Return how many trials the study has, as far as the runs know."""
    shards: list[Mapping[str, int]] = [run.study["shard"] for run in runs if "shard" in run.study]
    known = {str(trial) for run in runs for trial in run.trials["trial"]}
    return max([len(known), *(int(shard["of_study"]) for shard in shards)])
