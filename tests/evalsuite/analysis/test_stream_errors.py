import numpy as np
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import ESTIMATES, Settings
from evalsuite.analysis.outcomes import COMBINATION, read_outcomes

DOMAINS = ["fog", "snow", "contrast"]


def made(folder, **options):
    settings = {"tasks": ["a"], "adapters": ["none", "tent"], "domains": DOMAINS, "images": 20, "seeds": (0, 1)}
    run = store.load(make_run(folder, **settings | options))
    return run, ESTIMATES["stream_errors"](run, read_outcomes(run), Settings.of(run))


def test_every_combination_has_the_errors_of_its_stretches(tmp_path):
    run, table = made(tmp_path)
    assert table.groupby(list(COMBINATION)).size().tolist() == [3] * (4 * 2 * 2)
    records = run.records.merge(run.trials[["trial", *COMBINATION]].astype({"trial": "category"}), on="trial")
    records["wrong"] = records["prediction"] != records["label"]
    expected = records.groupby([*COMBINATION, "domain"], observed=True)["wrong"].mean()
    found = table.set_index([*COMBINATION, "domain"])["error"]
    np.testing.assert_allclose(found.sort_index(), expected.sort_index())
    assert (table["low"] <= table["error"]).all()
    assert (table["error"] <= table["high"]).all()
    shown = table[table["stream_label"] == "reversed"].drop_duplicates("stretch")
    assert shown["domain"].tolist() == DOMAINS[::-1]
    assert shown["until"].tolist() == [20, 40, 60]


@pytest.mark.parametrize("options", [{"domains": ["fog"], "images": 40}, {"domains": DOMAINS, "rounds": 9}])
def test_a_stream_of_one_stretch_or_many_is_cut(tmp_path, options):
    run, table = made(tmp_path, **options)
    length = int(run.trials["images"].iloc[0])
    assert table["domain"].isna().all()
    assert sorted(set(table["until"])) == sorted({length * (place + 1) // 24 for place in range(24)})


def test_streams_that_no_adapter_met_are_left_out(tmp_path):
    assert made(tmp_path, adapters=["none"])[1].empty
