"""Which images the worst groups of a run lose, read from its records."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evalsuite.flips import largest_drop, negative_flips, surest
from evalsuite.store import Run

_COMBINATION = ("task", "calibration_label", "quantizer_label", "adapter_label", "stream_label")
_NEEDED = ("image", "domain", "severity", "label", "prediction", "confidence")

_Columns = Mapping[str, NDArray[Any]]


class Shown(NamedTuple):
    """What a picture shows: a test image, by its index, as a domain shows it."""

    task: str
    domain: str
    severity: int
    image: int


@dataclass(frozen=True, eq=False)
class _Lost:
    """The pictures that one group loses, the surest mistakes first."""

    drop: float
    pictures: tuple[tuple[Shown, str], ...]
    """Each with a trial that was shown it."""


def of_worst_groups(folder: Path, rows: Sequence[Mapping[str, Any]]) -> dict[Shown, str]:
    """Return what the worst class and domain of every combination lose, each picture once, with a trial that showed it.

    On each task's first stream. First the surest mistake of every group, those with the largest drop before the
    others, then the second of each, and so on, so that what is cut off is what was lost least.

    Parameters
    ----------
    folder : the run's.
    rows : of the trials that are done, in the study's order.
    """
    run = Run(folder)
    ended = {row["trial"] for row in rows}
    first: dict[str, str] = {}
    combinations: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["trial"] != row["reference"] and row["reference"] in ended:
            combinations.setdefault(tuple(str(row[name]) for name in _COMBINATION), []).append(row)
    order = {stream: place for place, stream in enumerate(dict.fromkeys(str(row["stream_label"]) for row in rows))}
    for task, *_, stream in sorted(combinations, key=lambda labels: order[labels[-1]]):
        first.setdefault(task, stream)
    asked = [own for labels, own in combinations.items() if first[labels[0]] == labels[-1]]
    read = functools.lru_cache(maxsize=8)(lambda trial: _columns(run, trial))  # a reference is read again and again
    lost = [each for own in asked for each in _lost(read, sorted(own, key=lambda row: int(row["seed"])))]
    lost.sort(key=lambda each: -each.drop)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*(each.pictures for each in lost)))
    found: dict[Shown, str] = {}
    for shown, trial in filter(None, turns):
        found.setdefault(shown, trial)
    return found


def _lost(read: Callable[[str], _Columns], rows: Sequence[Mapping[str, Any]]) -> Iterator[_Lost]:
    """Yield what a combination's worst class and domain lose; ``rows``: of its seeds."""
    own, reference = (_joined([read(row[side]) for row in rows]) for side in ("trial", "reference"))
    if any(not np.array_equal(own[name], reference[name]) for name in ("image", "domain", "severity")):
        return  # of other images: the report will say so
    wrong, reference_wrong = (each["prediction"] != each["label"] for each in (own, reference))
    flips = negative_flips(wrong, reference_wrong)
    _, domain = np.unique(own["domain"], return_inverse=True)
    for codes in (own["label"], domain):
        if len(np.unique(codes)) > 1:
            inside = codes == largest_drop(codes, wrong, reference_wrong)
            chosen = surest(flips & inside, own["confidence"], domain, own["severity"], own["image"])
            drop = float(np.mean(wrong[inside]) - np.mean(reference_wrong[inside]))
            yield _Lost(drop, tuple(_picture(str(rows[0]["task"]), own, row) for row in chosen))


def _columns(run: Run, trial: str) -> _Columns:
    """Return what is needed of a trial's records, and of each row the trial."""
    table = run.records_of(trial, _NEEDED)
    found = {name: table[name].to_numpy() for name in _NEEDED}
    return {**found, "trial": np.full(len(table), trial), "domain": found["domain"].astype(np.str_)}


def _joined(parts: Sequence[_Columns]) -> _Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _picture(task: str, columns: _Columns, row: int) -> tuple[Shown, str]:
    domain, severity, image, trial = (columns[name][row] for name in ("domain", "severity", "image", "trial"))
    return Shown(task, str(domain), int(severity), int(image)), str(trial)
