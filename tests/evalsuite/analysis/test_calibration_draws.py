import numpy as np
import pytest
from _dummies.runs import make_run
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalsuite import analysis, store
from evalsuite.analysis.calibration_draws import t_interval
from evalsuite.store import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    few = {"tasks": ("a",), "images": 60, "domains": ("fog", "snow"), "permutations": 50, "bootstrap": 5}
    return store.load(make_run(tmp_path_factory.mktemp("draws") / "run", seeds=(0, 1, 2), **few))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda values: np.std(values) > 1e-6))
def test_an_interval_over_draws_is_that_of_the_t_test(values: list[float]) -> None:
    mean, low, high = t_interval(np.array(values))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((np.mean(values), expected.low, expected.high))


def test_one_draw_has_no_interval() -> None:
    mean, low, high = t_interval(np.array([0.25]))
    assert mean == 0.25
    assert np.isnan([low, high]).all()


def test_draws_and_what_they_agree_on_fit_each_other_and_the_summary(run: Run) -> None:
    tables = analysis.analyse(run)
    draws, across = tables.estimates["calibration_draws"], tables.estimates["across_draws"]
    keys = list(analysis.COMBINATION)
    assert len(across) == draws.groupby(keys).ngroups > 0
    merged = across.merge(tables.summary, on=keys, suffixes=("", "_summary"))
    for _, row in merged.iterrows():
        mine = draws[(draws[keys] == row[keys]).all(axis=1)]
        assert row["draws"] == len(mine) == 3
        assert row["error"] == pytest.approx(mine["error"].mean())
        assert row["error"] == pytest.approx(row["error_summary"])
        assert row["times"] == mine["worst_class"].value_counts().max()
        assert row["times"] == (mine["worst_class"] == row["worst_class"]).sum()
        assert row["w"] == pytest.approx(row["stability_class"], nan_ok=True)
        assert row["shown"] == (row["stability_class_p"] < 0.05)


def test_an_estimate_without_rows_is_not_written(run: Run, tmp_path) -> None:
    tables = analysis.analyse(run)
    tables.write(tmp_path)
    for name, table in tables.estimates.items():
        assert (tmp_path / f"{name}.csv").exists() == (len(table) > 0)
    assert not (tmp_path / "calibration_changes.csv").exists()
    assert (tmp_path / "across_draws.csv").exists()
