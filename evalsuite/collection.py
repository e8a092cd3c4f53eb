"""Finished runs and audits under some folders: read, held against each other, put into tables that may be ranked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from evalsuite import store
from evalsuite.analysis.seen import Seen, seen_by
from evalsuite.analysis.standings import STANDING_COLUMNS, standings
from evalsuite.analysis.verdict import FILE as VERDICT
from evalsuite.analysis.verdict import Verdict, read_verdict
from evalsuite.analysis.written import summary_and_comparisons
from evalsuite.errors import RequestError
from evalsuite.hashing import canonical_json, digest
from evalsuite.isolation import printable, reason_of, text_of
from evalsuite.sameness import DIGESTS
from evalsuite.store import Run

_RUN_FILES = (store.STUDY, "trials.parquet", store.PLAN)
_PAGES = ("index.html", "audit.html")
_LONGEST = 300  # characters of a reason
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class RunEntry:
    """A finished run and how it was made.

    Attributes
    ----------
    folder : of the run.
    name : of the study.
    title : of the study.
    study_hash : of the resolved settings: equal ones ask the same.
    written : UTC date of the table of trials, ``2026-11-29``.
    images : of a stream, by trial: each number once, in order.
    seeds : the draws of calibration sets.
    trials : how many are ``done``, ``failed`` and ``refused``.
    versions : of the packages.
    hardware : what it ran on.
    command : that made it.
    tasks : by label, hashes of images and weights.
    rows : :func:`evalsuite.analysis.standings.standings`.
    seen : by task and stream.
    page : its own report, if there is one.
    """

    folder: Path
    name: str
    title: str
    study_hash: str
    written: str
    images: tuple[int, ...]
    seeds: tuple[int, ...]
    trials: dict[str, int]
    versions: dict[str, str]
    hardware: dict[str, Any]
    command: str
    tasks: dict[str, dict[str, str]]
    rows: pd.DataFrame
    seen: dict[tuple[str, str], Seen]
    page: Path | None


@dataclass(frozen=True, eq=False)
class AuditEntry:
    """An audit's verdict, its page, if there is one, and the UTC date on which it was written."""

    folder: Path
    verdict: Verdict
    written: str
    page: Path | None


@dataclass(frozen=True)
class LeftOut:
    """What is under the folders and is not shown, and why, in a line."""

    folder: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Board:
    """Results that were measured on the same, and so may be ranked.

    Attributes
    ----------
    task : as the first run labels it.
    seen : what all of them saw.
    rows : ``run`` (place in ``Collection.runs``) and the columns of standings, the lowest mean error first.
    differs : in what this differs from the task's first board, names of attributes of ``Seen``; empty for the first.
    """

    task: str
    seen: Seen
    rows: pd.DataFrame
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Collection:
    """All that was found."""

    folders: tuple[Path, ...]
    runs: tuple[RunEntry, ...] = ()
    audits: tuple[AuditEntry, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    boards: tuple[Board, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each run is called: its folder's name, or as much of its path as sets it apart."""
        return tuple(_apart([run.folder for run in self.runs]))


def collect(folders: Sequence[Path], progress: Callable[[Path], None] = lambda folder: None) -> Collection:
    """Read all runs and audits under some folders.

    A run that is unfinished, damaged or of nothing that is done is left out with the reason, and so is a verdict that
    cannot be read. ``progress`` is called with the folder of each before it is read.

    Raises
    ------
    RequestError
        If a folder is not there, or there is no run or audit under any.
    """
    for folder in folders:
        if not folder.is_dir():
            raise RequestError(f"{folder} is no folder: expected one that holds runs or audits")
    found = list(dict.fromkeys(each.resolve() for folder in folders for each in _places(folder)))
    if not found:
        said = ", ".join(map(str, folders))
        raise RequestError(f"no run or audit under {said}: expected folders with {store.STUDY} or {VERDICT}")
    runs: list[RunEntry] = []
    audits: list[AuditEntry] = []
    left: list[LeftOut] = []
    for place in found:
        progress(place)
        if (place / VERDICT).is_file():
            audits += _tried(_audit, place, left)
        if any((place / name).is_file() for name in _RUN_FILES):
            runs += _tried(_run, place, left)
    runs.sort(key=lambda run: str(run.folder))
    audits.sort(key=lambda each: str(each.folder))
    return Collection(tuple(folders), tuple(runs), tuple(audits), tuple(left), tuple(_boards(runs)))


def _places(folder: Path) -> Iterator[Path]:
    """Yield the folders of runs and audits under a folder, itself among them; what lies in one is its own."""
    for place, below, files in os.walk(folder):
        if {VERDICT, *_RUN_FILES} & {*files}:
            below.clear()
            yield Path(place)
        below[:] = sorted(name for name in below if not name.startswith("."))


def _tried(read: Callable[[Path], T], place: Path, left: list[LeftOut]) -> list[T]:
    try:
        return [read(place)]
    except (RequestError, *store.DAMAGE) as error:
        said = text_of(error) if isinstance(error, RequestError) else f"damaged: {reason_of(error)}"
        left.append(LeftOut(place, printable(said, _LONGEST)))
        return []


def _audit(folder: Path) -> AuditEntry:
    return AuditEntry(folder, read_verdict(folder), _date(folder / VERDICT), _page(folder, _PAGES[::-1]))


def _run(folder: Path) -> RunEntry:
    run = store.load(folder)
    trials = run.trials["status"].value_counts()
    if run.left:
        raise RequestError(f"unfinished: {run.left:,} of {int(run.study['trials']):,} trials have not ended")
    if not trials.get("done", 0):
        raise RequestError(f"none of its {len(run.trials):,} trials is done")
    _check_records(run)
    study = run.study
    canonical_json(study)  # raises ValueError for NaN, which evalsuite writes into no study file
    return RunEntry(
        folder=folder,
        name=str(study["name"]),
        title=str(study["title"]),
        study_hash=digest(study["settings"]),
        written=_date(folder / "trials.parquet"),
        images=tuple(sorted({int(each) for each in run.trials["images"].dropna()})),
        seeds=tuple(int(each) for each in study["seeds"]),
        trials={str(status): int(number) for status, number in trials.items()},
        versions={str(name): str(each) for name, each in study["versions"].items()},
        hardware=dict(study["hardware"]),
        command=str(study["command"]),
        tasks={task: _hashes(facts) for task, facts in study["tasks"].items()},
        rows=standings(run, *summary_and_comparisons(run)),
        seen=seen_by(run),
        page=_page(folder, _PAGES),
    )


def _check_records(run: Run) -> None:
    """Raise RequestError if the records of a trial that is done are missing or damaged."""
    for trial in run.trials.loc[run.trials["status"] == "done", "trial"]:
        file = store.record_file(run.folder, str(trial))
        try:
            store.verified_records(file)
        except store.DAMAGE as error:
            raise RequestError(f"damaged: records/{file.name}: {text_of(error)}") from error


def _hashes(facts: dict[str, Any]) -> dict[str, str]:
    return {name.partition("_")[0]: str(facts[name]) for name in DIGESTS if facts.get(name)}


def _page(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _date(file: Path) -> str:
    moment = file.stat().st_mtime if file.is_file() else 0.0
    return datetime.fromtimestamp(moment, UTC).date().isoformat() if moment else ""


def _boards(runs: Sequence[RunEntry]) -> Iterator[Board]:
    """Yield the boards, task by task, of each task the largest first."""
    tables: dict[Seen, list[pd.DataFrame]] = {}
    for place, run in enumerate(runs):
        for (task, stream), seen in run.seen.items():
            own = run.rows[(run.rows["task"] == task) & (run.rows["stream_label"] == stream)]
            tables.setdefault(seen, []).append(own.assign(run=place))
    boards = [Board(str(parts[0]["task"].iloc[0]), seen, _ranked(parts)) for seen, parts in tables.items()]
    for task in dict.fromkeys(board.seen.task for board in boards):
        first, *others = sorted(
            (board for board in boards if board.seen.task == task),
            key=lambda board: (-len(board.rows), -board.rows["run"].nunique()),
        )
        yield first
        for board in others:
            yield Board(board.task, board.seen, board.rows, tuple(first.seen.differences(board.seen)))


def _ranked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat(parts, ignore_index=True).sort_values("error", kind="stable", ignore_index=True)
    return rows[["run", *STANDING_COLUMNS]]


def _apart(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that set each apart from the others."""
    ends = []
    for folder in folders:
        others = [other for other in folders if other != folder]
        depth = next(
            (n for n in range(1, len(folder.parts)) if all(other.parts[-n:] != folder.parts[-n:] for other in others)),
            len(folder.parts),
        )
        ends.append(str(Path(*folder.parts[-depth:])))
    return ends
