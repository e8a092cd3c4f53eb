import json
import os
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from _dummies import plugins
from _dummies.studies import FULL_PRECISION, execute, tiny
from rich.console import Console

from evalsuite import store
from evalsuite.adaptation.collapse import CollapseWatch, first_collapse
from evalsuite.errors import DamageWarning, RequestError
from evalsuite.running import harness, notes
from evalsuite.running.run_log import LOG
from evalsuite.streams import Domain, Stream

MEASURED = ["adapt_seconds", "forward_seconds", "quantize_seconds", "peak_bytes"]


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


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """The folder of the tiny study run by two processes."""
    folder = tmp_path_factory.mktemp("two")
    assert execute(tiny(), folder, workers=2).done == 12
    return folder


def test_several_processes_give_the_same(finished, by_two):
    """Two get parts of units, longest first, and write what one writes that does whole units."""
    again = store.load(by_two)
    pd.testing.assert_frame_equal(unmeasured(again.trials), unmeasured(finished.trials))
    pd.testing.assert_frame_equal(again.records, finished.records, check_exact=True)
    for trial in finished.trials["trial"]:
        assert again.records_of(trial).equals(finished.records_of(trial))


def test_log_tells_each_item_once_and_goes_on_in_the_next_call(by_two):
    def lines():
        return [json.loads(line) for line in (by_two / LOG).read_text(encoding="ascii").splitlines()]

    first = lines()
    assert (first[0]["event"], first[-1]["event"], first[-1]["status"]) == ("run started", "run ended", "done")
    started = [line["trial"] for line in first if line["event"] == "item started" and line["stage"] == "evaluating"]
    ended = [line for line in first if line["event"] == "item ended" and line["stage"] == "evaluating"]
    trials = set(store.load(by_two).trials["trial"])
    assert len(started) == len(ended) == 12
    assert {line["trial"] for line in ended} == set(started) == trials
    assert all(line["status"] == "done" and line["seconds"] >= 0 for line in ended)
    assert os.getpid() not in {line["process"] for line in ended}
    assert {line["process"] for line in first if line["event"] == "stage started"} == {os.getpid()}
    execute(tiny(), by_two)
    assert lines()[: len(first)] == first
    assert [line["event"] for line in lines()[len(first) :]] == ["run started", "run ended"]


def test_interrupted_run_goes_on_where_it_stopped(finished, tmp_path, monkeypatch):
    write, written = store.write_trial, []

    def interrupted(*arguments):
        if len(written) == 5:
            raise KeyboardInterrupt  # a real SIGINT has ended this process: tests/evalsuite/test_isolation.py sends one
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


def test_a_stream_may_name_a_domain_that_it_does_not_show(tmp_path):
    """As a saved stream does that was cut to its first images."""
    domains = (Domain(), Domain("fog", 3), Domain("snow", 3))
    domain = np.repeat(np.array([0, 1], np.int16), 12)
    cut = Stream(domains, np.arange(24, dtype=np.int32), domain, np.array([0, 12]), np.zeros(2, bool))
    cut.save(tmp_path / "cut.npz")
    study = tiny(stream=[{"protocol": "replay", "file": str(tmp_path / "cut.npz")}])
    execute(study, tmp_path / "run")
    run = store.load(tmp_path / "run")
    assert set(run.trials["status"]) == {"done"}
    assert set(run.records["domain"].astype(str)) == {"clean", "fog"}


@pytest.mark.parametrize("damage", ["gone", "cut", "no name"])
def test_a_folder_whose_study_file_is_damaged_is_nobody_s(finished, tmp_path, damage):
    execute(tiny(name="before", **UNADAPTED), tmp_path)
    file = tmp_path / "study.json"
    whole = file.read_text()
    file.unlink()
    if damage != "gone":
        file.write_text(whole[:50] if damage == "cut" else "{}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        outcome = execute(tiny(name="after", seeds=[7], **UNADAPTED), tmp_path)
    assert outcome.reused == 0
    assert store.read_study(tmp_path)["name"] == "after"
