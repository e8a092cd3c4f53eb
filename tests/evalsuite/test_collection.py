from __future__ import annotations

import re
import shutil

import pandas as pd
import pytest
from _dummies.collections import SMALL, change, make_collection
from _dummies.runs import make_run

from evalsuite import analysis, store
from evalsuite.analysis.written import summary_and_comparisons
from evalsuite.collection import collect
from evalsuite.errors import RequestError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def found(folder):
    return collect([folder])


def test_only_what_saw_the_same_is_in_one_table(found):
    tables = {tuple(sorted({found.names[run] for run in board.rows["run"]})): board for board in found.boards}
    assert set(tables) == {("one", "two"), ("fewer",), ("weights",)}
    assert tables["one", "two"].differs == ()
    assert tables["fewer",].differs == ("shown",)
    assert tables["weights",].differs == ("weights",)
    assert found.boards[0] is tables["one", "two"]
    assert sum(len(board.rows) for board in found.boards) == sum(len(run.rows) for run in found.runs)
    for board in found.boards:
        assert board.rows["error"].is_monotonic_increasing


def test_what_is_unfinished_or_damaged_is_left_out_with_the_reason_in_a_line(found):
    reasons = {each.folder.name: each.reason for each in found.left_out}
    assert set(reasons) == {"half", "torn"}
    assert reasons["half"] == "unfinished: 5 of 9 trials have not ended"
    assert "records/" in reasons["torn"]
    assert not any("\n" in reason for reason in reasons.values())
    assert {each.folder.name for each in found.audits} == {"fragile", "broken"}


def test_the_numbers_are_those_of_the_analysis(found, folder):
    run = store.load(folder / "alike" / "two")
    expected = analysis.analyse(run)
    board = found.boards[0].rows
    own = board[board["run"] == found.names.index("two")].set_index(list(analysis.COMBINATION)).sort_index()
    known = expected.summary.set_index(list(analysis.COMBINATION)).sort_index()
    for column in ("error", "error_low", "drop_high", "worst_drop_class_value", "worst_drop_class_p_holm"):
        pd.testing.assert_series_equal(own[column], known[column])
    pairs = expected.comparisons
    change = pairs[(pairs["factor"] == "calibration") & (pairs["adapter_label"] == "tent")].iloc[0]
    rows = own.xs("tent", level="adapter_label")
    rows = rows[~rows["full_precision"]]
    assert list(rows["calibration_change"]) == [change["difference"]] * 2
    assert set(rows["calibration_set"]) == {"size 16"}
    assert own.loc[own["full_precision"], "calibration_change"].isna().all()


def test_tables_of_a_report_are_taken_where_they_are_of_the_trials_as_they_are(tmp_path):
    run = store.load(make_run(tmp_path / "run", **SMALL))
    made = analysis.analyse(run)
    made.write(run.folder)
    marked = made.summary.assign(ece=0.125)
    marked.to_csv(run.folder / "summary.csv", index=False)
    summary, comparisons = summary_and_comparisons(run)
    assert (summary["ece"] == 0.125).all()
    assert list(summary["worst_drop_class"].dropna()) == list(made.summary["worst_drop_class"].dropna())
    assert list(comparisons["a"]) == list(made.comparisons["a"])
    marked.assign(error=marked["error"] + 1e-6).to_csv(run.folder / "summary.csv", index=False)
    summary, _ = summary_and_comparisons(run)
    pd.testing.assert_frame_equal(summary, made.summary)
    (run.folder / "summary.csv").write_bytes(b"\xff\xfe,")
    pd.testing.assert_frame_equal(summary_and_comparisons(run)[0], made.summary)


def test_orders_of_the_same_images_are_ranked_together_and_how_images_are_made_sets_apart(tmp_path):
    settings = SMALL | {"streams": ("usual", "reversed")}
    make_run(tmp_path / "both", **settings)
    engine = store.load(make_run(tmp_path / "engine", **SMALL))
    other = {"corruption": {"engine": "reference"}}
    store.write_study(engine.folder, engine.study | {"settings": engine.study["settings"] | other})
    boards = collect([tmp_path]).boards
    assert [set(board.rows["stream_label"]) for board in boards] == [{"usual", "reversed"}, {"usual"}]
    assert [board.differs for board in boards] == [(), ("corruption",)]


def test_runs_of_one_name_are_set_apart_and_a_folder_given_twice_counts_once(tmp_path):
    for place in ("a", "b"):
        make_run(tmp_path / place / "quick", **SMALL)
    found = collect([tmp_path, tmp_path / "a"])
    assert found.names == ("a/quick", "b/quick")
    assert len(found.boards) == 1


def test_folders_without_anything_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no run or audit under"):
        collect([tmp_path])
    with pytest.raises(RequestError, match="is no folder"):
        collect([tmp_path / "absent"])


def test_no_number_of_a_study_is_none(tmp_path, folder):
    odd = store.load(shutil.copytree(folder / "fewer", tmp_path / "odd"))
    text = (odd.folder / "study.json").read_text().replace('"image_size": 16', '"image_size": NaN')
    (odd.folder / "study.json").write_text(re.sub(r',\s*"checksum": "[^"]*"', "", text))
    (left,) = collect([tmp_path]).left_out
    assert left.reason.startswith("damaged: ")


@pytest.mark.parametrize("wrong", [b"", b"{}", b'{"name": 1}', b"\xff"])
def test_a_study_file_of_anything_is_a_line(tmp_path, folder, wrong):
    shutil.copytree(folder / "fewer", tmp_path / "odd")
    (tmp_path / "odd" / "study.json").write_bytes(wrong)
    (left,) = collect([tmp_path]).left_out
    assert "study.json" in left.reason


def test_a_verdict_that_is_none_is_a_line(tmp_path):
    (tmp_path / "verdict.json").write_text("[]")
    (left,) = collect([tmp_path]).left_out
    assert "is no verdict" in left.reason


def test_each_digest_sets_apart(tmp_path, folder):
    for name in ("data_digest", "source_digest"):
        change(shutil.copytree(folder / "fewer", tmp_path / name), name)
    shutil.copytree(folder / "fewer", tmp_path / "as it was")
    shutil.copytree(folder / "fewer", tmp_path / "again")
    assert [board.differs for board in collect([tmp_path]).boards] == [(), ("data",), ("source",)]
