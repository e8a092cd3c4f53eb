import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _dummies import plugins
from _dummies.disk import full_disk
from _dummies.studies import tiny
from rich.console import Console

from evalsuite import store
from evalsuite.adaptation.collapse import CollapseWatch, first_collapse
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.running import harness, notes

MEASURED = ["adapt_seconds", "forward_seconds", "quantize_seconds", "peak_bytes"]
QUIET = Console(quiet=True)
FULL_PRECISION = [{"method": "full_precision"}]


def execute(study, folder, workers=1, **options):
    options = {"in_process": workers == 1} | options
    return harness.execute(study, folder, workers, device="cpu", console=QUIET, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    outcome = execute(tiny(), folder)
    assert (outcome.done, outcome.failed, outcome.refused, outcome.reused) == (12, 0, 0, 0)
    return store.load(folder)


def unmeasured(frame):
    return frame.drop(columns=MEASURED, errors="ignore")


def test_records_hold_a_row_per_image_and_add_up(finished):
    assert len(finished.records) == 12 * 3 * 24
    for trial, rows in finished.records.groupby("trial", observed=True):
        row = finished.trials.set_index("trial").loc[trial]
        assert (rows["prediction"] != rows["label"]).mean() == pytest.approx(row["error"])
        assert np.array_equal(rows["position"], np.arange(72))
        assert row["images"] == 72
        assert row["batches"] == 11
        assert row["forwards"] == 11
    assert (finished.records["loss"] >= 0).all()
    assert finished.records["confidence"].between(1 / 3 - 1e-6, 1).all()
    assert set(finished.records["domain"].unique()) == {"gaussian_noise", "contrast", "brightness"}
    assert (finished.records["half"] == finished.records["image"] % 2).all()


def test_labels_are_the_task_s(finished):
    labels = plugins.StripesTask().data(None).test_labels
    assert (finished.records["label"] == labels[finished.records["image"]]).all()


def test_fixed_models_say_the_same_of_an_image_in_any_order(finished):
    fixed = finished.trials[finished.trials["adapter"] == "none"]
    for _, pair in fixed.groupby("quantizer_label"):
        rows = [
            finished.records[finished.records["trial"] == trial].sort_values(["domain", "image"])
            for trial in pair["trial"]
        ]
        assert np.array_equal(rows[0]["loss"], rows[1]["loss"])
        assert not np.array_equal(rows[0]["position"], rows[1]["position"])


@pytest.mark.parametrize("reset", ["never", "collapse"])
def test_an_adapter_that_collapses_begins_anew_where_the_stream_says_so(reset, tmp_path):
    stream = {"protocol": "continual", "corruptions": ["clean"], "images": 48, "batch_size": 48, "rounds": 30}
    study = tiny(adapter=[{"method": plugins.FALLING}], stream=[{**stream, "reset": reset}], quantizer=FULL_PRECISION)
    execute(study, tmp_path)
    run = store.load(tmp_path)
    row = run.trials[run.trials["adapter"] == plugins.FALLING].squeeze()
    rows = run.records[run.records["trial"] == row["trial"]].sort_values("position")
    said = rows["prediction"].to_numpy().reshape(30, 48)
    watch, fresh, expected, started = CollapseWatch(), 0, [], []
    for batch in said:
        expected.append(fresh < 2)
        started.append(fresh == 0)
        fresh += 1
        if reset == "collapse" and watch.collapsed(batch):
            fresh = 0
    assert [bool(batch.any()) for batch in said] == expected
    assert sum(expected) == (2 if reset == "never" else 6)
    assert row["collapsed_at"] == first_collapse(said.ravel(), rows["label"].to_numpy())
    assert [bool(each) for each in rows["reset"].to_numpy().reshape(30, 48).all(axis=1)] == [
        place > 0 and fresh_start for place, fresh_start in enumerate(started)
    ]
    assert rows["batch"].tolist() == np.repeat(np.arange(30), 48).tolist()
    assert json.loads(row["adapter_facts"])["adapted_modules"] == ["1"]


def test_adapted_models_do_not(finished):
    drifting = finished.trials[finished.trials["adapter"] == plugins.DRIFTING]
    assert drifting["adapted_parameters"].eq(3).all()
    losses = [finished.records.loc[finished.records["trial"] == t, "loss"].sum() for t in drifting["trial"]]
    assert len(set(losses)) == len(losses)


def test_every_trial_names_its_reference(finished):
    by_trial = finished.trials.set_index("trial")
    for _, row in finished.trials.iterrows():
        own = by_trial.loc[row["reference"]]
        assert own["bits"] == "FP32"
        assert own["adapter"] == "none"
        assert own["stream_digest"] == row["stream_digest"]


def test_study_file_says_what_was_run(finished):
    facts = finished.study
    assert facts["trials"] == 12
    assert facts["tasks"][plugins.TASK]["test_images"] == 48
    assert facts["versions"]["torch"]
    assert facts["hardware"]["threads"] >= 1
    assert facts["notes"][0].startswith(
        "Corrupted images were regenerated from the clean test images by the 'fast' engine"
    )
    assert "the 'cifar' constants at 32 x 32 pixels (seed 0)" in facts["notes"][0]


def test_same_study_same_records(finished, tmp_path):
    execute(tiny(), tmp_path)
    again = store.load(tmp_path)
    pd.testing.assert_frame_equal(unmeasured(again.trials), unmeasured(finished.trials))
    pd.testing.assert_frame_equal(again.records, finished.records, check_exact=True)


def test_several_processes_give_the_same(finished, tmp_path):
    execute(tiny(), tmp_path, workers=2)
    again = store.load(tmp_path)
    pd.testing.assert_frame_equal(unmeasured(again.trials), unmeasured(finished.trials))
    pd.testing.assert_frame_equal(again.records, finished.records, check_exact=True)


def test_interrupted_run_goes_on_where_it_stopped(finished, tmp_path, monkeypatch):
    write, written = store.write_trial, []

    def interrupted(*arguments):
        if len(written) == 5:
            signal.raise_signal(signal.SIGINT)
        written.append(arguments[1]["trial"])
        write(*arguments)

    monkeypatch.setattr(store, "write_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(tiny(), tmp_path)
    assert len(store.load(tmp_path).trials) == 5
    monkeypatch.setattr(store, "write_trial", write)
    quantized = []
    monkeypatch.setattr(plugins.Scaled, "calibrate", lambda *arguments: quantized.append(arguments))
    outcome = execute(tiny(), tmp_path)
    assert outcome.reused == 5
    assert not quantized, "a model that was kept was quantized again"
    again = store.load(tmp_path)
    pd.testing.assert_frame_equal(unmeasured(again.trials), unmeasured(finished.trials))
    pd.testing.assert_frame_equal(again.records, finished.records, check_exact=True)


def test_finished_run_computes_nothing(finished, monkeypatch):
    monkeypatch.setattr(harness, "_run_missing", lambda *arguments: pytest.fail("computed"))
    assert execute(tiny(), finished.folder).reused == 12


def test_quantized_once_and_corrupted_once(tmp_path):
    execute(tiny(), tmp_path)
    assert len(list((tmp_path / ".work" / "models").iterdir())) == 3
    assert len(list((tmp_path / ".work" / "images").iterdir())) == 3


def test_failure_and_refusal_are_rows_and_stop_nothing(tmp_path):
    study = tiny(
        quantizer=[{"method": plugins.SCALED}, {"method": plugins.FAILING}],
        adapter=[{"method": ["none", plugins.REFUSING]}],
    )
    outcome = execute(study, tmp_path)
    trials = store.load(tmp_path).trials
    failed = trials[trials["quantizer"] == plugins.FAILING]
    assert set(failed["status"]) == {"failed"}
    assert failed["reason"].str.match(r"ZeroDivisionError: no luck today \(plugins\.py:\d+\)").all()
    refused = trials[(trials["adapter"] == plugins.REFUSING) & (trials["quantizer"] != plugins.FAILING)]
    assert set(refused["status"]) == {"refused"}
    assert set(refused["reason"]) == {"this adapter applies to nothing"}
    assert set(failed["reason_code"]) == {"plugin_error"}
    assert set(refused["reason_code"]) == {"not_applicable"}
    assert set(trials.loc[trials["status"] == "done", "reason_code"]) == {""}
    assert (outcome.done, outcome.refused, outcome.failed) == (4, 2, 4)
    assert execute(study, tmp_path).reused == 6, "failed trials are tried again, others are not"


def test_corruption_that_fails_costs_only_the_trials_that_need_it(tmp_path, monkeypatch):
    from evalsuite.running import domain_images

    def broken(images, name, severity, **options):
        if name == "contrast":
            raise FloatingPointError("no contrast")
        return images

    monkeypatch.setattr(domain_images, "corrupt", broken)
    streams = [{"protocol": "continual", "images": 24, "corruptions": [["contrast"], ["fog"]]}]
    outcome = execute(tiny(stream=streams, adapter=[{"method": "none"}]), tmp_path)
    assert (outcome.done, outcome.failed) == (3, 3)
    reasons = set(store.load(tmp_path).trials["reason"])
    assert any("FloatingPointError: no contrast" in reason for reason in reasons)


def test_impossible_requests_write_nothing(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RequestError, match="expected 1 to 30"):
        execute(tiny(calibration=[{"protocol": "calibration", "size": 31}]), folder)
    with pytest.raises(RequestError, match="the test set has 48"):
        execute(tiny(stream=[{"protocol": "continual", "images": 49}]), folder)
    with pytest.raises(RequestError, match="workers = -1"):
        execute(tiny(), folder, workers=-1)
    with pytest.raises(RequestError, match="device 'abacus'"):
        harness.execute(tiny(), folder, device="abacus", console=QUIET)
    assert not folder.exists()


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write to"):
        execute(tiny(), tmp_path / "file" / "run")


def test_oracle_reset_makes_domains_independent(tmp_path):
    stream = {"protocol": "continual", "images": 24, "batch_size": 7, "severity": 1, "reset": "domain"}
    corruptions = {"corruptions": [["gaussian_noise", "contrast"], ["gaussian_noise"]]}
    execute(tiny(stream=[{**stream, **corruptions}], adapter=[{"method": plugins.DRIFTING}]), tmp_path)
    run = store.load(tmp_path)
    assert set(run.trials["status"]) == {"done"}
    for trial in run.trials["trial"]:
        records = run.records_of(trial).to_pandas()
        begins = records["domain"].astype(str) != records["domain"].astype(str).shift()
        begun = records["batch"].isin(records.loc[begins & (records["position"] > 0), "batch"])
        assert (records["reset"] == begun).all()
    lengths = run.trials.groupby("stream.corruptions")["images"].first()
    assert sorted(lengths) == [24, 48]


def test_progress_is_told_where_there_is_no_terminal(tmp_path, capsys):
    harness.execute(tiny(), tmp_path, device="cpu", console=Console(stderr=True, force_terminal=False), in_process=True)
    told = capsys.readouterr().err
    assert "corrupting images: 3 done" in told
    assert "quantizing: 3 done" in told
    assert "evaluating: 12 done" in told


def test_public_function_returns_the_folder(tmp_path, monkeypatch):
    import evalsuite

    monkeypatch.chdir(tmp_path)
    study = tiny(quantizer=[{"method": "full_precision"}], adapter=[{"method": "none"}])
    folder = evalsuite.run(study, device="cpu", in_process=True)
    assert folder.as_posix() == "runs/tiny"
    assert json.loads((folder / "study.json").read_text())["name"] == "tiny"


def test_plan_that_fails_costs_only_its_own_trials(tmp_path):
    good = {"protocol": "continual", "images": 24, "corruptions": ["contrast"]}
    study = tiny(stream=[good, {"protocol": "_dummies.plugins:Aimless"}], adapter=[{"method": "none"}])
    outcome = execute(study, tmp_path)
    assert (outcome.done, outcome.failed) == (3, 3)
    assert any("IndexError: no plan" in reason for reason in store.load(tmp_path).trials["reason"])


HOSTILE = f"{Path(__file__).parents[3] / 'benchmarks' / 'hostile.py'}:Hostile"
# Not "labels": it zeroes every task's arrays in the process, which here is that of all tests.
SOFT = [
    *("seeds", "variables", "folder", "double", "strict_warnings", "settings", "hook", "patches", "exit_0"),
    *("exit_7", "interrupt", "generator_exit", "foreign", "speechless", "surrogate", "long", "recursion"),
    *("nan", "row_missing", "listed", "complex", "nothing_returned", "question"),
]
HARD = ["hard_exit", "fork", "folder", "labels", "speechless"]


@pytest.mark.parametrize(("modes", "workers"), [(SOFT, 1), (HARD, 2)])
def test_hostile_plugins_cost_their_own_trials_and_no_other(finished, tmp_path, monkeypatch, modes, workers):
    monkeypatch.chdir(tmp_path)
    stream = {"protocol": "continual", "images": 24, "batch_size": 7, "severity": 1}
    stream["corruptions"] = ["gaussian_noise", "contrast", "brightness"]
    adapters = [{"method": HOSTILE, "mode": modes}, {"method": ["none", plugins.DRIFTING]}]
    study = tiny(adapter=adapters, quantizer=FULL_PRECISION, stream=[stream])
    outcome = execute(study, "run", workers)
    run = store.load(tmp_path / "run")
    assert len(run.trials) == len(modes) + 2
    honest = run.trials[run.trials["adapter"] != HOSTILE]
    assert set(honest["status"]) == {"done"}
    for trial in honest["trial"]:
        assert run.records_of(trial).equals(finished.records_of(trial))
    hostile = run.trials[run.trials["adapter"] == HOSTILE].set_index("adapter.mode")
    harmless = {"seeds", "variables", "folder", "double", "strict_warnings", "settings", "hook", "patches"}
    assert set(hostile.index[hostile["status"] == "done"]) <= harmless
    assert {"seeds", "variables", "folder"} & set(modes) <= set(hostile.index[hostile["status"] == "done"])
    assert outcome.failed == len(modes) - (hostile["status"] == "done").sum()
    assert hostile["reason"].map(lambda reason: len(reason) <= 1200 and reason.isprintable()).all()
    assert (hostile.loc[hostile["status"] == "failed", "reason"] != "").all()


def test_trials_whose_records_vanish_have_failed(tmp_path, monkeypatch):
    write, written = store.write_trial, []

    def vanish(folder, row, records=None):
        write(folder, row, records)
        written.append(row["trial"])
        if len(written) == 5:
            shutil.rmtree(folder / "records")

    monkeypatch.setattr(store, "write_trial", vanish)
    outcome = execute(tiny(), tmp_path)
    assert (outcome.done, outcome.failed) == (7, 5)
    trials = store.load(tmp_path).trials
    lost = trials[trials["status"] == "failed"]
    assert set(lost["trial"]) == set(written[:5])
    assert lost["reason"].str.contains("its record is not in .*records: it was removed").all()
    assert set(lost["reason_code"]) == {"record_missing"}
    monkeypatch.undo()
    again = execute(tiny(), tmp_path)
    assert (again.done, again.reused) == (12, 7)


def test_reasons_survive_a_disk_that_is_full_of_records(tmp_path):
    study = tiny(adapter=[{"method": "none"}], quantizer=FULL_PRECISION)
    execute(study, tmp_path)  # so that all but the records lies on the disk
    shutil.rmtree(tmp_path / "records")
    before = (tmp_path / "trials.parquet").read_bytes()
    with full_disk(3000), pytest.raises(RequestError, match="cannot write to"):
        execute(study, tmp_path)
    assert (tmp_path / "trials.parquet").read_bytes() == before
    assert not [file for file in tmp_path.rglob(".*") if file.is_file()]


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_impossible_ways_to_run_are_refused(limit, tmp_path):
    with pytest.raises(RequestError, match=r"a time limit of .* s: expected more than 0"):
        execute(tiny(), tmp_path / "run", time_limit=limit)
    with pytest.raises(RequestError, match="2 workers in this process: expected 1"):
        execute(tiny(), tmp_path / "run", workers=2, in_process=True)
    assert not (tmp_path / "run").exists()


def test_broken_intermediate_files_are_made_again(finished, tmp_path):
    execute(tiny(), tmp_path)
    damaged = [*(tmp_path / ".work").rglob("*.safetensors"), *(tmp_path / ".work").rglob("*.npy")]
    damaged += [*(tmp_path / "records").iterdir(), tmp_path / "study.json"]
    for number, file in enumerate(damaged):
        content = file.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        file.write_bytes(content[:50] if number % 2 else flipped)
    with pytest.warns(DamageWarning) as caught:
        assert execute(tiny(), tmp_path).done == 12
    for file in damaged:
        assert any(str(warning.message).startswith(f"{file} is damaged") for warning in caught), file
    pd.testing.assert_frame_equal(store.load(tmp_path).records, finished.records, check_exact=True)


def test_edited_task_is_another_task(tmp_path, monkeypatch):
    file = tmp_path / "task.py"
    code = "from _dummies.plugins import StripesTask\n\n\nclass Task(StripesTask):\n    'A task.'\n"
    file.write_text(code)
    study = tiny(tasks=[f"{file}:Task"], adapter=[{"method": "none"}])
    assert execute(study, tmp_path / "run").reused == 0
    file.write_text(code + "    edited = True\n")
    assert execute(study, tmp_path / "run").reused == 0


PUBLISHED = "_dummies.plugins:PublishedStripes"
UNADAPTED = {"quantizer": [{"method": "full_precision"}], "adapter": [{"method": "none"}]}


def test_published_files_are_what_is_shown_and_the_run_says_so(finished, tmp_path):
    execute(tiny(tasks=[PUBLISHED], corruption={"files": "published"}, **UNADAPTED), tmp_path)
    run = store.load(tmp_path)
    assert set(run.trials["corrupted_images"]) == {"published files"}
    assert run.study["notes"][0] == "Corrupted images are the published files, read as they are distributed."
    assert run.study["settings"]["corruption"] == {"files": "published"}
    assert set(finished.trials["corrupted_images"]) == {"regenerated"}
    loss = run.records.groupby("domain", observed=True)["loss"].mean()
    assert loss.max() - loss.min() < 1e-3, "the published images of all domains are the same"


def test_published_files_that_are_missing_are_named_before_anything_is_written(tmp_path):
    stream = [{"protocol": "continual", "images": 24, "corruptions": ["contrast", "fog"]}]
    study = tiny(tasks=[PUBLISHED], corruption={"files": "published"}, stream=stream)
    with pytest.raises(RequestError, match="no file stripes-c/fog/5: expected the test images under fog"):
        execute(study, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_clean_streams_have_no_corrupted_images(tmp_path):
    stream = [{"protocol": "continual", "images": 24, "corruptions": ["clean"]}]
    execute(tiny(stream=stream, **UNADAPTED), tmp_path)
    run = store.load(tmp_path)
    assert set(run.trials["corrupted_images"]) == {""}
    assert run.study["notes"] == [notes.SIMULATED]


def test_a_task_twice_with_other_options_is_two_tasks(tmp_path):
    execute(tiny(tasks=[], task=[{"name": PUBLISHED, "variant": ["a", "b"]}], **UNADAPTED), tmp_path)
    run = store.load(tmp_path)
    assert set(run.trials["task"]) == set(run.study["tasks"]) == {f"{PUBLISHED} a", f"{PUBLISHED} b"}
    assert run.study["tasks"][f"{PUBLISHED} a"]["options"] == {"variant": "a", "mirrored": False}
    assert len(list((tmp_path / ".work" / "images").iterdir())) == 3, "tasks on the same images share them"
    assert set(run.trials["task.variant"]) == {"a", "b"}


def test_runs_share_images_through_a_folder(tmp_path, monkeypatch):
    from evalsuite.running import domain_images

    made = []
    corrupt = domain_images.corrupt
    monkeypatch.setattr(domain_images, "corrupt", lambda *a, **b: made.append(a[1]) or corrupt(*a, **b))
    study = tiny(**UNADAPTED)
    for name in ("one", "two"):
        execute(study, tmp_path / name, cache=tmp_path / "shared")
        assert not (tmp_path / name / ".work" / "images").exists()
    one, two = (store.load(tmp_path / name).records for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert sorted(made) == ["brightness", "contrast", "gaussian_noise"]
    assert len(list((tmp_path / "shared" / "images").iterdir())) == 3
    assert "EVALSUITE_CACHE" not in os.environ


def test_a_shared_folder_keeps_to_its_size_but_for_the_present_run(tmp_path, monkeypatch):
    images = tmp_path / "shared" / "images"
    images.mkdir(parents=True)
    (images / "old.npy").write_bytes(b"0" * 1000)
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "shared"))
    execute(tiny(**UNADAPTED), tmp_path / "one", cache_gigabytes=1)
    assert (images / "old.npy").is_file()
    assert len(list(images.iterdir())) == 4
    execute(tiny(**UNADAPTED), tmp_path / "two", cache_gigabytes=0)
    assert not (images / "old.npy").exists()
    assert len(list(images.iterdir())) == 3
    with pytest.raises(RequestError, match="cache of -1 gigabytes"):
        execute(tiny(), tmp_path / "three", cache_gigabytes=-1)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"cannot write to .*file"):
        execute(tiny(**UNADAPTED), tmp_path / "three", cache=tmp_path / "file")


def test_group_columns_may_not_hide_records(tmp_path, monkeypatch):
    from evalsuite.running.task_data import task_data

    data = plugins.StripesTask().data(None)
    monkeypatch.setattr(
        plugins.StripesTask, "data", lambda self, root: replace(data, groups={"label": data.test_labels})
    )
    task_data.cache_clear()
    try:
        with pytest.raises(RequestError, match="group column 'label'"):
            execute(tiny(), tmp_path)
    finally:
        task_data.cache_clear()


def test_overrides_need_a_study_file(tmp_path):
    with pytest.raises(RequestError, match="expected none with a study that is checked already"):
        execute(tiny(), tmp_path, overrides=["seeds=[1]"])
