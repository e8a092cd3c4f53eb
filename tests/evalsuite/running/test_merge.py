import json
import shutil

import numpy as np
import pandas as pd
import pytest
from _dummies.studies import QUIET, tiny

from evalsuite import cli, store
from evalsuite.analysis import summarise
from evalsuite.errors import RequestError
from evalsuite.running.harness import execute
from evalsuite.running.merge import merge

STUDY = tiny(seeds=[0, 1])
MEASURED = ["adapt_seconds", "forward_seconds", "quantize_seconds", "peak_bytes"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run of a study, and the same in three parts."""
    folder = tmp_path_factory.mktemp("parts")
    execute(STUDY, folder / "whole", in_process=True, console=QUIET)
    for number in (1, 2, 3):
        execute(STUDY, folder / f"part{number}", in_process=True, console=QUIET, shard=(number, 3))
    return folder


def parts(runs):
    return [runs / f"part{number}" for number in (1, 2, 3)]


def test_parts_put_together_are_the_whole(runs, tmp_path):
    merged = merge(tmp_path / "merged", parts(runs))
    whole, together = store.load(runs / "whole"), store.load(tmp_path / "merged")
    assert (merged.trials, merged.missing) == (len(whole.trials), 0)
    pd.testing.assert_frame_equal(
        together.trials.drop(columns=MEASURED), whole.trials.drop(columns=MEASURED), check_dtype=False
    )
    for trial in whole.trials["trial"]:
        assert together.records_of(trial).equals(whole.records_of(trial))
    costs = ["seconds_per_image"]
    pd.testing.assert_frame_equal(summarise(together).drop(columns=costs), summarise(whole).drop(columns=costs))
    assert together.study["settings"] == whole.study["settings"]
    again = execute(STUDY, tmp_path / "merged", in_process=True, console=QUIET)
    assert again.reused == len(whole.trials)


def test_what_is_missing_is_said_and_can_be_run(runs, tmp_path, capsys):
    out = tmp_path / "merged"
    assert cli.call(["merge", str(out), *map(str, parts(runs)[:2]), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    whole = store.load(runs / "whole")
    assert answer["missing"] == len(whole.trials) - answer["trials"] > 0
    outcome = execute(STUDY, out, in_process=True, console=QUIET)
    assert outcome.reused == answer["trials"]
    assert set(store.load(out).trials["trial"]) == set(whole.trials["trial"])


def test_notes_and_gates_of_all_parts_are_kept(runs, tmp_path):
    for number, part in enumerate(parts(runs)):
        shutil.copytree(part, tmp_path / part.name)
        study = store.read_study(tmp_path / part.name)
        gate = {f"task {number}": {"key": "x", "refused": "no"}}
        store.write_study(tmp_path / part.name, study | {"notes": ["all", f"part {number}"], "gate": gate})
    merge(tmp_path / "merged", [tmp_path / part.name for part in parts(runs)])
    study = store.read_study(tmp_path / "merged")
    assert study["notes"] == ["all", "part 0", "part 1", "part 2"]
    assert set(study["gate"]) == {"task 0", "task 1", "task 2"}


def test_a_part_that_was_killed_is_merged_from_its_records(runs, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(runs / "part2", killed)
    (killed / "trials.parquet").unlink()
    next((killed / "records").glob("*.parquet")).unlink()
    merged = merge(tmp_path / "merged", [runs / "part3", killed, runs / "part1"])
    assert merged.missing == 1
    whole = [*store.load(runs / "whole").trials["trial"]]
    there = [*store.load(tmp_path / "merged").trials["trial"]]
    assert there == [trial for trial in whole if trial in there], "in the study's order"
    assert len(there) == len(whole) - 1


def changed_study(run, **changes):
    store.write_study(run, store.read_study(run) | changes)


def other_weights(run):
    tasks = store.read_study(run)["tasks"]
    changed_study(run, tasks={name: facts | {"weights_digest": "x"} for name, facts in tasks.items()})


def other_torch(run):
    changed_study(run, versions=store.read_study(run)["versions"] | {"torch": "1.0"})


def flipped(run):
    file = next((run / "records").glob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: changed_study(run, seeds=[7]), "of another study than .*: seeds differ"),
        (other_weights, "weights_digest of .* differs"),
        (other_torch, "has torch 1.0"),
        (flipped, "is damaged"),
        (lambda run: (run / "study.json").unlink(), "is not a run's folder"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(runs, tmp_path, change, message):
    other = tmp_path / "other"
    shutil.copytree(runs / "part2", other)
    change(other)
    with pytest.raises(RequestError, match=message):
        merge(tmp_path / "merged", [runs / "part1", other])
    assert [file.name for file in tmp_path.iterdir()] == ["other"]


def test_other_records_of_one_trial_are_refused(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs / "whole", other)
    trial = store.load(other).trials["trial"][0]
    table = store.load(other).records_of(trial).combine_chunks()
    columns = {name: table[name].combine_chunks() for name in table.column_names if name != "trial"}
    columns["prediction"] = (columns["label"].to_numpy() + 1) % 3
    store.write_trial(other, store.read_rows(other)[trial], columns)
    with pytest.raises(RequestError, match=f"trial {trial} differs between"):
        merge(tmp_path / "merged", [runs / "whole", other])


def test_a_record_that_is_gone_is_refused_by_its_name(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs / "whole", other)
    trial = store.load(other).trials["trial"].iloc[-1]
    store.record_file(other, trial).unlink()
    with pytest.raises(RequestError, match=f"record of trial {trial}, which is done, is missing"):
        merge(tmp_path / "merged", [other])


def test_equal_records_with_a_nan_are_equal(runs, tmp_path):
    sides = [tmp_path / name for name in ("one", "other")]
    trial = store.load(runs / "whole").trials["trial"].iloc[0]
    for side in sides:
        shutil.copytree(runs / "whole", side)
        table = store.load(side).records_of(trial).combine_chunks()
        columns = {name: table[name].combine_chunks() for name in table.column_names if name != "trial"}
        columns["loss"] = np.full(len(table), np.nan, np.float32)
        store.write_trial(side, store.read_rows(side)[trial], columns)
    assert merge(tmp_path / "merged", sides).missing == 0
    assert np.isnan(store.load(tmp_path / "merged").records_of(trial)["loss"].to_numpy()).all()


def test_a_trial_that_ended_otherwise_elsewhere_is_refused(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs / "whole", other)
    table = store.load(other).trials
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    store.write_trials(other, [rows[0] | {"status": "refused", "reason": "no norm layers"}, *rows[1:]])
    for pair in ((runs / "whole", other), (other, runs / "whole")):
        with pytest.raises(RequestError, match=f"trial {rows[0]['trial']} is (refused|done) in .*, (done|refused) in"):
            merge(tmp_path / "merged", pair)


def test_a_folder_that_holds_something_is_not_written_to(runs, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RequestError, match="is there already"):
        merge(tmp_path, parts(runs))
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
