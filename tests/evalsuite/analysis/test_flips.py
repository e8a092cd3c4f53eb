import numpy as np
import pandas as pd
import pytest
from _dummies.runs import HARMED_CLASS, make_run

from evalsuite import store
from evalsuite.analysis import summarise
from evalsuite.analysis.flips import confusions_of, flips_of, mistakes_of
from evalsuite.analysis.outcomes import COMBINATION, read_outcomes

SMALL = {
    "tasks": ("a",),
    "adapters": ("none", "tent"),
    "images": 30,
    "seeds": (3, 1),
    "domains": ("snow", "clean", "fog"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return store.load(make_run(tmp_path_factory.mktemp("flips"), **SMALL))


@pytest.fixture(scope="module")
def tables(run):
    outcomes = read_outcomes(run)
    return {make.__name__: make(run, outcomes, None) for make in (flips_of, confusions_of, mistakes_of)}


def paired(run, labels):
    """Return the records of a combination's trials beside those of their references, joined by hand."""
    trials = run.trials
    for name, label in labels.items():
        trials = trials[trials[name] == label]
    keys = ["domain", "severity", "image"]
    parts = []
    for own, reference in zip(trials["trial"], trials["reference"], strict=True):
        sides = (run.records_of(each).to_pandas().drop(columns="trial") for each in (own, reference))
        left, right = (side.astype({"domain": str}) for side in sides)
        parts.append(left.merge(right, on=[*keys, "label"], suffixes=("", "_before")).assign(trial=own))
    return pd.concat(parts, ignore_index=True)


def test_each_combination_on_the_first_stream_has_its_worst_class_and_domain(run, tables):
    table = tables["flips_of"]
    assert set(table["stream_label"]) == {"usual"}
    assert len(table) == 2 * 7  # four networks with two adapters, without the reference
    summary = summarise(run).set_index(list(COMBINATION))
    for row in table.itertuples():
        known = summary.loc[tuple(getattr(row, name) for name in COMBINATION)]
        assert row.drop == pytest.approx(known[f"worst_drop_{row.group}_value"])
        assert row.name == known[f"worst_drop_{row.group}"] or row.drop == pytest.approx(0)
    harmed = table[(table["quantizer_label"] == "rtn W4A4") & (table["group"] == "class")]
    assert set(harmed["name"]) == {f"class {HARMED_CLASS}"}


def test_flips_and_their_certainty_are_those_of_the_records(run, tables):
    row = (
        tables["flips_of"]
        .query("quantizer_label == 'rtn W4A4' and adapter_label == 'none' and group == 'class'")
        .iloc[0]
    )
    rows = paired(run, {name: row[name] for name in COMBINATION})
    rows = rows[rows["label"] == HARMED_CLASS]
    wrong, before = rows["prediction"] != rows["label"], rows["prediction_before"] != rows["label"]
    flipped = rows[wrong & ~before]
    assert (row["rows"], row["flips"], row["repairs"]) == (len(rows), len(flipped), (~wrong & before).sum())
    assert row["before"] == pytest.approx(flipped["confidence_before"].median())
    assert [row["after_low"], row["after_high"]] == pytest.approx(
        np.percentile(flipped["confidence"], [25, 75]).tolist()
    )


def test_shares_of_a_class_sum_to_one_and_its_own_is_what_is_right(tables):
    for _, own in tables["confusions_of"].groupby(list(COMBINATION)):
        assert own["share"].sum() == pytest.approx(1)
        assert own["reference_share"].sum() == pytest.approx(1)
        assert own["share"].is_monotonic_decreasing
        assert own["name"].nunique() == 1
    flips = tables["flips_of"].query("group == 'class'").set_index(list(COMBINATION))
    right = tables["confusions_of"].query("name == prediction").set_index(list(COMBINATION))
    drops = (right["reference_share"] - right["share"]).reindex(flips.index)
    assert drops.tolist() == pytest.approx(flips["drop"].tolist())


def test_mistakes_are_flips_of_the_worst_group_the_surest_first(run, tables):
    for key, own in tables["mistakes_of"].groupby([*COMBINATION, "group"], sort=False):
        rows = paired(run, dict(zip(COMBINATION, key[:-1], strict=True)))
        group = rows["label"].map("class {}".format) if key[-1] == "class" else rows["domain"]
        flipped = rows[(group == own["name"].iloc[0]) & (rows["prediction"] != rows["label"])]
        flipped = flipped[flipped["prediction_before"] == flipped["label"]].sort_values("confidence", ascending=False)
        best = flipped.drop_duplicates(["domain", "severity", "image"]).head(4)
        assert own["after"].tolist() == pytest.approx(best["confidence"].tolist())
        assert own["image"].tolist() == best["image"].tolist()
        assert own["prediction"].tolist() == [f"class {code}" for code in best["prediction"]]


def test_a_network_may_say_what_is_no_class(tmp_path):
    run = store.load(make_run(tmp_path, **SMALL | {"seeds": (0,), "adapters": ("none",)}))
    outcomes = read_outcomes(run)
    for outcome in outcomes.by_trial.values():
        outcome.prediction[:] = 2_000_000_000
        outcome.wrong[:] = 1
    assert set(confusions_of(run, outcomes, None)["prediction"]) == {"output 2000000000"}
    assert mistakes_of(run, outcomes, None).empty
    assert flips_of(run, outcomes, None)["before"].isna().all()
