"""What is selected is shown under the names that were asked for, and no number changes."""

import pandas as pd
import pytest

from evalsuite.errors import RequestError
from evalsuite.store import Run
from evalsuite.study.report import Report
from reports.figures.mean_against_worst import MeanAgainstWorst
from reports.figures.performance_profile import PerformanceProfile
from reports.frames.evidence import evidence
from reports.frames.rankings import chosen_rankings
from reports.selection import Selection

RTN = ("rtn W8A8", "rtn W4A4")


def test_a_selection_keeps_rows_as_they_are(run: Run) -> None:
    data = MeanAgainstWorst().data(run)
    asked = Report(select={"quantizer": ("rtn",), "adapter": ("none",)}, rename={"rtn W4A4": "RTN, four bits"})
    shown = Selection.of(run, asked).of_frame(data)
    expected = data[data["quantizer_label"].isin(["rtn W8A8", "rtn W4A4"]) & (data["adapter_label"] == "none")]
    columns = ["drop", "drop_low", "worst_drop", "p_holm", "worst"]
    pd.testing.assert_frame_equal(shown[columns], expected[columns].reset_index(drop=True))
    assert set(shown["network"]) == {"rtn W8A8", "RTN, four bits"}


def test_lines_keep_their_reference(run: Run) -> None:
    data = PerformanceProfile().data(run)
    shown = Selection.of(run, Report(select={"quantizer": ("adaround W4A4",)})).of_frame(data)
    lines = shown.drop_duplicates(["view", "line"])
    assert set(lines.loc[~lines["reference"], "line"]) == {"adaround W4A4"}
    assert set(lines.loc[lines["reference"], "view"]) == set(lines.loc[~lines["reference"], "view"])


def test_ranks_stay_among_all(study_run: Run) -> None:
    data = chosen_rankings(study_run)
    shown = Selection.of(study_run, Report(select={"quantizer": ("gptq",)})).of_frame(data)
    ranked = shown[shown["factor"] == "quantizer"]
    assert list(ranked["method"]) == ["gptq W4A4"]
    assert ranked["methods"].item() == 3  # of those with a calibration set


def test_evidence_keeps_pairs_of_which_both_are_shown(run: Run) -> None:
    found = evidence(run)
    asked = Report(select={"quantizer": ("rtn",)}, rename={"rtn W4A4": "RTN"})
    shown = Selection.of(run, asked).of_evidence(found)
    pairs = found.comparisons
    own = pairs[(pairs["factor"] == "quantizer") & pairs["a"].isin(RTN) & pairs["b"].isin(RTN)]
    kept = shown.comparisons[shown.comparisons["factor"] == "quantizer"]
    assert len(kept) == len(own) > 0
    assert set(kept["a"]) | set(kept["b"]) == {"rtn W8A8", "RTN"}
    pd.testing.assert_series_equal(kept["p_holm"], own["p_holm"], check_index=False)
    assert set(shown.methods["quantizer_label"]) == {"rtn W8A8", "RTN"}
    assert Selection.of(run, Report()).of_evidence(found) is found


def test_without_a_wish_all_is_shown(run: Run) -> None:
    data = MeanAgainstWorst().data(run)
    assert Selection.of(run, Report()).of_frame(data) is data


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            Report(select={"quantizer": ("rnt",)}),
            r"unknown quantizer in select 'rnt': did you mean 'rtn'\? known: .*gptq",
        ),
        (Report(rename={"rtn W4A8": "x"}), "unknown label to rename 'rtn W4A8'.*did you mean"),
        (
            Report(rename={"rtn W4A4": "gptq W4A4"}),
            "calls gptq W4A4 and rtn W4A4 alike|calls rtn W4A4 and gptq W4A4 alike",
        ),
        (Report(select={"quantizer": ("gptq",), "bits": ("FP32",)}), "no trial has all of these|unknown bits"),
    ],
)
def test_what_there_is_not_is_refused(study_run: Run, asked: Report, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Selection.of(study_run, asked)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"width": "90in"}, "expected 1.5 to 20 inches"),
        ({"width": "3.25 furlongs"}, "such as 3.25in"),
        ({"formats": ["tiff"]}, "unknown format of a figure 'tiff': known: eps, pdf, png, svg"),
        ({"select": {"quantiser": ["rtn"]}}, "did you mean 'quantizer'"),
        ({"font_size": 0.5}, "font size 0.5: expected 4 to 24"),
        ({"digits": -1}, "digits -1"),
        ({"style": "nowhere.mplstyle"}, "no style file nowhere.mplstyle"),
        ({"colour": "red"}, r"unknown key in \[report\] 'colour'"),
        ({"digits": "two"}, r"\[report\] digits"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Report.of(values)


def test_a_wish_comes_back_from_a_file() -> None:
    asked = Report(select={"task": ("a",)}, rename={"x": "y"}, width="8.255cm", formats=("svg",), digits=2)
    assert Report.of(asked.as_dict()) == asked
    assert asked.inches == pytest.approx(3.25)
