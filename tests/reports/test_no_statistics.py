"""Reports read tables: what is estimated or tested is made by the analysis and stands in a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import reports
from evalsuite import analysis

ROOT = Path(reports.__file__).parent
FORBIDDEN = ("evalsuite.statistics", "evalsuite.metrics", "scipy", "statsmodels", "scikit_posthocs")
ENTRY = {"analyse", "Analysis", "Beside", *(name for name in analysis.__all__ if name.endswith("_COLUMNS"))}
"""What reports may take from ``evalsuite.analysis``, beside the reading of records for all tables."""
ALLOWED = (
    *("evalsuite.analysis.claims", "evalsuite.analysis.families", "evalsuite.analysis.verdict"),
    "evalsuite.analysis.detection.WITHIN",
)
"""The rule of claims, the wording of families, the values of a verdict and the constant of a column's name."""
READERS = {"frames/evidence.py"}
"""Hands what was read of the records to ``analyse``, so that they are read once."""


def imported(source: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def statistics_in(source: str) -> list[str]:
    """Return the imports that compute."""
    return [name for name in imported(source) if _computes(name)]


def _computes(name: str) -> bool:
    if any(name == each or name.startswith(f"{each}.") for each in FORBIDDEN):
        return True
    of_analysis = name == "evalsuite.analysis" or name.startswith("evalsuite.analysis.")
    if not of_analysis or any(name == each or name.startswith(f"{each}.") for each in ALLOWED):
        return False
    return name.removeprefix("evalsuite.analysis.") not in ENTRY


MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_no_report_computes_a_statistic(module: str) -> None:
    used = statistics_in((ROOT / module).read_text(encoding="utf-8"))
    if module in READERS:
        used = [name for name in used if not name.startswith("evalsuite.analysis.outcomes.")]
    assert not used


@pytest.mark.parametrize(
    "source",
    [
        "import scipy.stats",
        "from scipy import stats",
        "from evalsuite import metrics",
        "from evalsuite.statistics import holm",
        "from evalsuite.analysis import Settings",
        "from evalsuite.analysis.harm import harm",
        "import evalsuite.analysis.harm",
        "def later():\n    from statsmodels.stats import multitest",
    ],
)
def test_a_statistic_is_seen_however_it_is_imported(source: str) -> None:
    assert statistics_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np",
        "from evalsuite.analysis import Analysis, analyse, SUMMARY_COLUMNS",
        "from evalsuite.analysis.claims import LEVEL",
        "from evalsuite.store import Run",
    ],
)
def test_reading_a_table_is_no_statistic(source: str) -> None:
    assert not statistics_in(source)
