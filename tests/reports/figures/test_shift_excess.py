from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from _dummies.runs import CalibrationSet, make_run

from evalsuite import store, testing
from evalsuite.store import Run
from reports import style
from reports.figures.shift_excess import ShiftExcess
from reports.frames.evidence import evidence
from reports.frames.shift import shift_excess
from reports.words.answers import answer
from reports.words.shift import QUESTION, of_shift

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture(scope="module")
def shifted_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    quantizers = [("full_precision", "FP32"), ("rtn", "W8A8"), ("rtn", "W4A4")]
    folder = tmp_path_factory.mktemp("shift") / "run"
    return store.load(make_run(folder, quantizers=quantizers, domains=["clean", "fog", "snow"], streams=["usual"]))


def test_the_figure_shows_both_drops_and_their_difference(shifted_run: Run) -> None:
    data = ShiftExcess().data(shifted_run)
    assert data.groupby("task")["network"].agg(list).tolist() == [["rtn W8A8", "rtn W4A4"]] * 2
    with style.applied():
        figure = ShiftExcess().draw(data)
    drops, excess = figure.axes[:2]
    assert [label.get_text() for label in drops.get_yticklabels()] == ["rtn W8A8", "rtn W4A4"]
    for axes, names in ((drops, ["clean_drop", "shifted_drop"]), (excess, ["excess"])):
        marks = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() not in ("None", None)]
        assert sorted(marks) == pytest.approx(sorted(100 * data[data["task"] == "digits/resnet"][names].stack()))
    testing.check_figure(ShiftExcess, shifted_run)


def table(*rows: tuple[str, float, float, bool]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["network", "clean_drop", "shifted_drop", "shown"])
    excess = made["shifted_drop"] - made["clean_drop"]
    return made.assign(excess=excess, low=excess - 0.01, high=excess + 0.01, p_holm=0.01)


def test_what_is_shown_is_counted_and_the_largest_is_named() -> None:
    said = list(
        of_shift(table(("a", 0.01, 0.05, True), ("b", 0.0, 0.06, True), ("c", 0.1, 0.02, True), ("d", 0, 0, False)))
    )
    assert said == [
        f"Against full precision, 2 of 4{SPACE}quantized networks lose more under shift than on clean images, 1 less; "
        "for 1 no difference is shown.",
        f"Most more: b, which loses 0.0{SPACE}points on clean images and 6.0{SPACE}points under shift, "
        f"6.0{SPACE}points more (95{SPACE}% interval 5.0 to 7.0; p{SPACE}={SPACE}0.010).",
        f"Most less: c, which loses 10.0{SPACE}points on clean images and 2.0{SPACE}points under shift, "
        f"8.0{SPACE}points less (95{SPACE}% interval 7.0 to 9.0; p{SPACE}={SPACE}0.010).",
    ]


def test_what_is_not_shown_is_not_claimed() -> None:
    one, two = ("a", 0.01, 0.02, False), ("b", 0.04, 0.01, False)
    (said,) = of_shift(table(one))
    assert said.startswith("The largest difference, which is not shown: a,")
    counted, largest = of_shift(table(one, two))
    assert counted.startswith("Against full precision, none of 2")
    assert largest.startswith("The largest difference, which is not shown: b,")
    assert f"3.0{SPACE}points less (95{SPACE}% interval 2.0 to 4.0" in largest


def test_the_page_answers_with_the_figure_beside(shifted_run: Run) -> None:
    answers = {each.question: each for each in answer(shifted_run, evidence(shifted_run)).answers}
    assert answers[QUESTION].figures == ("shift_excess",)
    expected = [(task, tuple(of_shift(own))) for task, own in shift_excess(shifted_run).groupby("task", sort=False)]
    assert list(answers[QUESTION].tasks) == expected


def test_of_many_calibration_sets_the_first_is_shown(tmp_path: Path) -> None:
    sets = [CalibrationSet(f"size {n}", [("calibration", {"size": n})]) for n in range(1, 8)]
    small = {"tasks": ["a"], "adapters": ["none"], "streams": ["usual"], "domains": ["clean", "fog"], "images": 10}
    quantizers = [("full_precision", "FP32"), ("rtn", "W8A8"), ("rtn", "W4A4")]
    for number, expected in ((6, 12), (7, 2)):
        run = make_run(tmp_path / str(number), quantizers=quantizers, calibrations=sets[:number], **small)
        data = ShiftExcess().data(store.load(run))
        assert len(data) == expected
        assert data["calibration_label"].iloc[0] == "size 1"
