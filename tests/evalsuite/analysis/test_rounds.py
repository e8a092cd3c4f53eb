import numpy as np
import pandas as pd
import pytest
from _dummies.outcomes import combination, outcomes, square
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import ESTIMATES, Settings
from evalsuite.analysis.outcomes import COMBINATION, read_outcomes
from evalsuite.analysis.rounds import _forgotten
from evalsuite.analysis.stream_rows import StreamRows
from evalsuite.metrics import forgetting
from evalsuite.statistics import group_bounds
from evalsuite.streams import Domain, Stream

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


def test_rounds_that_have_no_domain_in_common_forget_none():
    """Each round shows its own severity of the same corruptions, as a stream of one's own may."""
    domains = tuple(Domain(name, severity) for severity in (3, 5) for name in ("fog", "snow"))
    domain = np.repeat(np.arange(4), 20).astype(np.int16)
    shown = Stream(domains, np.tile(np.arange(20), 4).astype(np.int32), domain, np.arange(0, 80, 10), np.zeros(8, bool))
    assert shown.rounds().max() == 1
    names, code = np.unique([domains[place].name for place in domain], return_inverse=True)
    severity = np.array([domains[place].severity for place in domain])
    stream = StreamRows(tuple(names), shown.image, code, severity, shown.batch_of(), shown.rounds())
    own = square(20, 4)
    member = combination("rtn", {0: own}, {0: np.zeros(80)})
    rows = outcomes([member]).rows("task", [own])
    assert list(_forgotten({0: stream}, rows, [0], [member], np.zeros((80, 1), np.int8))) == []
