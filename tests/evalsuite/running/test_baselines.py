from dataclasses import replace

import numpy as np
import pytest
from _dummies.runs import make_run
from _dummies.studies import tiny
from rich.console import Console

from evalsuite import store
from evalsuite.errors import RequestError
from evalsuite.running.baselines import pack, packed_run, recorded_run
from evalsuite.running.harness import execute
from evalsuite.running.plan import planned
from evalsuite.running.workspace import Workspace

QUIET = Console(quiet=True)


def test_packed_records_are_those_of_the_run_but_for_a_rounded_fourth_digit(tmp_path):
    run = store.load(make_run(tmp_path / "run", images=30, seeds=(0, 1), sites=3, broken=True))
    pack(run.folder, tmp_path / "packed")
    packed = packed_run(tmp_path / "packed")
    done = run.trials[run.trials["status"] == "done"]["trial"]
    assert set(packed.rows) == set(run.trials[run.trials["status"] != "failed"]["trial"])
    assert packed.rows == recorded_run(run.folder).rows
    for trial in done:
        store.write_trial(tmp_path / "again", dict(packed.rows[trial]), packed.records(trial))
        table = store.Run(tmp_path / "again").records_of(trial)
        own = run.records_of(trial)
        assert table.column_names == own.column_names
        for name in own.column_names:
            one, other = (each[name].to_numpy() for each in (own, table))
            if name in ("confidence", "loss", "brier"):
                np.testing.assert_allclose(other, one, rtol=5e-4, atol=1e-6)
            else:
                assert one.tolist() == other.tolist(), name
    files = [*(tmp_path / "packed").iterdir()]
    assert sum(file.stat().st_size for file in files) < sum(
        file.stat().st_size for file in (run.folder / "records").iterdir()
    )


def test_what_is_no_packed_run_is_refused(tmp_path):
    with pytest.raises(RequestError, match="does not hold packed records"):
        packed_run(tmp_path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lent") / "run"
    execute(tiny(), folder, in_process=True, console=QUIET)
    return folder


def test_what_is_known_is_not_run_again_and_the_rest_is(ran, tmp_path):
    method = tiny().quantizers[1].method.name
    wider = tiny(quantizer=[{"method": "full_precision"}, {"method": method, "levels": [1, 2, 3]}])
    known = recorded_run(ran)
    ours = replace(wider, quantizers=(*tiny().quantizers, wider.quantizers[2]))
    outcome = execute(ours, tmp_path / "new", in_process=True, console=QUIET, lend=known.lend)
    new, old = store.load(tmp_path / "new"), store.load(ran)
    lent = set(old.trials["trial"])
    assert outcome.failed == 0
    assert outcome.reused == 0 or outcome.reused == len(lent)
    assert lent < set(new.trials["trial"])
    assert new.study["baselines"]["trials"] == len(lent)
    assert new.study["baselines"]["origin"] == str(ran)
    for trial in lent:
        assert new.records_of(trial).equals(old.records_of(trial))
    again = execute(ours, tmp_path / "new", in_process=True, console=QUIET, lend=known.lend)
    assert again.reused == len(new.trials)
    assert store.load(tmp_path / "new").study["baselines"]["trials"] == len(lent)


def test_other_versions_images_and_weights_are_named(ran):
    known = recorded_run(ran)

    plan = planned(tiny(), Workspace(ran), "")
    assert known.differences(plan) == []
    (task,) = known.facts["tasks"]
    versions = plan.facts["versions"]
    tasks = {task: plan.facts["tasks"][task] | {"data_digest": "x", "weights_digest": "y"}}
    other = replace(plan, facts={"versions": versions | {"torch": "1.13.1+cpu"}, "tasks": tasks})
    release, images, weights = known.differences(other)
    assert release.startswith("torch ")
    assert (images, weights) == (f"other images of {task}", f"other weights of {task}")
    build = versions["torch"].partition("+")[0] + "+cu130"  # for another device, of the same release
    assert known.differences(replace(plan, facts=plan.facts | {"versions": versions | {"torch": build}})) == []
