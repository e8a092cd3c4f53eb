"""Records in, tables out: ``summary.csv``, ``comparisons.csv``, ``rankings.csv`` and those of ``ESTIMATES``.

``docs/api.md`` has their columns.

Combinations of one task that show the same images are the columns of one array and share bootstrap draws and
permutations. The draws depend on the study's seed and the task alone, so that a row is the same whatever
else is in the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from evalsuite.analysis._settings import Settings, baselines, first_calibrations
from evalsuite.analysis.across import compare_runs
from evalsuite.analysis.calibration_changes import calibration_changes_of
from evalsuite.analysis.calibration_draws import across_draws_of, calibration_draws_of
from evalsuite.analysis.comparisons import COMPARISON_COLUMNS, comparisons_of
from evalsuite.analysis.curves import profiles_of, severities_of
from evalsuite.analysis.detection import detections_of
from evalsuite.analysis.diagnoses import diagnoses_of
from evalsuite.analysis.engine_gaps import engine_gaps_of
from evalsuite.analysis.flips import confusions_of, flips_of, mistakes_of
from evalsuite.analysis.group_drops import group_drops_of
from evalsuite.analysis.outcomes import COMBINATION, GROUPS, Outcomes, read_outcomes
from evalsuite.analysis.rankings import RANKING_COLUMNS, rankings_of
from evalsuite.analysis.rounds import forgetting_of, rounds_of
from evalsuite.analysis.shift_excess import shift_excess_of
from evalsuite.analysis.stream_errors import stream_errors_of
from evalsuite.analysis.summary import SUMMARY_COLUMNS, oracles_of, summary_of
from evalsuite.analysis.views import views_of
from evalsuite.files import write_csv
from evalsuite.store import Run

__all__ = [
    "COMBINATION",
    "COMPARISON_COLUMNS",
    "ESTIMATES",
    "RANKING_COLUMNS",
    "SUMMARY_COLUMNS",
    "Analysis",
    "Estimate",
    "Settings",
    "analyse",
    "compare",
    "compare_runs",
    "rank",
    "summarise",
]

Estimate = Callable[[Run, Outcomes, Settings], pd.DataFrame]
"""Makes a table of a run from its outcomes."""

ESTIMATES: dict[str, Estimate] = {
    "across_draws": across_draws_of,
    "calibration_changes": calibration_changes_of,
    "calibration_draws": calibration_draws_of,
    "confusions": confusions_of,
    "detections": detections_of,
    "diagnosis": diagnoses_of,
    "engine_gaps": engine_gaps_of,
    "flips": flips_of,
    "forgetting": forgetting_of,
    "group_drops": group_drops_of,
    "mistakes": mistakes_of,
    "oracles": lambda run, outcomes, settings: oracles_of(outcomes, baselines(run), settings),
    "profiles": profiles_of,
    "rounds": rounds_of,
    "severities": severities_of,
    "shift_excess": shift_excess_of,
    "stream_errors": stream_errors_of,
    "views": views_of,
}
"""The further tables, by the name of their file without ``.csv``; one without rows is not written."""

_MAIN: dict[str, Estimate] = {
    "summary": lambda run, outcomes, settings: summary_of(outcomes, baselines(run), settings),
    "comparisons": lambda run, outcomes, settings: comparisons_of(
        outcomes, baselines(run), first_calibrations(run), settings
    ),
    "rankings": lambda run, outcomes, settings: rankings_of(outcomes),
}
_APART = ("comparisons", "rankings", "calibration_changes", "calibration_draws", "across_draws")
"""Half the work of a large run; no other table is made of what is made once for one of these."""


def summarise(run: Run) -> pd.DataFrame:
    """Return ``summary.csv``: a row per method combination of which a trial is done.

    Rows of all seeds are pooled, each seed's paired with that seed's reference. The interval of the worst
    drop is that of the group named, taken as given.

    Raises
    ------
    RequestError
        If a trial and its reference did not see the same images.
    """
    return summary_of(read_outcomes(run), baselines(run), Settings.of(run))


def compare(run: Run) -> pd.DataFrame:
    """Return ``comparisons.csv``: quantizers in pairs, adapters, calibration sets against the first, all else equal.

    Full precision is compared with every quantizer, whatever its calibration set. The test is over domains
    (at a severity each), of mean errors over images and the seeds done for both; where every image was shown once,
    McNemar's over images.
    """
    return comparisons_of(read_outcomes(run), baselines(run), first_calibrations(run), Settings.of(run))


def rank(run: Run) -> pd.DataFrame:
    """Return ``rankings.csv``: quantizers, and adapters, ranked over domains, all else equal."""
    return rankings_of(read_outcomes(run))


@dataclass(frozen=True, eq=False)
class Analysis:
    """All tables, made from one reading of the records."""

    summary: pd.DataFrame
    comparisons: pd.DataFrame
    rankings: pd.DataFrame
    groups: tuple[str, ...] = GROUPS
    """The groupings that the summary has columns for."""
    estimates: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By name, the tables of ``ESTIMATES``."""

    def write(self, out: Path) -> None:
        """Write ``summary.csv``, ``comparisons.csv``, ``rankings.csv`` and the estimates into ``out``."""
        for name in ("summary", "comparisons", "rankings"):
            write_csv(out / f"{name}.csv", getattr(self, name))
        for name, table in self.estimates.items():
            if table.empty:
                (out / f"{name}.csv").unlink(missing_ok=True)  # of an earlier state of the run
            else:
                write_csv(out / f"{name}.csv", table)


@dataclass(frozen=True, eq=False)
class Tables:
    """Some tables of a run, as work that any process may do: each is the same whatever else is made."""

    run: Run
    outcomes: Outcomes
    names: Sequence[str]

    def do(self) -> dict[str, pd.DataFrame]:
        """Make them; by name."""
        makers, settings = _MAIN | ESTIMATES, Settings.of(self.run)
        return {name: makers[name](self.run, self.outcomes, settings) for name in self.names}


Beside = Callable[[Tables], Callable[[], Mapping[str, pd.DataFrame]]]
"""Has work begun elsewhere, and returns what waits for it."""


def analyse(run: Run, outcomes: Outcomes | None = None, beside: Beside | None = None) -> Analysis:
    """Do what :func:`summarise`, :func:`compare` and :func:`rank` do, and the ``ESTIMATES``, reading the records once.

    Parameters
    ----------
    outcomes : what :func:`evalsuite.analysis.outcomes.read_outcomes` returned, where that has been called already.
    beside : has half of the work done beside this process.
    """
    outcomes = read_outcomes(run) if outcomes is None else outcomes
    apart = Tables(run, outcomes, _APART)
    wait = apart.do if beside is None else beside(apart)
    found = Tables(run, outcomes, [name for name in _MAIN | ESTIMATES if name not in _APART]).do()
    found |= wait()
    groups, estimates = Settings.of(run).groups_of(outcomes), {name: found[name] for name in ESTIMATES}
    return Analysis(found["summary"], found["comparisons"], found["rankings"], groups, estimates)
