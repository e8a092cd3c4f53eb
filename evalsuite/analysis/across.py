"""The same method combinations in several runs: two versions of a method, two machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from evalsuite.analysis._settings import Settings, Values
from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.analysis.comparisons import Pair, tested_pairs
from evalsuite.analysis.outcomes import COMBINATION, Combination, Layout, Outcomes, read_outcomes
from evalsuite.errors import RequestError
from evalsuite.hashing import digest, digest_arrays
from evalsuite.oracles import without_oracles
from evalsuite.statistics import holm
from evalsuite.store import Run

ACROSS_COLUMNS = (
    *COMBINATION,
    *("bits", "a", "b", "seeds_a", "seeds_b", "seeds", "error_a", "error_b"),
    *("test", "unit", "n", "statistic", "p", "p_holm", "family"),
    *("effect", "effect_name"),
    *("difference", "low", "high", "shown", "level", "note"),
    *("worst_class_difference", "worst_class_low", "worst_class_high", "worst_class_p", "worst_class_p_holm"),
    *("worst_class_shown", "worst_class_note"),
)
UNPAIRED_COLUMNS = (*COMBINATION, "bits", "run", "reason")


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """Compare every later run (``a``) with the first (``b``), combination by combination, on the same images.

    Combinations pair up by their five labels. The tests are those of :func:`evalsuite.analysis.compare`, of the mean
    and of the worst class; Holm is over all results of one ``a``, one that several orders of the same images share
    being counted once. Draws are those of the first run's ``analysis``.

    ``seeds_a`` and ``seeds_b`` are done in either run, ``seeds`` in both; errors and tests are of these alone.

    Raises
    ------
    RequestError
        If there are fewer than two runs, a task's images differ between them, a stream showed other images, or no
        combination is in both.
    """
    if len(runs) < 2:
        raise RequestError(f"{len(runs)} run to compare: expected at least two folders")
    names = _names([run.folder for run in runs])
    layouts: dict[str, Layout] = {}
    first = read_outcomes(runs[0], layouts)
    base = {_key(each): each for each in first.combinations}
    found = []
    for run, name in zip(runs[1:], names[1:], strict=True):
        other = read_outcomes(run, layouts)
        _refuse_other_images(runs[0], run, {each.task for each in other.combinations})
        pairs = [Pair("quantizer", each, base[_key(each)]) for each in other.combinations if _key(each) in base]
        if not pairs:
            raise RequestError(
                f"{run.folder} and {runs[0].folder} have no combination of task, calibration set, quantizer, adapter "
                "and stream in common: expected at least one with the same labels"
            )
        both = Outcomes(other.combinations, other.by_trial | first.by_trial, other.classes)
        rows = [
            pair.a.labels
            | {
                "bits": pair.a.facts["bits"],
                "a": name,
                "b": names[0],
                "family": f"results of {name}",
                "result": _result(pair),
            }
            | _errors(pair)
            | values
            for pair, values in zip(pairs, tested_pairs(both, pairs, Settings.of(runs[0])), strict=True)
        ]
        for row in rows:
            if row.get("note") == "the two did not see the same images":
                raise RequestError(
                    f"{run.folder} and {runs[0].folder}: {row['stream_label']} of {row['task']} showed other images; "
                    "expected the same stream, severities, seeds and images in both"
                )
        found += rows
    frame = pd.DataFrame(found, columns=[*ACROSS_COLUMNS, "result"])
    return _corrected(frame)[list(ACROSS_COLUMNS)]


def _corrected(frame: pd.DataFrame) -> pd.DataFrame:
    """Add Holm's p over the results of each ``a``, and whether the difference is claimed, of mean and worst class."""
    once = frame.drop_duplicates(["a", "result"])
    for prefix in ("", "worst_class_"):
        p = f"{prefix}p"
        corrected = once.groupby("a", sort=False)[p].transform(lambda values: holm(values.astype(float)))
        shared = once.assign(**{f"{p}_holm": corrected})[["a", "result", f"{p}_holm"]]
        frame = frame.drop(columns=f"{p}_holm").merge(shared, on=["a", "result"])
        claimed = shown(frame[f"{p}_holm"], frame[f"{prefix}low"], frame[f"{prefix}high"])
        frame = frame.assign(**{f"{prefix}shown": claimed})
    return frame.assign(level=LEVEL)


def unpaired(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the method combinations that :func:`compare_runs` has nothing to compare with, and why.

    Returns
    -------
    A row per combination and later run of which a trial is done in only one of the two, with the columns
    ``UNPAIRED_COLUMNS``: ``run`` is that which has it; ``reason`` says what the other has in its place.
    """
    names, found = _names([run.folder for run in runs]), []
    for run, name in zip(runs[1:], names[1:], strict=True):
        for own, other, has, lacks in ((run, runs[0], name, names[0]), (runs[0], run, names[0], name)):
            missing = _ends(other)
            for key, bits in _done(own).items():
                if missing.get(key) != "done":
                    reason = missing.get(key, "it is not asked there")
                    values = dict(zip(COMBINATION, key, strict=True))
                    found.append(values | {"bits": bits, "run": has, "reason": f"{lacks}: {reason}"})
    return pd.DataFrame(found, columns=list(UNPAIRED_COLUMNS)).drop_duplicates(ignore_index=True)


def _done(run: Run) -> dict[tuple[str, ...], str]:
    """Return the bits of every combination of which a trial is done."""
    trials = without_oracles(run.trials)
    trials = trials[trials["status"] == "done"]
    return dict(zip(_keys(trials), trials["bits"].astype(str), strict=True))


def _ends(run: Run) -> dict[tuple[str, ...], str]:
    """Return of every combination ``done`` if a trial of it is, else how the last one ended and why."""
    trials = without_oracles(run.trials)
    ends: dict[tuple[str, ...], str] = {}
    for key, status, reason in zip(_keys(trials), trials["status"], trials["reason"].fillna(""), strict=True):
        if ends.get(key) != "done":
            ends[key] = "done" if status == "done" else f"{status}: {reason}" if reason else str(status)
    return ends


def _keys(trials: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(trials[list(COMBINATION)].astype(str).itertuples(index=False, name=None))


def _key(each: Combination) -> tuple[str, str, str, str, str]:
    return each.task, each.calibration, each.quantizer, each.adapter, each.stream


def _result(pair: Pair) -> str:
    """Return the same text for pairs that predict the same for the same rows, in whatever order these were shown."""
    sides = [side for both in pair.outcomes() for side in both]
    rows = [array for each in sides[::2] for array in (each.layout.domain, each.layout.image)]
    domains = [each.layout.domains for each in sides[::2]]
    return digest([_key(pair.a)[:-1], domains, digest_arrays(*rows, *(each.prediction for each in sides))])


def _errors(pair: Pair) -> Values:
    """Return the errors of both in the seeds that both have; of which there are none, each in its own."""
    seeds = pair.outcomes()
    own = [list(side) for side in zip(*seeds, strict=True)] or [
        list(each.outcomes.values()) for each in (pair.a, pair.b)
    ]
    error_a, error_b = (float(np.mean([outcome.wrong.mean() for outcome in side])) for side in own)
    numbers = {"seeds_a": len(pair.a.outcomes), "seeds_b": len(pair.b.outcomes), "seeds": len(seeds)}
    return numbers | {"error_a": error_a, "error_b": error_b}


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, or their whole paths where two have one name."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _refuse_other_images(first: Run, other: Run, tasks: set[str]) -> None:
    for task in sorted(tasks & first.study["tasks"].keys()):
        ours, theirs = (run.study["tasks"][task].get("data_digest") for run in (first, other))
        if ours != theirs:
            raise RequestError(
                f"{first.folder} and {other.folder}: the images of {task} differ ({ours} and {theirs}); "
                "expected the same test set in both"
            )
