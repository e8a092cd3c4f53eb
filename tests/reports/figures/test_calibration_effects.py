import io

import numpy as np
import pandas as pd
import pytest

from evalsuite.store import Run
from reports import style
from reports.figures.calibration_curves import CalibrationCurves
from reports.figures.calibration_effects import CalibrationEffects, _split


def test_effects_drawn_are_those_of_the_csv(study_run: Run) -> None:
    reread = pd.read_csv(io.StringIO(CalibrationEffects().data(study_run).to_csv(index=False)))
    with style.applied():
        figure = CalibrationEffects().draw(reread)
    assert figure.get_figwidth() == style.COLUMN
    marks = [line for axes in figure.axes for line in axes.get_lines() if len(line.get_xdata()) == 1]
    drawn = sorted(float(line.get_xdata()[0]) for line in marks)
    np.testing.assert_allclose(drawn, sorted([*reread["difference"] * 100, *reread["worst_change"] * 100]))
    filled = sum(line.get_markerfacecolor() != "white" for line in marks)
    shown = ((reread["low"] * reread["high"] > 0) & (reread["p_holm"] < 0.05)).sum()
    assert filled == shown + (reread["worst_low"] * reread["worst_high"] > 0).sum()
    assert [text.get_text() for text in figure.texts] == ["size", "noise", "augmentation"]


def test_many_sets_stand_in_two_columns(study_run: Run) -> None:
    data = CalibrationEffects().data(study_run)
    many = pd.concat([data.assign(factor=f"{k}", factor_order=k) for k in range(12)], ignore_index=True)
    with style.applied():
        figure = CalibrationEffects().draw(many)
    assert figure.get_figwidth() == pytest.approx(style.PAGE)
    assert _split([3, 1, 1, 1]) == [range(1), range(1, 4)]


def test_one_set_is_no_figure(run: Run) -> None:
    assert CalibrationEffects().data(run).empty
    assert CalibrationCurves().data(run).empty


def test_of_many_sets_those_with_the_largest_changes(study_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = CalibrationEffects().data(study_run)
    monkeypatch.setattr("reports.figures.calibration_effects._MOST", 1)
    data = CalibrationEffects().data(study_run)
    largest = (
        everything.query("factor == 'size'").groupby("calibration_label")["difference"].apply(lambda d: d.abs().max())
    )
    assert list(data.query("factor == 'size'")["calibration_label"].unique()) == [largest.idxmax()]
    assert data["factor"].nunique() == everything["factor"].nunique()
