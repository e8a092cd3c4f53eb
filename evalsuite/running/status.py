"""How far a run is, read from its folder by anybody while it runs or after; nothing is written, no plugin loaded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.files import this_machine
from evalsuite.running.alive import runs
from evalsuite.running.durations import Durations
from evalsuite.running.log_reader import Line, LogReader
from evalsuite.running.run_log import LOG, Event, Stage
from evalsuite.running.workspace import Workspace

_LINES = 10  # of the log that are shown
_KIND = ("task", "adapter_label", "quantizer_label", "stream_label")
_KIND_OF_MODEL = ("task", "quantizer_label")
_PLANNED = ("trial", store.MODEL, *_KIND)


@dataclass(frozen=True)
class Call:
    """A call of the command that works on a run, or did.

    Attributes
    ----------
    machine : digits that stand for it.
    works : whether its process runs; None where it is another machine's and has not said that it ended.
    ended : how, as far as it said so: done, stopped, interrupted or broken.
    seen : when it last wrote a line.
    """

    call: str
    process: int | None
    born: int | None
    machine: str
    workers: int
    started: str
    seen: str
    works: bool | None = None
    ended: str = ""


@dataclass(frozen=True)
class Item:
    """What is being worked on.

    Attributes
    ----------
    alive : whether the process runs that began it; None where that is another machine's.
    seconds : since it was begun.
    """

    stage: str
    trial: str
    what: str
    process: int | None
    alive: bool | None
    seconds: float


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes
    ----------
    trials : of the study; each is done, failed, refused or left.
    damaged : files of records that cannot be read, whose trials are left.
    seconds_left : estimated from the durations of the same kind of work; None where there is none yet.
    works : whether a process works on it; None where that cannot be known: on another machine, or without a log.
    ended : how the last call ended, as far as it said so.
    """

    folder: str
    name: str
    trials: int
    done: int
    failed: int
    refused: int
    left: int
    damaged: int
    seconds_left: float | None
    works: bool | None
    ended: str
    calls: tuple[Call, ...]
    items: tuple[Item, ...]
    log: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        return asdict(self) | {"log": [line.facts() for line in self.log]}


class Observer:
    """Looks at a run's folder, again and again if asked to: what has not changed is not read again.

    Raises
    ------
    RequestError
        If it is no run's folder.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / store.STUDY).is_file():
            raise RequestError(f"{folder} is not a run's folder: expected a file {store.STUDY} in it")
        self._folder = folder
        self._rows: dict[str, tuple[int, int, str]] = {}
        self._plan: tuple[int, list[dict[str, Any]]] = -1, []
        self._reader = LogReader(folder / LOG)
        self._lines: deque[Line] = deque(maxlen=_LINES)
        self._calls: dict[str, Call] = {}
        self._begun: dict[tuple[str, str, str], Line] = {}
        self._took: dict[tuple[str, str], float] = {}
        self._open: dict[str, tuple[int, int]] = {}

    def look(self) -> Status:
        """Return how far the run is now. Raises RequestError if its study or plan is broken."""
        study = store.Run(self._folder).study
        for line in self._reader.new():
            self._take(line)
        planned, known = self._planned(), self._statuses()
        damaged = sum(not status for status in known.values())
        known = {trial: status for trial, status in known.items() if status}
        names = [row["trial"] for row in planned] or list(known)
        status = [known.get(name, "left") for name in names]
        total = max(int(study["trials"]), len(planned))
        counts = {each: status.count(each) for each in ("done", "failed", "refused")}
        calls = tuple(replace(call, works=self._works(call)) for call in self._calls.values())
        works = [call.works for call in calls]
        items = self._items(calls)
        return Status(
            folder=str(self._folder),
            name=str(study["name"]),
            trials=total,
            **counts,
            left=max(0, total - sum(counts.values())),
            damaged=damaged,
            seconds_left=self._seconds_left(planned, known, calls, items),
            works=True if True in works else None if None in works or not works else False,
            ended=calls[-1].ended if calls else "",
            calls=calls[-_LINES:],
            items=items,
            log=tuple(self._lines),
        )

    def _take(self, line: Line) -> None:
        self._lines.append(line)
        if line.event == Event.RUN_STARTED:
            self._open.clear()
            workers = max(1, line.workers or 1)
            seen = line.time, line.time
            self._calls[line.call] = Call(line.call, line.process, line.born, line.machine, workers, *seen)
        elif line.call in self._calls:
            ended = (line.status or "done") if line.event == Event.RUN_ENDED else ""
            self._calls[line.call] = replace(self._calls[line.call], seen=line.time, ended=ended)
        key = line.call, line.stage, line.item
        total, count = self._open.get(line.stage, (0, 0))
        if line.event == Event.STAGE_STARTED:
            self._open[line.stage] = line.items or 0, 0
        elif line.event == Event.STAGE_ENDED:
            self._open.pop(line.stage, None)
        elif line.event == Event.ITEM_STARTED:
            self._begun[key] = line
        elif line.event == Event.ITEM_ENDED:
            self._begun.pop(key, None)
            self._open[line.stage] = total, count + 1
            if line.status == "done" and line.seconds is not None:
                self._took[line.stage, line.item] = line.seconds
        elif line.event == Event.RUN_ENDED:
            self._begun = {name: begun for name, begun in self._begun.items() if name[0] != line.call}

    def _works(self, call: Call) -> bool | None:
        if call.ended:
            return False
        if call.machine != this_machine() or call.process is None:
            return None
        return runs(call.process, call.born)

    def _items(self, calls: tuple[Call, ...]) -> tuple[Item, ...]:
        """Return what is begun and has not ended, of the calls that go on and of the last one."""
        shown = {call.call: call for number, call in enumerate(calls, 1) if call.works or number == len(calls)}
        items = []
        for (name, _, _), line in self._begun.items():
            if name in shown:
                here = shown[name].machine == this_machine() and line.process is not None
                alive = runs(line.process or 0, line.born) if here else None
                seconds = max(0.0, time.time() - line.timestamp())
                items.append(Item(line.stage, line.trial, line.what, line.process, alive, round(seconds, 1)))
        return tuple(items)

    def _planned(self) -> list[dict[str, Any]]:
        """Return which trials there are, from the plan or, of a run by an earlier version, the table of trials."""
        file = self._folder / store.PLAN
        if not file.is_file():
            run = store.Run(self._folder)
            there = (self._folder / "trials.parquet").is_file()
            return [{"trial": trial} for trial in run.trials["trial"]] if there else []
        changed = file.stat().st_mtime_ns
        if changed != self._plan[0]:
            self._plan = changed, store.read_plan(self._folder, _PLANNED)
        return self._plan[1]

    def _statuses(self) -> dict[str, str]:
        """Return how trials ended, by trial; empty where the record is damaged."""
        found = {}
        run = store.Run(self._folder)
        if (self._folder / "trials.parquet").is_file() and run.gathered:
            rows = run.trials[["trial", "status"]].itertuples(index=False)
            found = {trial: status for trial, status in rows if status == "failed"}  # also those without a record
        for file in (self._folder / "records").glob("[!.]*.parquet"):
            try:
                state = file.stat()
                known = self._rows.get(file.stem)
                if known is None or known[:2] != (state.st_mtime_ns, state.st_size):
                    self._rows[file.stem] = state.st_mtime_ns, state.st_size, self._status(file)
                found[file.stem] = self._rows[file.stem][2]
            except FileNotFoundError:  # removed meanwhile
                continue
        return found

    @staticmethod
    def _status(file: Path) -> str:
        try:
            return str(store.read_row(file)["status"])
        except FileNotFoundError:
            raise
        except store.DAMAGE:
            return ""

    def _seconds_left(
        self, planned: list[dict[str, Any]], known: Mapping[str, str], calls: tuple[Call, ...], items: tuple[Item, ...]
    ) -> float | None:
        """Estimate what is left to do, shared among as many processes as the last call has; ours."""
        if not calls or any(name not in row for row in planned[:1] for name in _PLANNED):
            return None
        trials, models = Durations(), Durations()
        for row in planned:
            for stage, durations, names in (
                (Stage.EVALUATING, trials, _KIND),
                (Stage.QUANTIZING, models, _KIND_OF_MODEL),
            ):
                if (stage, row["trial"]) in self._took:
                    durations.add([str(row[name]) for name in names], self._took[stage, row["trial"]])
        left = [row for row in planned if row["trial"] not in known]
        unmade = {row[store.MODEL]: row for row in left if not self._made(row[store.MODEL])}
        work = [trials.of([str(row[name]) for name in _KIND]) for row in left]
        work += [models.of([str(row[name]) for name in _KIND_OF_MODEL]) for row in unmade.values()]
        for stage in (Stage.IMAGES, Stage.JITTER, Stage.DIAGNOSIS):
            total, count = self._open.get(stage, (0, 0))
            took = [seconds for (name, _), seconds in self._took.items() if name == stage]
            work += [sum(took) / len(took) if took else None] * max(0, total - count)
        done = [seconds for seconds in work if seconds is not None]
        if len(done) < len(work):
            return None
        spent = sum(min(item.seconds, max(done, default=0.0)) for item in items if item.alive)
        return round(max(0.0, sum(done) - spent) / calls[-1].workers, 1)

    def _made(self, model: str) -> bool:
        return Workspace(self._folder).model_file(model).is_file()
