import json

import numpy as np
import pandas as pd
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.store import Run
from reports.frames.calibration_draws import by_draw
from reports.frames.calibration_sets import SEVERAL, calibration_sets, effects, factor
from reports.frames.evidence import evidence


def step(name: str, **options: object) -> dict[str, object]:
    return {"name": name, "options": options}


@pytest.mark.parametrize(
    ("own", "first", "expected"),
    [
        ([step("calibration", size=16)], [step("calibration", size=64)], "size"),
        ([step("calibration", size=64), step("noise", severity=3)], [step("calibration", size=64)], "noise"),
        ([step("calibration", size=64)], [step("calibration", size=64), step("noise", severity=3)], "noise"),
        ([step("sampling", size=64, method="herding")], [step("calibration", size=64)], "sampling"),
        ([step("balanced", size=64)], [step("long_tail", size=64)], "class composition"),
        ([step("calibration", size=16), step("noise")], [step("calibration", size=64)], SEVERAL),
        ([step("my_own_step")], [step("calibration", size=64)], "my own step"),
    ],
)
def test_a_factor_is_what_differs(own: list[dict[str, object]], first: list[dict[str, object]], expected: str) -> None:
    assert factor(own, first) == expected


def test_sets_are_told_from_the_first(study_run: Run) -> None:
    sets = calibration_sets(study_run)
    assert list(sets["level"]) == ["size 64", "size 16", "size 256", "fog 3", "augmix"]
    assert list(sets["factor"]) == ["", "size", "size", "noise", "augmentation"]
    assert json.loads(sets["steps"].iloc[1]) == [{"name": "calibration", "options": {"size": 16}}]


def test_effects_are_those_of_the_comparisons_and_the_summary(study_run: Run) -> None:
    changed, found = effects(study_run), evidence(study_run)
    assert len(changed) == 4 * 3
    assert set(changed["draws"]) == {2}
    summary = found.summary.set_index(["calibration_label", "quantizer_label", "adapter_label"])
    pairs = found.comparisons[found.comparisons["factor"] == "calibration"].set_index(["a", "context"])
    for row in changed.itertuples():
        own, first = (summary.loc[(name, row.quantizer_label, "none")] for name in (row.calibration_label, row.first))
        assert row.difference == pytest.approx(own["error"] - first["error"])
        assert row.worst_drop == pytest.approx(own["worst_drop_class_value"])
        assert row.worst_class == own["worst_drop_class"]
        assert row.worst_change == pytest.approx(own["worst_drop_class_value"] - first["worst_drop_class_value"])
        assert row.worst_low < row.worst_change < row.worst_high
        pair = pairs.loc[(row.calibration_label, f"quantizer {row.quantizer_label}, adapter none, stream usual")]
        assert row.p_holm == pair["p_holm_context"]


def test_planted_effects_are_found(study_run: Run) -> None:
    changed = effects(study_run).set_index(["calibration_label", "quantizer_label"])
    harmful, harmless = (changed.xs(name) for name in ("size 64, fog 3", "size 256"))
    assert (harmful["difference"] > 0).all()
    assert (harmful["worst_change"] > harmless["worst_change"]).all()
    assert (harmful["worst_high"] > harmful["worst_change"]).all()  # a few draws bound no worst class: wide intervals
    assert (harmless["difference"].abs() < harmful["difference"]).all()


def test_an_interval_of_a_worst_class_holds_that_of_its_drop(tmp_path) -> None:
    """Any class may be the worst: wider than a bootstrap of the one that is, by how much is bounded."""
    from _dummies.runs import USUAL_SET, CalibrationSet

    other = CalibrationSet("size 16", [("calibration", {"size": 16})], 1.0)
    quantizers = [("full_precision", "FP32"), ("rtn", "W4A4")]
    folder = make_run(
        tmp_path,
        tasks=["a"],
        quantizers=quantizers,
        adapters=["none"],
        streams=["usual"],
        calibrations=[USUAL_SET, other],
        domains=["fog"],
        images=400,
        classes=4,
        bootstrap=2000,
    )
    run = store.load(folder)
    row = effects(run).iloc[0]
    assert row["worst_class"] == row["first_worst_class"] == "class 3"
    records = {label: _wrong(run, label) for label in ("size 64", "size 16")}
    gaps = records["size 16"] - records["size 64"]
    generator = np.random.default_rng(0)
    means = [generator.choice(gaps, len(gaps)).mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert row["worst_low"] < low < high < row["worst_high"]
    assert row["worst_high"] - row["worst_low"] < 6 * (high - low)


def _wrong(run: Run, label: str) -> np.ndarray:
    trial = run.trials.loc[run.trials["calibration_label"] == label, "trial"].item()
    records = run.records_of(trial).to_pandas().sort_values("image")
    own = records[records["label"] == 3]
    return (own["prediction"] != own["label"]).to_numpy().astype(float)


def test_one_set_has_no_effect(run: Run) -> None:
    assert effects(run).empty
    assert len(calibration_sets(run)) == 2


def test_draws_are_the_trials(study_run: Run) -> None:
    draws = by_draw(study_run)
    trials = study_run.trials
    labels = [name for name in draws.columns if name.endswith("_label")]
    both = draws.merge(trials[[*labels, "seed", "error"]], on=[*labels, "seed"], suffixes=("", "_trial"))
    assert len(both) == len(draws) == (trials["reference"] != trials["trial"]).sum()
    pd.testing.assert_series_equal(both["error"], both["error_trial"], check_names=False)
    assert (draws["worst_drop"] >= draws["drop"]).all()
