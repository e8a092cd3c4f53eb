from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from _dummies.runs import make_run

from evalsuite import store
from evalsuite.analysis.outcomes import Rows, pooled, read_outcomes
from evalsuite.errors import RequestError

TASK = "digits/resnet"
SMALL = {"tasks": (TASK,), "adapters": ("none", "tent"), "images": 20}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return store.load(make_run(folder, **SMALL, seeds=(3, 1), domains=("snow", "clean", "fog"), broken=True))


@pytest.fixture(scope="module")
def outcomes(run):
    return read_outcomes(run)


def test_every_combination_has_its_seeds_that_are_done(run, outcomes):
    done = run.trials[run.trials["status"] == "done"]
    labels = ["calibration_label", "quantizer_label", "adapter_label", "stream_label"]
    expected = {key: sorted(rows["seed"]) for key, rows in done.groupby(labels)}
    found = {(c.calibration, c.quantizer, c.adapter, c.stream): list(c.outcomes) for c in outcomes.combinations}
    assert found == expected
    assert sorted(map(len, found.values()))[:2] == [1, 1]  # a trial failed, another was refused


def test_rows_of_different_trials_pair_up_by_domain_and_image(run, outcomes):
    own, other = (run.trials.loc[run.trials["stream"] == stream, "trial"].iloc[0] for stream in ("usual", "reversed"))
    assert outcomes.by_trial[own].layout is outcomes.by_trial[other].layout
    keys = ["domain", "severity", "image"]
    records = run.records.astype({"domain": str})
    for trial in (own, other):
        rows = records[records["trial"] == trial].sort_values(keys)
        expected = (rows["label"] != rows["prediction"]).to_numpy()
        assert np.array_equal(outcomes.by_trial[trial].wrong, expected)
    layout = outcomes.by_trial[own].layout
    assert layout.domains == (("clean", 0), ("fog", 5), ("snow", 5))
    assert layout.image.tolist() == list(range(20)) * 3


def test_images_shown_twice_pair_up_by_their_order(tmp_path):
    def trial(name, position, prediction):
        records = {
            "image": np.zeros(4, np.int32),
            "position": np.array(position, np.int32),
            "domain": ["fog"] * 4,
            "family": ["weather"] * 4,
            "severity": np.ones(4, np.int8),
            "label": np.zeros(4, np.int32),
            "prediction": np.array(prediction, np.int32),
            "confidence": np.ones(4, np.float32),
            "loss": np.ones(4, np.float32),
            "brier": np.ones(4, np.float32),
        }
        row = {"trial": name, "status": "done", "reference": name, "task": TASK, "seed": 0, "bits": "W4A4"}
        row |= dict.fromkeys(["calibration_label", "adapter_label", "stream_label"], "x") | {"quantizer_label": name}
        row |= dict.fromkeys(["images", "batches", "forwards", "backwards"], 4)
        row |= dict.fromkeys(["adapt_seconds", "adapted_parameters", "state_bytes"], 0)
        store.write_trial(tmp_path, row, records)
        return row

    make_run(tmp_path, **SMALL, domains=("fog",))
    store.write_trials(tmp_path, [trial("a", [3, 0, 2, 1], [1, 0, 0, 1]), trial("b", [0, 1, 2, 3], [0, 1, 0, 1])])
    outcomes = read_outcomes(store.load(tmp_path)).by_trial
    assert outcomes["a"].wrong.tolist() == outcomes["b"].wrong.tolist() == [0, 1, 0, 1]
    assert outcomes["a"].layout is outcomes["b"].layout


def test_groups_are_named_and_merge_severities(outcomes):
    layout = next(iter(outcomes.by_trial.values())).layout
    severities = (("fog", 1), ("fog", 5), ("snow", 5))
    other = type(layout)(severities, layout.domain, layout.image, layout.label)
    rows = Rows(TASK, (layout, other), outcomes.classes[TASK])
    assert rows.domains == [("clean", 0), ("fog", 1), ("fog", 5), ("snow", 5)]
    codes, names = rows.group("domain")
    assert names == ["clean", "fog", "snow"]
    assert (
        np.array(names)[codes].tolist() == ["clean"] * 20 + ["fog"] * 20 + ["snow"] * 20 + ["fog"] * 40 + ["snow"] * 20
    )
    codes, names = rows.group("class")
    assert np.array(names)[codes].tolist() == [f"class {image % 10}" for image in rows.image]


def test_batches_are_of_equal_rows_and_bounded(outcomes, monkeypatch):
    parts = [(each.task, list(each.outcomes.values())) for each in outcomes.combinations]
    batches = list(outcomes.batches(parts))
    assert sorted(len(rows.image) for rows, _ in batches) == [60, 120]
    assert sorted(index for _, members in batches for index in members) == list(range(len(parts)))
    for rows, members in batches:
        assert all(len(pooled(parts[member][1])) == len(rows.image) for member in members)
    monkeypatch.setattr("evalsuite.analysis.outcomes._MOST_ELEMENTS", 300)
    assert max(len(members) for _, members in outcomes.batches(parts)) == 300 // 120
    assert list(outcomes.batches([(TASK, [])])) == []


def test_a_reference_that_saw_other_images_is_an_error(tmp_path):
    run = store.load(make_run(tmp_path, **SMALL))
    outcomes = read_outcomes(run)
    combination = next(each for each in outcomes.combinations if not each.is_reference)
    reference = combination.references[0]
    truth = outcomes.by_trial[reference]
    shifted = type(truth.layout)(truth.layout.domains, truth.layout.domain, truth.layout.image + 1, truth.layout.label)
    outcomes.by_trial[reference] = dataclasses.replace(truth, layout=shifted)
    with pytest.raises(RequestError, match=f"its reference {reference} saw different images"):
        outcomes.paired_with_reference(combination)


def test_a_missing_record_file_is_named(tmp_path):
    run = store.load(make_run(tmp_path, **SMALL))
    (tmp_path / "records" / f"{run.trials['trial'].iloc[-1]}.parquet").unlink()
    with pytest.raises(RequestError, match=r"\.parquet is missing: expected a whole record file; run again"):
        read_outcomes(run)


def test_costs_are_means_over_seeds(outcomes):
    combination = next(c for c in outcomes.combinations if c.adapter == "tent" and len(c.outcomes) == 2)
    sureness = ("ece", "ece_mass", "nll", "brier")
    facts = {name: value for name, value in combination.facts.items() if name not in sureness}
    assert facts == {
        "bits": combination.facts["bits"],
        "seeds": 2,
        "images": 60,
        "forwards_per_batch": 1.0,
        "backwards_per_batch": 1.0,
        "seconds_per_image": pytest.approx(0.0004),
        "adapted_parameters": 960,
        "state_bytes": 7680,
    }


def test_a_network_that_puts_out_nan_has_no_calibration_error_and_stops_nothing(tmp_path):
    run = store.load(make_run(tmp_path, **SMALL | {"adapters": ("none",), "streams": ("usual",)}, domains=("fog",)))
    trial = run.trials["trial"].iloc[-1]
    records = {name: values.to_numpy() for name, values in run.records_of(trial).to_pandas().items() if name != "trial"}
    nothing = dict.fromkeys(("confidence", "loss", "brier"), np.full(len(records["image"]), np.nan, np.float32))
    store.write_trial(run.folder, store.read_rows(run.folder)[trial], records | nothing)
    facts = [each.facts for each in read_outcomes(run).combinations]
    assert [np.isnan(each["ece"]) for each in facts] == [False] * (len(facts) - 1) + [True]
    assert np.isnan([facts[-1][name] for name in ("ece_mass", "nll", "brier")]).all()


def test_what_another_process_reads_is_what_this_one_does(run, outcomes):
    def elsewhere(pieces):
        return [pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(piece)).do())) for piece in pieces]

    here, there = outcomes, read_outcomes(run, spread=elsewhere)
    assert [each.labels for each in there.combinations] == [each.labels for each in here.combinations]
    assert list(there.by_trial) == list(here.by_trial)
    for one, other in zip(here.combinations, there.combinations, strict=True):
        assert repr(other.facts) == repr(one.facts)
        assert other.shows_what(there.combinations[0]) == one.shows_what(here.combinations[0])
        for seed, outcome in one.outcomes.items():
            same = other.outcomes[seed]
            for name in ("wrong", "prediction", "confidence"):
                np.testing.assert_array_equal(getattr(same, name), getattr(outcome, name))
