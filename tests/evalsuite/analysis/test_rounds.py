import numpy as np
import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import ESTIMATES, Settings
from evalsuite.analysis.outcomes import COMBINATION, read_outcomes
from evalsuite.metrics import forgetting
from evalsuite.statistics import group_bounds

KEYS = list(COMBINATION)


def made(run, name):
    return ESTIMATES[name](run, read_outcomes(run), Settings.of(run))


def wrong(run):
    records = run.records.merge(run.trials[["trial", *KEYS]].astype({"trial": "category"}), on="trial")
    return records.assign(wrong=records["prediction"] != records["label"], trial=records["trial"].astype(str))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    return store.load(
        make_run(
            folder, tasks=["a"], quantizers=[("full_precision", "FP32"), ("rtn", "W4A4")], adapters=["none", "tent"],
            domains=["fog", "snow"], severities=(3, 5), rounds=3, images=20, seeds=(0, 1),
        )
    )  # fmt: skip


def test_errors_and_bounds_by_round_are_those_of_the_records(run):
    table = made(run, "rounds").set_index([*KEYS, "round"]).sort_index()
    for keys, records in wrong(run).groupby(KEYS):
        expected = records.groupby("round")["wrong"].mean()
        bounds = group_bounds(
            records["wrong"], records["round"], records["image"], records["trial"], signed=False
        )  # fmt: skip
        own = table.loc[keys]
        np.testing.assert_allclose(own["error"], expected)
        np.testing.assert_allclose(own["low"], np.minimum(bounds.low[:, 0], expected))
        np.testing.assert_allclose(own["high"], np.maximum(bounds.high[:, 0], expected))
        assert own.index.tolist() == [1, 2, 3]
        assert set(own["images"]) == {20}


def test_what_a_domain_lost_is_its_forgetting(run):
    table = made(run, "forgetting").set_index([*KEYS, "domain", "severity"])["forgotten"]
    for keys, records in wrong(run).groupby(KEYS):
        means = records.groupby(["round", "domain", "severity"], observed=True)["wrong"].mean().unstack([1, 2])
        expected = pd.Series(forgetting(means.to_numpy()), means.columns)
        assert len(expected) == 4
        for domain, lost in expected.items():
            assert table.loc[(*keys, *domain)] == pytest.approx(lost)


def test_a_stream_of_one_round_has_none(tmp_path):
    once = store.load(make_run(tmp_path, tasks=["a"], adapters=["none"], domains=["fog", "snow"], images=20))
    assert made(once, "rounds").empty
    assert made(once, "forgetting").empty
