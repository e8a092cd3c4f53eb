"""The records that are shipped for an audit are what its profile gives today."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from evalsuite import store
from evalsuite.running.baselines import packed_run
from evalsuite.running.harness import execute
from evalsuite.running.plan import planned
from evalsuite.running.workspace import Workspace
from evalsuite.study.file import read
from protocols import baselines


def fitting(plan):
    """Return what is shipped; skips where an audit would not take it either."""
    shipped = packed_run(baselines.audit_quick)
    differences = shipped.differences(plan)
    if differences:
        pytest.skip(f"the shipped records do not fit here: {'; '.join(differences)}")
    return shipped


def test_they_are_small_and_those_of_the_whole_profile(tmp_path):
    assert sum(file.stat().st_size for file in baselines.audit_quick.iterdir()) < 5_000_000
    plan = planned(read("audit_quick"), Workspace(tmp_path), "")
    rows = fitting(plan).rows
    assert set(rows) == {trial.identity for trial in plan.trials}
    assert all(row["status"] == "done" for row in rows.values())


def test_a_part_of_the_profile_gives_the_same_today(tmp_path):
    whole = read("audit_quick")
    part = replace(
        whole,
        seeds=whole.seeds[-1:],
        calibrations=whole.calibrations[:1],
        quantizers=(whole.quantizers[0], next(each for each in whole.quantizers if str(each.bits) == "W4A4")),
        adapters=tuple(each for each in whole.adapters if each.name in ("none", "zoa")),
        streams=whole.streams[:1],
        exclude=(),
        gate=replace(whole.gate, points=0),
    )
    shipped = fitting(planned(part, Workspace(tmp_path / "run"), ""))
    execute(part, tmp_path / "run", in_process=True, console=Console(quiet=True))
    run = store.load(tmp_path / "run")
    compared = run.trials[run.trials["trial"].isin(shipped.rows)]
    assert {"none", "zoa"} == set(compared["adapter"])
    assert {"FP32", "W4A4"} == set(compared["bits"])
    for trial in compared["trial"]:
        today, then = run.records_of(trial), shipped.records(trial)
        for name in ("image", "position", "label", "severity"):
            assert today[name].to_numpy().tolist() == then[name].to_numpy().tolist()
        # Another processor rounds otherwise, which tips a few predictions.
        assert np.mean(today["prediction"].to_numpy() != then["prediction"].to_numpy()) < 0.01
