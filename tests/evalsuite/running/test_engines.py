"""A study with engines, in one run that all tests look at, and its networks exported from there."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest
from _dummies.plugins import TASK, StripesTask
from _dummies.studies import execute, tiny

from evalsuite import cli, quantize, store
from evalsuite.analysis import analyse
from evalsuite.analysis.engine_gaps import ENGINE_GAP_COLUMNS
from evalsuite.errors import RequestError
from evalsuite.quantization.saving import save
from evalsuite.running.kept_models import network_of, saved_network
from evalsuite.running.task_data import normalise
from evalsuite.study.trials import expand

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
STREAM = {"protocol": "continual", "images": 24, "batch_size": 7, "severity": 1, "corruptions": ["clean", "contrast"]}
QUANTIZERS = [
    {"method": "rtn", "bits": "W4A4", "first_last_bits": 4, "engine": ["onnxruntime", "openvino"]},
    {"method": "rtn", "bits": "MXFP8", "engine": "onnxruntime"},
    {"method": "rtn", "bits": "FP8-E5M2", "engine": ["onnxruntime", "openvino"]},
]


def study(**changes):
    changes = {"quantizer": QUANTIZERS, "adapter": [{"method": ["none", "t3a"]}], "stream": [STREAM]} | changes
    return tiny(**changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    execute(study(), folder)
    return store.load(folder)


def rows(run, **wanted):
    trials = run.trials
    for column, value in wanted.items():
        trials = trials[trials[column] == value]
    return trials


def predictions(run, row):
    table = run.records_of(row["trial"]).to_pandas().sort_values(["domain", "position"])
    return table["prediction"].to_numpy()


def test_an_engine_is_a_trial_beside_its_simulation(run):
    (engine,) = rows(run, quantizer="rtn", bits="W4A4", engine="onnxruntime", adapter="none").to_dict("records")
    (simulated,) = rows(run, trial=engine["simulation"]).to_dict("records")  # added, though not asked for
    assert (engine["status"], engine["reason"], simulated["engine"]) == ("done", "", "simulated")
    assert engine["quantizer_label"] == f"{simulated['quantizer_label']} on onnxruntime"
    assert engine["graph_bytes"] > 0
    assert 0 < engine["forward_seconds"] <= engine["adapt_seconds"]
    same = predictions(run, engine) == predictions(run, simulated)
    assert same.mean() >= 0.95
    assert engine["trial"] != simulated["trial"]
    models = store.read_plan(run.folder, ("trial", store.MODEL))
    assert len({row[store.MODEL] for row in models if row["trial"] in (engine["trial"], simulated["trial"])}) == 1


def test_what_an_engine_cannot_do_is_a_refused_row_with_the_reason(run):
    reasons = {}
    for row in rows(run, status="refused").to_dict("records"):
        reasons[row["bits"], row["engine"], row["adapter"]] = row["reason"]
    assert "this network runs in onnxruntime" in reasons["W4A4", "onnxruntime", "t3a"]
    assert "MXFP8, a number format, which QuantizeLinear cannot say" in reasons["MXFP8", "onnxruntime", "none"]
    if not HAS_OPENVINO:
        assert set(rows(run, engine="openvino")["reason_code"]) == {"not_installed"}  # so that it is tried again
        assert "pip install 'evalsuite[openvino]'" in reasons["W4A4", "openvino", "none"]
    assert set(rows(run, engine="simulated", adapter="none")["status"]) == {"done"}


def test_eight_bit_floats_are_computed_or_refused_in_a_line(run):
    found = rows(run, bits="FP8-E5M2", adapter="none")
    (simulated,) = found[found["engine"] == "simulated"].to_dict("records")
    for row in found[found["engine"] != "simulated"].to_dict("records"):
        if row["status"] == "done":
            assert (predictions(run, row) == predictions(run, simulated)).mean() >= 0.9
        else:  # OpenVINO before it knew them, or none
            assert (row["engine"], row["status"]) == ("openvino", "refused")
            assert "openvino" in row["reason"]
            assert "\n" not in row["reason"]


@pytest.mark.skipif(not HAS_OPENVINO, reason="the package openvino is not installed")
def test_openvino_computes_what_is_simulated(run):
    (engine,) = rows(run, engine="openvino", bits="W4A4", adapter="none").to_dict("records")
    (simulated,) = rows(run, trial=engine["simulation"]).to_dict("records")
    assert engine["status"] == "done"
    assert (predictions(run, engine) == predictions(run, simulated)).mean() >= 0.95


def test_engines_change_no_identity_and_no_network_of_others():
    def trials(**quantizer):
        of = study(quantizer=[{"method": "rtn", "bits": "W4A4", **quantizer}], adapter=[{"method": "none"}])
        return expand(of, dict.fromkeys(of.tasks, ""))

    plain, said = trials(), trials(engine="simulated")
    assert [each.identity for each in plain] == [each.identity for each in said]
    assert [each.settings() for each in plain] == [each.settings() for each in said]
    both = trials(engine=["simulated", "onnxruntime"])
    assert {each.identity for each in plain} < {each.identity for each in both}
    assert {each.quantization for each in plain} == {each.quantization for each in both}
    assert [each.identity for each in trials(engine="onnxruntime")][1:] == [each.identity for each in plain]


@pytest.mark.parametrize(
    ("quantizer", "named"),
    [
        ({"method": "rtn", "bits": "W4A4", "engine": "onnxruntme"}, "did you mean 'onnxruntime'"),
        ({"method": "full_precision", "engine": "onnxruntime"}, "takes no engine"),
    ],
)
def test_an_engine_that_cannot_be_is_refused_when_the_study_is_read(quantizer, named):
    with pytest.raises(RequestError, match=named):
        study(quantizer=[quantizer])


def test_the_gap_is_a_table(run):
    found = analyse(run)
    pairs = found.comparisons[found.comparisons["factor"] == "quantizer"]
    mixed = pairs["a"].str.contains(" on ") != pairs["b"].str.contains(" on ")
    assert set(pairs.loc[mixed, "b"]) == {"full precision"}  # quantizers are compared on one engine
    table = found.estimates["engine_gaps"]
    assert tuple(table.columns) == ENGINE_GAP_COLUMNS
    table = table[table["quantizer_label"].str.contains("W4A4")]
    own = table[(table["engine"] == "onnxruntime") & (table["adapter_label"] == "none")]
    assert own["domain"].tolist() == ["", "clean", "contrast"]
    (engine,) = rows(run, quantizer="rtn", bits="W4A4", engine="onnxruntime", adapter="none").to_dict("records")
    (simulated,) = rows(run, trial=engine["simulation"]).to_dict("records")
    different = predictions(run, engine) != predictions(run, simulated)
    assert own["flips"].iloc[0] == pytest.approx(different.mean())
    assert own["flips"].iloc[1:].mean() == pytest.approx(different.mean())
    assert own["change"].iloc[0] == pytest.approx(engine["error"] - simulated["error"])
    assert ((own["flips_low"] <= own["flips"]) & (own["flips"] <= own["flips_high"])).all()
    assert own["milliseconds"].iloc[0] == pytest.approx(1000 * engine["forward_seconds"] / engine["images"])
    assert own["latency_ms"].iloc[0] == engine["latency_ms"] > 0
    assert own["float_latency_ms"].iloc[0] == engine["float_latency_ms"] > 0
    assert own["latency_ratio"].iloc[0] == engine["latency_ratio"] > 0
    assert own["class_change_p_holm"].notna().tolist() == [True, False, False]


def test_a_trials_network_is_exported_from_its_run(run, tmp_path, capsys):
    (trial,) = rows(run, engine="onnxruntime", bits="W4A4", adapter="none")["trial"]
    assert cli.call(["export", str(run.folder / trial[:10]), str(tmp_path / "net.onnx")]) == 0
    assert "net.encodings" in capsys.readouterr().out
    session = importlib.import_module("onnxruntime").InferenceSession(tmp_path / "net.onnx")
    data = StripesTask().data(None)
    records = run.records_of(trial).to_pandas()
    clean = records[records["severity"] == 0]
    (logits,) = session.run(None, {"images": normalise(data.test_images[clean["image"].to_numpy()], data).numpy()})
    assert np.array_equal(logits.argmax(1), clean["prediction"])


def test_a_network_that_the_run_no_longer_keeps_is_quantized_again(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("models"))
    (trial,) = rows(run, engine="onnxruntime", bits="W4A4", adapter="none")["trial"]
    again, _ = network_of(folder / trial)
    before = {name: value.clone() for name, value in again.state_dict().items()}
    models = {row["trial"]: row[store.MODEL] for row in store.read_plan(run.folder, ("trial", store.MODEL))}
    kept, _ = network_of(run.folder / ".work" / "models" / f"{models[trial]}.safetensors")
    assert all(value.equal(before[name]) for name, value in kept.state_dict().items())


def test_a_saved_network_fills_its_tasks(tmp_path):
    data = StripesTask().data(None)
    network = quantize(StripesTask().model(None).eval(), normalise(data.pool_images, data), method="rtn", bits="W4A8")
    save(network, tmp_path / "net.safetensors")
    filled, image = saved_network(tmp_path / "net.safetensors", TASK)
    assert all(value.equal(filled.state_dict()[name]) for name, value in network.state_dict().items())
    assert image.shape == (1, 3, 32, 32)
    assert cli.call(["export", str(tmp_path / "none.safetensors"), str(tmp_path / "out.onnx"), "--task", TASK]) == 2


def test_what_cannot_be_exported_is_refused_in_a_line(run, tmp_path, capsys):
    out = tmp_path / "out.onnx"
    (format_trial,) = rows(run, engine="onnxruntime", bits="MXFP8", adapter="none")["trial"]
    (float_trial,) = rows(run, bits="FP32", adapter="none")["trial"]
    for name, reason in (
        (run.folder / format_trial, "rounds to MXFP8, a number format, which QuantizeLinear cannot say"),
        (run.folder / float_trial, "has no quantized layer"),
        (run.folder / "0000000000", "begins so; expected RUN/TRIAL"),
        (tmp_path / format_trial, "is in no run's folder"),
        (run.folder, "is a whole run: expected one of its networks"),
    ):
        assert cli.call(["export", str(name), str(out)]) == 2
        said = capsys.readouterr().err
        assert reason in said
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
