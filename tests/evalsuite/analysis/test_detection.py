import json

import numpy as np
import pytest
from _dummies.runs import BATCH, make_run

from evalsuite import store
from evalsuite.analysis import ESTIMATES, Settings
from evalsuite.analysis.outcomes import read_outcomes

DOMAINS = ["clean", "gaussian_noise", "fog", "snow"]
IMAGES = 20  # of a domain, two batches


def detections(run):
    return ESTIMATES["detections"](run, read_outcomes(run), Settings.of(run))


def saying(folder, facts, **columns):
    """Give zoa's trials facts, and change columns of their records."""
    rows = store.read_rows(folder)
    for trial, row in rows.items():
        if row["adapter"] == "zoa":
            row["adapter_facts"] = json.dumps(facts)
            table = store.Run(folder).records_of(trial)
            records = {name: table[name].combine_chunks() for name in table.column_names if name != "trial"}
            store.write_trial(folder, row, records | columns)
    store.write_trials(folder, list(rows.values()))
    return store.load(folder)


@pytest.fixture
def folder(tmp_path):
    quantizers = [("full_precision", "FP32"), ("rtn", "W4A4")]
    return make_run(
        tmp_path, tasks=["a"], quantizers=quantizers, adapters=["none", "zoa"], streams=["usual"], domains=DOMAINS,
        images=IMAGES, seeds=(0, 1),
    )  # fmt: skip


def counts(run, within):
    table = detections(run).query("within == @within and quantizer_label == 'rtn W4A4'")
    return table[["hits", "changes", "alarms", "others"]].to_numpy().tolist()


def test_counts_are_summed_over_seeds(folder):
    run = saying(folder, {"domain_changes": [2, 5, 7]})  # changes come with batches 2, 4 and 6
    assert counts(run, 1) == [[2, 6, 4, 8]]
    assert counts(run, 2) == [[6, 6, 0, 2]]
    table = detections(run)
    assert set(table["adapter_label"]) == {"zoa"}
    assert table["hit_rate"].tolist() == [2 / 6, 1] * 2
    assert table["false_alarm_rate"].tolist() == [4 / 8, 0] * 2
    assert set(table["trials"]) == {2}


@pytest.mark.parametrize("judged", [[[1, 3], [4, 8]], [1, 2, 4, 5, 6, 7]])
def test_batches_that_the_adapter_did_not_judge_are_no_others(folder, judged):
    run = saying(folder, {"domain_changes": [2], "judged_batches": judged})
    assert counts(run, 1) == [[2, 6, 0, 2 * 3]]  # batches 1, 5 and 7 of each seed


def test_a_change_that_a_reset_hides_is_none(folder):
    reset = np.repeat(np.arange(8) == 4, BATCH)
    run = saying(folder, {"domain_changes": [2, 5]}, reset=reset)
    assert counts(run, 1) == [[2, 4, 2, 2 * 4]]
    assert counts(run, 2) == [[2, 4, 2, 2 * 2]]


def test_batches_are_those_of_the_records(folder):
    batch = np.repeat(np.arange(4), 2 * BATCH).astype(np.int32)
    assert counts(saying(folder, {"domain_changes": [1, 2]}, batch=batch), 1) == [[4, 6, 0, 0]]


def test_a_mixed_stream_has_no_change_to_see(folder):
    places = np.random.default_rng(0).permutation(len(DOMAINS) * IMAGES).astype(np.int32)
    assert detections(saying(folder, {"domain_changes": [1]}, position=places, batch=places // BATCH)).empty


def test_an_adapter_that_says_nothing_has_no_row(folder):
    assert detections(saying(folder, {"skipped": 1})).empty
