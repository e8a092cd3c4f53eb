"""What a run found, for trackers of experiments: a result per method combination, its settings and its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from evalsuite.analysis.outcomes import COMBINATION
from evalsuite.analysis.written import summary_and_comparisons
from evalsuite.errors import RequestError
from evalsuite.hashing import digest
from evalsuite.isolation import printable
from evalsuite.store import Run

__all__ = ["Result", "identity_of", "results_of"]

_NAMED = ("task", "quantizer_label", "adapter_label", "stream_label", "calibration_label")
_LONGEST = 250  # characters of a name or a text: what all trackers take


@dataclass(frozen=True)
class Result:
    """A row of ``summary.csv``.

    Attributes
    ----------
    name : that is unique in its run.
    settings : what makes the method combination.
    metrics : the numbers of ``summary.csv`` by the names of its columns; fractions; those that are missing left out.
    found : its texts, such as the name of the worst class.
    """

    name: str
    settings: dict[str, str]
    metrics: dict[str, float]
    found: dict[str, str]


def results_of(run: Run) -> list[Result]:
    """Return the results of a run, in the order of ``summary.csv``.

    Raises
    ------
    RequestError
        If no trial is done, or a file of the run is broken.
    """
    summary, _ = summary_and_comparisons(run)
    if summary.empty:
        raise RequestError(f"{run.folder} has no trial that is done: expected results to export")
    several = [name for name in _NAMED if name in _NAMED[:3] or summary[name].nunique() > 1]
    numbers = [name for name in summary if pd.api.types.is_numeric_dtype(summary[name])]
    texts = [name for name in summary if name not in {*numbers, *COMBINATION, "bits"}]
    found = []
    for row in summary.to_dict("records"):
        settings = {name.removesuffix("_label"): _text(row[name]) for name in (*COMBINATION, "bits")}
        metrics = {str(name): float(row[name]) for name in numbers if not pd.isna(row[name])}
        said = {str(name): _text(row[name]) for name in texts if not pd.isna(row[name])}
        found.append(Result(_text(", ".join(str(row[name]) for name in several)), settings, metrics, said))
    return found


def identity_of(run: Run) -> str:
    """Return a hash of a run's settings and of the trials that are done: what was exported before has the same."""
    done = run.trials.loc[run.trials["status"] == "done", "trial"]
    return digest([run.study["settings"], sorted(map(str, done))])


def _text(value: object) -> str:
    return printable(str(value), _LONGEST)
