"""The same method combinations in several runs: two versions of a method, two machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evalsuite.analysis._settings import Settings
from evalsuite.analysis.claims import LEVEL, shown
from evalsuite.analysis.comparisons import Pair, tested_pairs
from evalsuite.analysis.outcomes import COMBINATION, Combination, Layout, Outcomes, read_outcomes
from evalsuite.errors import RequestError
from evalsuite.hashing import digest, digest_arrays
from evalsuite.statistics import holm
from evalsuite.store import Run

ACROSS_COLUMNS = (
    *COMBINATION,
    *("a", "b", "error_a", "error_b", "test", "unit", "n", "statistic", "p", "p_holm", "family"),
    *("effect", "effect_name"),
    *("difference", "low", "high", "shown", "level", "note"),
)


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """Compare every later run (``a``) with the first (``b``), combination by combination, on the same images.

    Combinations pair up by their five labels. The tests are those of :func:`evalsuite.analysis.compare`; Holm is
    over all results of one ``a``, one that several orders of the same images share being counted once. Draws are
    those of the first run's ``analysis``.

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
                "a": name,
                "b": names[0],
                "family": f"results of {name}",
                "result": _result(pair),
                "error_a": _error(pair.a),
                "error_b": _error(pair.b),
            }
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
    once = frame.drop_duplicates(["a", "result"])
    corrected = once.groupby("a", sort=False)["p"].transform(lambda p: holm(p.astype(float)))
    shared = once.assign(p_holm=corrected)[["a", "result", "p_holm"]]
    frame = frame.drop(columns="p_holm").merge(shared, on=["a", "result"])
    frame = frame.assign(shown=shown(frame["p_holm"], frame["low"], frame["high"]), level=LEVEL)
    return frame[list(ACROSS_COLUMNS)]


def _key(each: Combination) -> tuple[str, str, str, str, str]:
    return each.task, each.calibration, each.quantizer, each.adapter, each.stream


def _result(pair: Pair) -> str:
    """Return the same text for pairs that predict the same for the same rows, in whatever order these were shown."""
    sides = [side for both in pair.outcomes() for side in both]
    rows = [array for each in sides[::2] for array in (each.layout.domain, each.layout.image)]
    domains = [each.layout.domains for each in sides[::2]]
    return digest([_key(pair.a)[:-1], domains, digest_arrays(*rows, *(each.prediction for each in sides))])


def _error(each: Combination) -> float:
    wrong = [float(outcome.wrong.mean()) for outcome in each.outcomes.values()]
    return sum(wrong) / len(wrong)


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
