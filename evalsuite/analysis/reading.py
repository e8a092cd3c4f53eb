"""Reading what trials got wrong, in an order in which the rows of different trials pair up.

Trials are read one after the other, and of the records only predictions, how sure the network was of them, and whether
they were wrong are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.errors import RequestError
from evalsuite.hashing import digest, digest_arrays
from evalsuite.metrics import ece, negative_log_likelihood
from evalsuite.store import RECORD_SCHEMA, Run

NO_VALUE = "no value"
"""The group of the rows whose cell is empty."""

_SURENESS = ("confidence", "loss", "brier")

Int8Array = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Column:
    """A column that divides rows into groups."""

    names: tuple[str, ...]
    code: NDArray[np.int32]
    """(N,) index into ``names``."""

    @classmethod
    def joined(cls, columns: Sequence[Column]) -> Column:
        """Put the rows of several columns end to end."""
        names = tuple(dict.fromkeys(name for each in columns for name in each.names))
        place = {name: index for index, name in enumerate(names)}
        codes = [np.array([place[name] for name in each.names], np.int32)[each.code] for each in columns]
        return cls(names, np.concatenate(codes))


@dataclass(frozen=True, eq=False)
class Layout:
    """Which rows a trial has, sorted by domain, severity, image and position.

    Trials with the same rows share one object, so that layouts are compared by identity.
    """

    domains: tuple[tuple[str, int], ...]
    """(name, severity), in order."""
    domain: NDArray[np.int16]
    image: NDArray[np.int32]
    label: NDArray[np.int32]
    columns: Mapping[str, Column] = field(default_factory=dict)
    """The family of the domain, and the task's own group columns."""
    digest: str = ""
    """Of the task and all of this but ``columns``."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A trial's rows in the order of its layout: what it predicted, how sure it was, whether it was wrong (1 or 0)."""

    trial: str
    layout: Layout
    wrong: Int8Array
    prediction: NDArray[np.int32]
    confidence: NDArray[np.float32]
    """(N,) probability of the prediction, 0..1."""


@dataclass(frozen=True, eq=False)
class Seeds:
    """What was read of the trials of one method combination, in their order."""

    outcomes: list[Outcome]
    facts: dict[str, float]
    """``ece``, ``ece_mass``, ``nll`` and ``brier`` over all their rows, and what :func:`jitter_of` returns."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Some method combinations whose trials are read, as work that any process may do."""

    run: Run
    combinations: Sequence[tuple[str, Sequence[str]]]
    """(task, trials of all seeds)."""

    def do(self) -> list[Seeds]:
        """Read them. Raises RequestError if records are broken or missing, or not of the task's classes."""
        layouts: dict[str, Layout] = {}
        return [_seeds(self.run, task, trials, layouts) for task, trials in self.combinations]


def _seeds(run: Run, task: str, trials: Sequence[str], layouts: dict[str, Layout]) -> Seeds:
    outcomes, sure = zip(*(_read(run, trial, task, layouts) for trial in trials), strict=True)
    confidence, loss, brier = (np.concatenate([part[name] for part in sure]) for name in _SURENESS)
    right = pooled(outcomes) == 0
    facts = jitter_of(run, trials) | {
        "ece": _ece(confidence, right, "width"),
        "ece_mass": _ece(confidence, right, "mass"),
        "nll": negative_log_likelihood(loss) if np.isfinite(loss).all() else np.nan,
        "brier": float(np.mean(brier, dtype=np.float64)),
    }
    return Seeds(list(outcomes), facts)


def pooled(outcomes: Iterable[Outcome]) -> Int8Array:
    """Rows of several seeds end to end."""
    return np.concatenate([outcome.wrong for outcome in outcomes])


def _ece(confidence: NDArray[np.float32], right: NDArray[np.bool_], binning: Literal["width", "mass"]) -> float:
    """Return the calibration error, NaN where a network has put out NaN."""
    return ece(confidence, right, binning=binning) if np.isfinite(confidence).all() else np.nan


def jitter_of(run: Run, trials: Iterable[str]) -> dict[str, float]:
    """Return what jittered repetitions changed, of trials that have them; nothing without any.

    ``jitter_flip_rate``: share of predictions that differ from the trial's own, mean over repetitions and trials.
    ``jitter_error``: standard deviation of the error over the trial and its repetitions, root mean square over trials.
    """
    flips, variances = [], []
    for trial in trials:
        predictions = run.jitter_of(trial)
        if predictions is not None:
            table = run.records_of(trial, ["prediction", "label"])
            own, labels = table["prediction"].to_numpy(), table["label"].to_numpy()
            flips.append(float(np.mean(predictions != own)))
            variances.append(float(np.var(np.mean(np.vstack([own, predictions]) != labels, axis=1), ddof=1)))
    if not flips:
        return {}
    return {"jitter_flip_rate": float(np.mean(flips)), "jitter_error": float(np.sqrt(np.mean(variances)))}


def _read(
    run: Run, trial: str, task: str, layouts: dict[str, Layout]
) -> tuple[Outcome, dict[str, NDArray[np.float32]]]:
    """Read a trial's outcome, and confidence, loss and Brier score of its rows."""
    numbers = ["severity", "image", "position", "label", "prediction", *_SURENESS]
    table = run.records_of(trial, ["domain", *numbers]).unify_dictionaries().combine_chunks()
    column = {name: table[name].to_numpy() for name in numbers}
    known = len(run.study["tasks"].get(task, {}).get("classes", ()))
    if not len(table) or column["label"].max() >= known:
        raise RequestError(f"records of trial {trial}, task {task}: expected images of {known} classes")
    coded = table["domain"].chunk(0)
    names, scale = coded.dictionary.to_pylist(), int(column["severity"].max()) + 1
    shown = coded.indices.to_numpy().astype(np.int64) * scale + column["severity"]
    present = np.flatnonzero(np.bincount(shown))
    pairs = [(names[code // scale], int(code % scale)) for code in present]
    domains = sorted(pairs)
    rank = np.zeros(present[-1] + 1, np.int16)
    rank[present] = [domains.index(pair) for pair in pairs]
    order = np.lexsort((column["position"], column["image"], rank[shown]))
    arrays = rank[shown][order], column["image"][order], column["label"][order]
    key = digest([task, domains, digest_arrays(*arrays)])
    if key not in layouts:
        layouts[key] = Layout(tuple(domains), *arrays, _group_columns(run, trial, order), key)
    wrong = (column["prediction"] != column["label"])[order].astype(np.int8)
    sure = {name: column[name][order] for name in _SURENESS}
    return Outcome(trial, layouts[key], wrong, column["prediction"][order], sure["confidence"]), sure


def _group_columns(run: Run, trial: str, order: NDArray[np.int64]) -> dict[str, Column]:
    """Read what divides a trial's rows into groups beside class, domain and severity."""
    table = run.records_of(trial).to_pandas()
    own = [name for name in table if name not in RECORD_SCHEMA.names]
    return {str(name): _coded(table[name].iloc[order]) for name in ["family", *own]}


def _coded(values: pd.Series) -> Column:
    """Give a column's values codes in their order; empty cells are a group of their own, the last."""
    codes, found = pd.factorize(values.astype(object).where(values.notna(), None), use_na_sentinel=True)
    names = [str(value) for value in found]
    try:
        ranked = sorted(range(len(found)), key=lambda k: found[k])
    except TypeError:
        ranked = sorted(range(len(found)), key=lambda k: names[k])
    place = np.empty(len(found) + 1, np.int32)
    place[ranked], place[-1] = np.arange(len(found)), len(found)
    named = tuple(names[k] for k in ranked) + ((NO_VALUE,) if (codes < 0).any() else ())
    return Column(named, place[codes])
