import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis import analyse
from evalsuite.older_runs import upgraded

COLLAPSE = "collapse: one class is predicted for over 95 % of the 500 images up to image {} of the stream, which shows"


@pytest.fixture
def old(tmp_path):
    """A run as it was recorded before records said their batch, and warnings were a list."""
    folder = make_run(
        tmp_path, tasks=["a"], quantizers=[("full_precision", "FP32"), ("rtn", "W4A4")], adapters=["none", "zoa"],
        streams=["usual"], domains=["fog", "snow"], rounds=2, images=20,
    )  # fmt: skip
    for file in (folder / "records").iterdir():
        table = pq.read_table(file)
        row = json.loads(table.schema.metadata[b"evalsuite.trial"])
        del row["collapsed_at"]
        row["warnings"] = f"zoa: small; {COLLAPSE.format(612)}" if row["adapter"] == "zoa" else ""
        table = table.drop_columns(["batch", "reset", "round"])
        pq.write_table(table.replace_schema_metadata({b"evalsuite.trial": json.dumps(row)}), file)
    frame = pd.read_parquet(folder / "trials.parquet").drop(columns=["collapsed_at", "reason_code"])
    zoa = frame["adapter"] == "zoa"
    frame["warnings"] = np.where(zoa, f"zoa: small; {COLLAPSE.format(612)}", "")
    frame.to_parquet(folder / "trials.parquet")
    return folder


def test_old_tables_and_rows_are_read_alike(old):
    trials = store.load(old).trials.set_index("trial")
    rows = store.read_rows(old)
    for trial, row in rows.items():
        zoa = row["adapter"] == "zoa"
        assert json.loads(row["warnings"]) == json.loads(trials["warnings"][trial]) == (["zoa: small"] if zoa else [])
        assert row["collapsed_at"] == (612 if zoa else None)
        assert pd.isna(trials["collapsed_at"][trial]) if not zoa else trials["collapsed_at"][trial] == 612
    assert trials["reason_code"].isna().all()
    store.write_trials(old, list(rows.values()))
    again = store.load(old).trials.set_index("trial")["collapsed_at"]
    pd.testing.assert_series_equal(again[trials.index], trials["collapsed_at"])


def test_old_records_say_nothing_of_batches_and_are_analysed_all_the_same(old):
    run = store.load(old)
    trial = run.trials["trial"].iloc[0]
    records = run.records_of(trial)
    assert records.column_names[-3:] == ["batch", "reset", "round"]
    assert [records[name].null_count for name in ("batch", "reset", "round")] == [80, 80, 80]
    assert run.records_of(trial, ["batch", "image"]).column_names == ["batch", "image"]
    assert run.records["batch"].isna().all()
    estimates = analyse(run).estimates
    assert estimates["detections"].empty
    assert set(estimates["rounds"]["round"]) == {1, 2}, "read off the stream's option, as it was once"


@pytest.mark.parametrize("given", [["a; b"], []])
def test_present_rows_stay(given):
    row = {"warnings": json.dumps(given), "collapsed_at": None}
    assert upgraded(row) == row
