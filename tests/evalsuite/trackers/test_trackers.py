from __future__ import annotations

import importlib.util

import pytest
from _dummies.collections import SMALL
from _dummies.runs import make_run

from evalsuite import analysis, cli, store, trackers
from evalsuite.errors import RequestError
from evalsuite.trackers import mlflow, tensorboard


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return store.load(make_run(tmp_path_factory.mktemp("tracked") / "run", **SMALL))


def test_a_result_has_all_numbers_of_the_summary(run):
    summary = analysis.summarise(run)
    found = trackers.results_of(run)
    assert len({each.name for each in found}) == len(found) == len(summary)
    for result, row in zip(found, summary.to_dict("records"), strict=True):
        assert result.settings["quantizer"] == row["quantizer_label"]
        assert result.metrics["error"] == row["error"]
        assert not any(value != value for value in result.metrics.values())
        assert result.found.get("worst_drop_class", "") == (row["worst_drop_class"] if row["drop"] else "")


def test_what_was_done_since_makes_another_identity(run, tmp_path):
    other = store.load(make_run(tmp_path / "run", **SMALL | {"adapters": ("none",)}))
    assert trackers.identity_of(run) == trackers.identity_of(store.load(run.folder)) != trackers.identity_of(other)


@pytest.mark.parametrize(("package", "option"), [("mlflow", "--mlflow"), ("tensorboard", "--tensorboard")])
def test_a_missing_extra_is_one_line_and_status_2(package, option, run, tmp_path, capsys):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    assert cli.call(["export-metrics", str(run.folder), option, str(tmp_path / "there")]) == 2
    said = capsys.readouterr().err
    assert f"pip install 'evalsuite[{package}]'" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "there").exists()


def test_without_a_tracker_it_is_refused(run, capsys):
    assert cli.call(["export-metrics", str(run.folder)]) == 2
    assert "expected --mlflow URI or --tensorboard DIR" in capsys.readouterr().err


def test_tensorboard_reads_what_was_written_and_it_is_written_once(run, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (evalsuite[tensorboard])")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = tensorboard.log(run, tmp_path)
    results = trackers.results_of(run)
    folders = sorted(each for each in place.iterdir() if each.is_dir())
    assert len(folders) == len(results)
    for folder, result in zip(folders, results, strict=True):
        read = EventAccumulator(str(folder)).Reload()
        assert read.Scalars("error")[-1].value == pytest.approx(result.metrics["error"])
        assert set(read.Tags()["scalars"]) == set(result.metrics)
    before = sorted(tmp_path.rglob("*"))
    assert tensorboard.log(run, tmp_path) == place
    assert sorted(tmp_path.rglob("*")) == before


def test_a_server_that_is_not_there_is_a_line(run, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed (evalsuite[mlflow])")
    monkeypatch.setattr("evalsuite.trackers.mlflow.getproxies", dict)
    with pytest.raises(RequestError, match=r"no server answers at --mlflow http://127\.0\.0\.1:9"):
        mlflow.log(run, "http://127.0.0.1:9")


def test_mlflow_finds_what_was_logged_and_it_is_logged_once(run, tmp_path, monkeypatch):
    package = pytest.importorskip("mlflow", reason="mlflow is not installed (evalsuite[mlflow])")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri()
    parent = mlflow.log(run, uri)
    client = package.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(run.study["name"])
    logged = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    results = {each.name: each for each in trackers.results_of(run)}
    assert {each.info.run_name for each in logged} == set(results)
    for each in logged:
        assert each.data.metrics["error"] == pytest.approx(results[each.info.run_name].metrics["error"])
        assert each.data.params["quantizer"] == results[each.info.run_name].settings["quantizer"]
    assert mlflow.log(run, uri) == parent
    assert len(client.search_runs([experiment.experiment_id])) == len(results) + 1
