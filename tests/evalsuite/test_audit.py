"""An audit from its command to the verdict that it writes."""

from __future__ import annotations

import json

import pytest

from evalsuite import cli, store
from evalsuite.analysis.verdict import read_verdict

PROFILE = """
name = "small"
tasks = ["digits/resnet"]
seeds = [0, 1]

[analysis]
permutations = 200
bootstrap = 200

[[calibration]]
protocol = "calibration"
size = [32, 8]

[[quantizer]]
method = "full_precision"

[[quantizer]]
method = "rtn"
range = "mse"
bits = "W4A4"

[[adapter]]
method = ["none", "bn_adapt"]

[[stream]]
protocol = "continual"
images = 30
corruptions = ["speckle_noise", "gaussian_blur", "spatter", "saturate", "clean"]

[[exclude]]
calibration_order = 1
adapter = "bn_adapt"
"""
COPY = '''"""A method that rounds as rtn does."""
from dataclasses import dataclass

from evalsuite.quantizers.rtn import RoundToNearest


@dataclass(frozen=True)
class Copy:
    """Rounds to nearest with ranges of the least squared error."""

    scale: float = 1.0

    def insert(self, model, bits, example):
        return RoundToNearest(range="mse").insert(model, bits, example)

    def calibrate(self, model, images, generator):
        RoundToNearest(range="mse").calibrate(model, images * self.scale, generator)
'''


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """An audit of a copy of its only rival."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "copy.py").write_text(COPY)
    (folder / "small.toml").write_text(PROFILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status = cli.call(["audit", "copy.py:Copy", "--profile", "small.toml", "--device", "cpu", "--workers", "1"])
    return folder, status


def test_a_copy_has_a_verdict_of_nothing_told_apart(audited):
    folder, status = audited
    (run,) = (folder / "runs").glob("audit-copy*")
    verdict = read_verdict(run)
    assert status == 0
    assert verdict.reached
    assert {check.outcome for check in verdict.conformance} == {"pass", "not applicable"}
    tested = [claim for claim in verdict.claims if claim.question not in ("cost", "engine")]
    assert {claim.question for claim in tested} == {"mean", "worst class", "noise", "calibration", "adaptation"}
    assert {(claim.standing, claim.estimate) for claim in tested} == {("not told apart", 0.0)}
    assert verdict.tasks["digits/resnet"]["data_digest"]
    assert verdict.source_digest
    page = (run / "audit.html").read_text()
    assert "copy.py:Copy" in page
    assert "not told apart" in page


def test_records_of_an_earlier_run_are_taken_where_they_fit(audited, tmp_path, monkeypatch, capsys):
    folder, _ = audited
    (run,) = (folder / "runs").glob("audit-copy*")
    monkeypatch.chdir(folder)
    command = ["audit", "copy.py:Copy", "--profile", "small.toml", "--device", "cpu", "--baselines", str(run)]
    gates = ["--fail-if", "worse > 0", "--fail-if", "error > 0.1"]
    out = tmp_path / "again"
    assert cli.call([*command, "--out", str(out), *gates, "--json"]) == 1
    assert store.load(out).study["baselines"]["trials"] == len(store.load(run).trials)
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    assert [gate["failed"] for gate in answer["verdict"]["gates"]] == [False, True]
    assert answer["verdict"] == read_verdict(out).model_dump(mode="json")
    assert answer["page"] == str(out / "audit.html")
    study = json.loads((run / "study.json").read_text())
    (changed := tmp_path / "changed").mkdir()
    store.write_study(changed, study | {"versions": study["versions"] | {"torch": "1.0"}})
    store.write_trials(changed, store.load(run).trials.to_dict("records"))
    assert cli.call([*command[:-1], str(changed)]) == 2
    assert "torch 1.0, here" in capsys.readouterr().err
    store.write_study(changed, study)
    assert cli.call([*command[:-1], str(changed), "--out", str(tmp_path / "none")]) == 2
    assert "holds none of the" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_network_that_comes_quantized_is_audited_at_the_bits_it_is_said_to_have(
    audited, tmp_path, monkeypatch, capsys
):
    folder, _ = audited
    (run,) = (folder / "runs").glob("audit-copy*")
    monkeypatch.chdir(folder)
    (folder / "net.py").write_text(
        "from evalsuite.running.task_data import task_model\nmodule = task_model('digits/resnet', None).eval()\n"
    )
    command = ["audit", "net.py:module", "--profile", "small.toml", "--device", "cpu", "--baselines", str(run)]
    assert cli.call([*command, "--bits", "W4A4", "--workers", "1", "--out", str(tmp_path / "net")]) == 0
    assert "running the code of net.py" in capsys.readouterr().err
    verdict = read_verdict(tmp_path / "net")
    assert verdict.left_out
    assert verdict.target_label == "net.py:module"
    assert {(claim.rival, claim.condition.bits) for claim in verdict.claims} == {("rtn", "W4A4")}
    assert not [claim for claim in verdict.claims if claim.question == "calibration"]
    assert {claim.standing for claim in verdict.claims if claim.question == "mean"} <= {"better", "not told apart"}
    (worst,) = [claim for claim in verdict.claims if claim.question == "worst class"]
    errors = store.load(tmp_path / "net").trials.query("quantizer == 'full_precision' and adapter == 'none'")["error"]
    (mean,) = [claim for claim in verdict.claims if claim.question == "mean"]
    assert mean.target_value == pytest.approx(errors.mean())  # it is the full-precision network, whatever its label
    assert worst.target_value >= mean.target_value
